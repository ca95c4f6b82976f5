"""Typed access to a decoded dictionary, so that nobody upstairs handles a raw dict."""

from collections.abc import KeysView, Mapping
from types import MappingProxyType
from typing import Final, TypeVar, final

from typing_extensions import override

from ostiary.errors import Malformed
from ostiary.formats.plist_rules import PlistValue

_T = TypeVar("_T")


class FieldMissing(Malformed):
    """A field that the message needs is missing."""


class FieldHasWrongType(Malformed):
    """A field of the message has another type than it must have."""


@final
class Fields:
    """One dictionary of a message. Absent is None, never the same as empty.

    Errors name the field (nested ones with a path, `QueryResponses.UDID`) and never show its value.
    """

    __slots__ = ("_path", "_values")

    def __init__(self, values: Mapping[str, PlistValue], path: str = "") -> None:
        self._values: Final = values
        self._path: Final = path

    @override
    def __repr__(self) -> str:
        return f"<Fields: {len(self._values)} keys>"

    @override
    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Fields) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # holds dicts and lists, like any mapping

    def has(self, key: str) -> bool:
        """Whether the sender named this field at all, empty or not."""
        return key in self._values

    def keys(self) -> KeysView[str]:
        """The names of the fields that were sent."""
        return self._values.keys()

    def as_mapping(self) -> Mapping[str, PlistValue]:
        """The whole dictionary, read-only, for redaction and for storing results."""
        return MappingProxyType(dict(self._values))

    def text(self, key: str) -> str:
        """The string under `key`. Raises FieldMissing or FieldHasWrongType."""
        return self._require(key, self.optional_text(key))

    def optional_text(self, key: str) -> str | None:
        """The string under `key`, None if the field is absent. Raises FieldHasWrongType."""
        value = self._values.get(key)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(key, "string")

    def data(self, key: str) -> bytes:
        """The bytes under `key`, possibly none. Raises FieldMissing or FieldHasWrongType."""
        return self._require(key, self.optional_data(key))

    def optional_data(self, key: str) -> bytes | None:
        """The bytes under `key`: None if the field is absent, `b""` if it was sent empty."""
        value = self._values.get(key)
        if value is None or isinstance(value, bytes):
            return value
        raise self._wrong(key, "data")

    def flag(self, key: str, default: bool) -> bool:
        """The boolean under `key`, or `default` if the field is absent."""
        value = self.optional_flag(key)
        return default if value is None else value

    def optional_flag(self, key: str) -> bool | None:
        """The boolean under `key`, None if the field is absent. Raises FieldHasWrongType."""
        value = self._values.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise self._wrong(key, "boolean")

    def optional_integer(self, key: str) -> int | None:
        """The integer under `key` (a boolean is none), None if absent. Raises FieldHasWrongType."""
        value = self._values.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self._wrong(key, "integer")

    def optional_dict(self, key: str) -> "Fields | None":
        """The dictionary under `key` as Fields, None if absent. Raises FieldHasWrongType."""
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, Mapping):
            return Fields(value, self._name(key))
        raise self._wrong(key, "dictionary")

    def list_of_dicts(self, key: str) -> "tuple[Fields, ...] | None":
        """The array of dictionaries under `key`, None if absent. Raises FieldHasWrongType."""
        value = self._values.get(key)
        if value is None:
            return None
        expected = "array of dictionaries"
        if not isinstance(value, list):
            raise self._wrong(key, expected)
        found = tuple(
            Fields(item, f"{self._name(key)}[{index}]")
            for index, item in enumerate(value)
            if isinstance(item, Mapping)
        )
        if len(found) != len(value):
            raise self._wrong(key, expected)
        return found

    def optional_texts(self, key: str) -> tuple[str, ...] | None:
        """The array of strings under `key`, None if absent. Raises FieldHasWrongType."""
        value = self._values.get(key)
        if value is None:
            return None
        expected = "array of strings"
        if not isinstance(value, list):
            raise self._wrong(key, expected)
        found = tuple(item for item in value if isinstance(item, str))
        if len(found) != len(value):
            raise self._wrong(key, expected)
        return found

    def _require(self, key: str, value: _T | None) -> _T:
        if value is None:
            raise FieldMissing(field=self._name(key))
        return value

    def _wrong(self, key: str, expected: str) -> FieldHasWrongType:
        return FieldHasWrongType(field=self._name(key), expected=expected)

    def _name(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key
