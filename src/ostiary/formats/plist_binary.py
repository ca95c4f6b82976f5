"""The binary form of a property list ("bplist00"), read within bounds."""

import math
import struct
from datetime import UTC, datetime, timedelta
from typing import Final

from ostiary.formats.plist_rules import (
    FORBIDDEN_CHARACTER,
    LARGEST_INTEGER,
    SMALLEST_INTEGER,
    Limits,
    NestedTooDeep,
    NotAPropertyList,
    PlistValue,
    PropertyListTooLarge,
)

MAGIC: Final = b"bplist00"
_TRAILER: Final = struct.Struct(">6xBBQQQ")
_REALS: Final = {2: struct.Struct(">f"), 3: struct.Struct(">d")}
_SIZES: Final = range(1, 8 + 1)
_EPOCH: Final = datetime(2001, 1, 1, tzinfo=UTC)
_LENGTH_FOLLOWS: Final = 0xF
_LONGEST_INTEGER: Final = 4  # 2**4 bytes
_LONGEST_LENGTH: Final = 3  # 2**3 bytes


def decode_binary(document: bytes, limits: Limits) -> PlistValue:
    """The value at the root of a binary property list.

    Raises:
        NotAPropertyList: offsets, counts, types or texts are wrong, or an object contains itself.
        PropertyListTooLarge: more values, or more bytes once shared objects are written out, than `limits` allows.
    """
    return _Reading(document, limits).root()


