"""A small bounded reader for BER and DER: where an element's contents begin and end, and no more."""

from typing import Final, NamedTuple

from ostiary.errors import Malformed

INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31
CONSTRUCTED: Final = 0x20

_LONG_LENGTH: Final = 0x80  # alone: the length is indefinite
_LONG_TAG: Final = 0x1F
_MORE: Final = 0x80
_MOST_LENGTH_BYTES: Final = 4
_MOST_TAG_BYTES: Final = 4
_END_OF_CONTENTS: Final = b"\0\0"


class NotDer(Malformed):
    """The bytes are not the ASN.1 structure they should be."""


class IndefiniteLength(NotDer):
    """An element has no length of its own; `to_definite` gives it one."""


class Element(NamedTuple):
    """One element inside a buffer: `buffer[begin:start]` is its header, `buffer[start:stop]` its contents."""

    tag: int  # all identifier bytes, as a big-endian number: 0x30, 0xA0, 0x7F21
    begin: int
    start: int
    stop: int  # also where the next element begins


def read_element(buffer: bytes, at: int, end: int) -> Element:
    """The element that begins at `at` and lies wholly before `end`.

    Raises:
        IndefiniteLength: it is in BER's indefinite form.
        NotDer: it is cut short, or its tag or length is longer than anything real.
    """
    try:
        tag = buffer[at]
        start = at + 2
        if tag & _LONG_TAG == _LONG_TAG:
            tag, start = _long_tag(buffer, at)
        length = buffer[start - 1]
        if length >= _LONG_LENGTH:
            count = length - _LONG_LENGTH
            if not count:
                raise IndefiniteLength
            if count > _MOST_LENGTH_BYTES:
                raise NotDer("a length has too many bytes")
            length = int.from_bytes(buffer[start : start + count])
            start += count
    except IndexError:
        raise NotDer("an element is cut short") from None
    stop = start + length
    if stop > end:
        raise NotDer("an element is cut short")
    # Half the cost of Element(...), and there are forty of them in a signature.
    return tuple.__new__(Element, (tag, at, start, stop))


def expect(buffer: bytes, at: int, end: int, tag: int) -> Element:
    """The element at `at`, which must have `tag`. Raises NotDer."""
    element = read_element(buffer, at, end)
    if element.tag != tag:
        raise NotDer("an element has another tag than it must have")
    return element


def children(buffer: bytes, start: int, stop: int, *, at_most: int) -> list[Element]:
    """The elements between `start` and `stop`, one after the other. Raises NotDer if there are more than `at_most`."""
    found: list[Element] = []
    while start < stop:
        if len(found) == at_most:
            raise NotDer("a structure has too many elements")
        element = read_element(buffer, start, stop)
        found.append(element)
        start = element[3]
    return found


def encode_element(tag: int, contents: bytes) -> bytes:
    """One DER element with a definite length. `tag` is a number as in Element."""
    identifier = tag.to_bytes((tag.bit_length() + 7) // 8 or 1)
    length = len(contents)
    if length < _LONG_LENGTH:
        return identifier + bytes((length,)) + contents
    digits = length.to_bytes((length.bit_length() + 7) // 8)
    return identifier + bytes((_LONG_LENGTH | len(digits),)) + digits + contents


def to_definite(buffer: bytes, *, max_depth: int = 24, max_elements: int = 4096) -> bytes:
    """The first element of `buffer` with definite lengths throughout; nothing may follow it.

    Parts that hold no indefinite length keep their exact bytes, because signatures cover them.

    Raises:
        NotDer: malformed, deeper than `max_depth`, more than `max_elements`, or bytes are left over.
    """
    rewriting = _Rewriting(buffer, max_elements)
    rewritten, stop = rewriting.element(0, len(buffer), max_depth)
    if stop != len(buffer):
        raise NotDer("bytes follow the structure")
    return rewritten


class _Rewriting:
    """One buffer on its way to definite lengths."""

    __slots__ = ("_buffer", "_left")

    def __init__(self, buffer: bytes, max_elements: int) -> None:
        self._buffer = buffer
        self._left = max_elements

    def element(self, at: int, end: int, depth: int) -> tuple[bytes, int]:
        """The rewritten element that begins at `at`, and where the next one begins."""
        self._left -= 1
        if self._left < 0 or depth < 0:
            raise NotDer("a structure has too many elements or levels")
        try:
            found = read_element(self._buffer, at, end)
        except IndefiniteLength:
            return self._indefinite(at, end, depth)
        if not self._buffer[at] & CONSTRUCTED:
            return self._buffer[at : found.stop], found.stop
        parts: list[bytes] = []
        inside = found.start
        while inside < found.stop:
            part, inside = self.element(inside, found.stop, depth - 1)
            parts.append(part)
        contents = b"".join(parts)
        if contents == self._buffer[found.start : found.stop]:
            return self._buffer[at : found.stop], found.stop
        return encode_element(found.tag, contents), found.stop

    def _indefinite(self, at: int, end: int, depth: int) -> tuple[bytes, int]:
        buffer = self._buffer
        if not buffer[at] & CONSTRUCTED:
            raise NotDer("a primitive element has no length")
        tag, inside = buffer[at], at + 2
        if tag & _LONG_TAG == _LONG_TAG:
            tag, inside = _long_tag(buffer, at)
        parts: list[bytes] = []
        while buffer[inside : inside + 2] != _END_OF_CONTENTS:
            part, inside = self.element(inside, end, depth - 1)
            parts.append(part)
        if inside + 2 > end:
            raise NotDer("an element is cut short")
        return encode_element(tag, b"".join(parts)), inside + 2


def _long_tag(buffer: bytes, at: int) -> tuple[int, int]:
    """A tag of several bytes, and the position just after its first length byte."""
    for last in range(at + 1, at + _MOST_TAG_BYTES):
        if not buffer[last] & _MORE:
            return int.from_bytes(buffer[at : last + 1]), last + 2
    raise NotDer("a tag has too many bytes")
