"""The XML form of a property list, written: the same value gives the same bytes, whatever order its keys had."""

import binascii
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from ostiary.formats.plist_rules import (
    FORBIDDEN_CHARACTER,
    LARGEST_INTEGER,
    SMALLEST_INTEGER,
    NotEncodable,
    PlistValue,
)

_HEAD: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n'
    '<plist version="1.0">\n'
)
_FOOT: Final = "</plist>\n"
_DEEPEST: Final = 64


def encode(value: Mapping[str, PlistValue]) -> bytes:
    """The XML property list that says `value`, keys sorted, UTF-8, a moment to the second.

    Raises:
        NotEncodable: a character that XML cannot carry, a number out of range, a moment without
            zone, a type that property lists do not have, or nesting deeper than 64.
    """
    return "".join((_HEAD, *_dictionary(value, 0), _FOOT)).encode()


def _element(value: object, depth: int) -> Iterator[str]:
    indent = "\t" * depth
    match value:
        case bool():  # before int, of which it is a kind
            yield f"{indent}<{'true' if value else 'false'}/>\n"
        case str():
            yield f"{indent}<string>{_escaped(value)}</string>\n"
        case bytes():
            yield f"{indent}<data>{binascii.b2a_base64(value, newline=False).decode()}</data>\n"
        case int():
            yield f"{indent}<integer>{_integer(value)}</integer>\n"
        case float():
            yield f"{indent}<real>{_real(value)}</real>\n"
        case datetime():
            yield f"{indent}<date>{_date(value)}</date>\n"
        case Mapping():
            yield from _dictionary(value, depth)
        case Sequence():
            yield from _array(value, depth)
        case _:
            raise NotEncodable("property lists have no such type", type=type(value).__name__)


def _dictionary(value: Mapping[str, PlistValue], depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise NotEncodable("nested too deep")
    if any(not isinstance(key, str) for key in value):
        raise NotEncodable("a key is not a string")
    indent = "\t" * depth
    yield f"{indent}<dict>\n"
    for key in sorted(value):
        yield f"{indent}\t<key>{_escaped(key)}</key>\n"
        yield from _element(value[key], depth + 1)
    yield f"{indent}</dict>\n"


def _array(value: Sequence[PlistValue], depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise NotEncodable("nested too deep")
    indent = "\t" * depth
    yield f"{indent}<array>\n"
    for item in value:
        yield from _element(item, depth + 1)
    yield f"{indent}</array>\n"


def _escaped(text: str) -> str:
    if FORBIDDEN_CHARACTER.search(text):
        raise NotEncodable("a text contains a character that XML cannot carry")
    if "&" in text or "<" in text or ">" in text:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A bare carriage return would reach the reader as a line feed.
    return text.replace("\r", "&#13;") if "\r" in text else text


def _integer(value: int) -> int:
    if not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        raise NotEncodable("an integer has more than 64 bits")
    return int(value)


def _real(value: float) -> str:
    if not math.isfinite(value):
        raise NotEncodable("a real is not a number")
    return repr(float(value))


def _date(value: datetime) -> str:
    if value.tzinfo is None:
        raise NotEncodable("a moment has no time zone")
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        raise NotEncodable("a moment lies outside of the calendar") from None
    return moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z"