class _Reading:
    """One document while it is being read."""

    __slots__ = ("_bytes_left", "_document", "_limits", "_objects_left", "_offsets", "_open", "_ref_size", "_top")  # fmt: skip

    def __init__(self, document: bytes, limits: Limits) -> None:
        end = len(document) - _TRAILER.size
        if end < len(MAGIC) or not document.startswith(MAGIC):
            raise NotAPropertyList("the binary property list is cut short")
        offset_size, ref_size, count, top, table = _TRAILER.unpack_from(document, end)
        if count > limits.max_objects:
            raise PropertyListTooLarge("too many values")
        if offset_size not in _SIZES or ref_size not in _SIZES or top >= count:
            raise NotAPropertyList("the trailer of the binary property list is wrong")
        if table < len(MAGIC) or table + count * offset_size > end:
            raise NotAPropertyList("the table of objects lies outside of the document")
        cells = document[table : table + count * offset_size]
        self._offsets = [
            int.from_bytes(cells[at : at + offset_size]) for at in range(0, len(cells), offset_size)
        ]
        if not all(len(MAGIC) <= offset < table for offset in self._offsets):
            raise NotAPropertyList("an object lies outside of the document")
        self._document = document[:table]  # what an object may reach
        self._ref_size = ref_size
        self._top = top
        self._limits = limits
        self._objects_left = limits.max_objects
        self._bytes_left = limits.max_bytes
        self._open: set[int] = set()  # containers on the way to here

    def root(self) -> PlistValue:
        return self._object(self._top)

    def _object(self, number: int) -> PlistValue:
        self._objects_left -= 1
        if self._objects_left < 0:
            raise PropertyListTooLarge("too many values")
        at = self._offsets[number]
        kind, low = divmod(self._document[at], 16)
        match kind:
            case 0x0:
                return self._boolean(low)
            case 0x1:
                return self._integer(at, low)
            case 0x2:
                return self._real(at, low)
            case 0x3:
                return self._date(at, low)
            case 0x4:
                return self._run(*self._length(at, low), 1)
            case 0x5:
                return self._text(self._run(*self._length(at, low), 1), "ascii")
            case 0x6:
                return self._text(self._run(*self._length(at, low), 2), "utf-16-be")
            case 0xA | 0xD:
                return self._container(number, at, kind, low)
            case _:  # null, UID, set and whatever else: no message of Apple's has them
                raise NotAPropertyList("the binary property list has a value of an unknown type")

    def _boolean(self, low: int) -> bool:
        if low not in (8, 9):
            raise NotAPropertyList("the binary property list has a value of an unknown type")
        return low == 9  # noqa: PLR2004  # 0x08 is false, 0x09 is true

    def _integer(self, at: int, low: int) -> int:
        if low > _LONGEST_INTEGER:
            raise NotAPropertyList("an integer has an impossible size")
        # Up to four bytes are unsigned, eight and sixteen are signed: so Apple writes them.
        value = int.from_bytes(self._slice(at + 1, 1 << low), signed=low >= 3)  # noqa: PLR2004  # 2**3 bytes
        if not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
            raise NotAPropertyList("an integer has more than 64 bits")
        return value

    def _real(self, at: int, low: int) -> float:
        if (layout := _REALS.get(low)) is None:
            raise NotAPropertyList("a real has an impossible size")
        value: float = layout.unpack(self._slice(at + 1, layout.size))[0]
        if not math.isfinite(value):
            raise NotAPropertyList("a real is not a number")
        return value

    def _date(self, at: int, low: int) -> datetime:
        if low != 3:  # noqa: PLR2004  # 2**3 bytes
            raise NotAPropertyList("a date has an impossible size")
        try:
            return _EPOCH + timedelta(seconds=self._real(at, low))
        except OverflowError:
            raise NotAPropertyList("a date lies outside of the calendar") from None

    def _length(self, at: int, low: int) -> tuple[int, int]:
        """Where the contents of the object at `at` begin, and how many items they are."""
        if low != _LENGTH_FOLLOWS:
            return at + 1, low
        kind, size = divmod(self._slice(at + 1, 1)[0], 16)
        if kind != 1 or size > _LONGEST_LENGTH:
            raise NotAPropertyList("the length of an object is wrong")
        return at + 2 + (1 << size), int.from_bytes(self._slice(at + 2, 1 << size))

    def _run(self, start: int, count: int, width: int) -> bytes:
        run = self._slice(start, count * width)
        self._bytes_left -= len(run)
        if self._bytes_left < 0:
            raise PropertyListTooLarge("shared objects add up to too many bytes")
        return run

    def _slice(self, start: int, size: int) -> bytes:
        if start + size > len(self._document):
            raise NotAPropertyList("an object is cut short")
        return self._document[start : start + size]

    def _text(self, encoded: bytes, encoding: str) -> str:
        try:
            text = encoded.decode(encoding)
        except UnicodeDecodeError:
            raise NotAPropertyList("a text is not valid in its encoding") from None
        if FORBIDDEN_CHARACTER.search(text):
            raise NotAPropertyList("a text contains a character that XML cannot carry")
        return text

    def _container(self, number: int, at: int, kind: int, low: int) -> PlistValue:
        if number in self._open:
            raise NotAPropertyList("an object contains itself")
        if len(self._open) >= self._limits.max_depth:
            raise NestedTooDeep
        start, count = self._length(at, low)
        self._open.add(number)
        if kind == 0xA:  # noqa: PLR2004  # the mark of an array
            value: PlistValue = [self._object(ref) for ref in self._refs(start, count)]
        else:
            refs = self._refs(start, 2 * count)
            value = self._dictionary(refs[:count], refs[count:])
        self._open.discard(number)
        return value

    def _refs(self, start: int, count: int) -> list[int]:
        size = self._ref_size
        cells = self._slice(start, count * size)
        refs = [int.from_bytes(cells[at : at + size]) for at in range(0, len(cells), size)]
        if refs and max(refs) >= len(self._offsets):
            raise NotAPropertyList("an object refers to one that does not exist")
        return refs

    def _dictionary(self, keys: list[int], values: list[int]) -> dict[str, PlistValue]:
        found: dict[str, PlistValue] = {}
        for key_ref, value_ref in zip(keys, values, strict=True):
            key = self._object(key_ref)
            if not isinstance(key, str):
                raise NotAPropertyList("a key is not a string")
            if key in found:
                raise NotAPropertyList("a dictionary names one key twice")
            found[key] = self._object(value_ref)
        return found
