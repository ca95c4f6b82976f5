"""Property lists: bytes to Fields, XML or binary, strict and bounded; and a value to XML bytes."""

from typing import Final

from ostiary.formats.fields import FieldHasWrongType, FieldMissing, Fields
from ostiary.formats.plist_binary import MAGIC, decode_binary
from ostiary.formats.plist_plain import decode_plain
from ostiary.formats.plist_rules import (
    Limits,
    NestedTooDeep,
    NotAPropertyList,
    NotEncodable,
    PlistValue,
    PropertyListTooLarge,
    RootIsNotADictionary,
)
from ostiary.formats.plist_writer import encode
from ostiary.formats.plist_xml import decode_xml

__all__ = [
    "REPORT_LIMITS",
    "FieldHasWrongType",
    "FieldMissing",
    "Fields",
    "Limits",
    "NestedTooDeep",
    "NotAPropertyList",
    "NotEncodable",
    "PlistValue",
    "PropertyListTooLarge",
    "RootIsNotADictionary",
    "encode",
    "read_dict",
]

REPORT_LIMITS: Final = Limits()
"""Wide enough for the largest result report. (check-in-and-commands.md 3.9)"""


def read_dict(body: bytes, limits: Limits = REPORT_LIMITS) -> Fields:
    """The dictionary at the root of an XML or binary property list.

    Whatever is wrong with `body`, one of these is raised and nothing else:

    Raises:
        NotAPropertyList: malformed, another encoding than UTF-8, entities, bad numbers or dates,
            repeated keys, unknown elements; RootIsNotADictionary and NestedTooDeep are kinds of it.
        NotBase64: a data element whose text is not base64.
        PropertyListTooLarge: beyond `limits`.

    Source: check-in-and-commands.md 0, parser traps; users.md 5.4 items 16 and 17.
    """
    if len(body) > limits.max_bytes:
        raise PropertyListTooLarge(size_bytes=len(body), limit_bytes=limits.max_bytes)
    if body.startswith(MAGIC):
        root = decode_binary(body, limits)
    elif (plain := decode_plain(body, limits)) is not None:
        return Fields(plain)
    else:
        root = decode_xml(body, limits)
    if not isinstance(root, dict):
        raise RootIsNotADictionary
    return Fields(root)
