"""What stands between the tags of a leaf of an XML property list, as a value."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from ostiary.formats.base64 import decode_strict
from ostiary.formats.plist_rules import (
    LARGEST_INTEGER,
    SMALLEST_INTEGER,
    NotAPropertyList,
    PlistValue,
)

BLANK: Final = " \t\r\n"
_INTEGER: Final = re.compile(r"[ \t\r\n]*[+-]?[0-9]{1,20}[ \t\r\n]*|0x[0-9a-fA-F]{1,16}")
_REAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_LONGEST_NUMBER: Final = 400  # a double written out in full has some 330 digits
_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z", re.ASCII)


def _read_data(text: str) -> bytes:
    return decode_strict(text, whitespace=True)


def _read_integer(text: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise NotAPropertyList("an integer is not a number")
    value = int(text, 16 if text.startswith("0x") else 10)
    if not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        raise NotAPropertyList("an integer has more than 64 bits")
    return value


def _read_real(text: str) -> float:
    digits = text.strip(BLANK)
    if len(digits) > _LONGEST_NUMBER or _REAL.fullmatch(digits) is None:
        raise NotAPropertyList("a real is not a number")
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise NotAPropertyList("a real is too large")
    return value


def _read_date(text: str) -> datetime:
    parts = _DATE.fullmatch(text)
    if parts is None:
        raise NotAPropertyList("a date is not of the form 2030-01-31T12:00:00Z")
    try:
        year, month, day, hour, minute, second = map(int, parts.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise NotAPropertyList("a date names a day or hour that does not exist") from None


def _read_true(text: str) -> bool:
    _expect_blank(text)
    return True


def _read_false(text: str) -> bool:
    _expect_blank(text)
    return False


def _expect_blank(text: str) -> None:
    if text.strip(BLANK):
        raise NotAPropertyList("a boolean holds text")


CONVERT: Final[Mapping[str, Callable[[str], PlistValue]]] = {
    "string": str,
    "data": _read_data,
    "integer": _read_integer,
    "real": _read_real,
    "date": _read_date,
    "true": _read_true,
    "false": _read_false,
}
"""By the name of the element. Each takes the text and raises `NotAPropertyList` or `NotBase64`."""
