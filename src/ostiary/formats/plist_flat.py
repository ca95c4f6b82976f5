"""Flat property lists, as devices write most of their messages: one dictionary of leaves, read with two expressions.

An XML parser calls back three times for each element; this takes a third of its time (bench/README.md). Whatever is not
spelled exactly as Apple's writers spell it is left to `plist_xml`: what is read here, that reads alike, and what
that refuses is never read here. A property test holds the two together.
"""

import re
from typing import Final

from ostiary.formats.plist_leaves import CONVERT
from ostiary.formats.plist_rules import Limits, PlistValue

LARGEST: Final = 16_384
"""Bytes. Larger documents are reports, and nested."""

_PLAIN: Final = bytes({*range(0x20, 0x7F), *b"\t\n"} - set(b"&"))
"""ASCII without references, and without the carriage returns that XML would turn into line feeds."""
_HEAD: Final = re.compile(
    r'(?:<\?xml version="1\.0" encoding="(?:UTF|utf)-8"\?>[ \t\n]*)?'
    r'(?:<!DOCTYPE plist PUBLIC "-//Apple(?: Computer)?//DTD PLIST 1\.0//EN"'
    r' "https?://www\.apple\.com/DTDs/PropertyList-1\.0\.dtd">[ \t\n]*)?'
    r'<plist version="1\.0">[ \t\n]*<dict>'
)
_PAIR: Final = re.compile(
    r"[ \t\n]*<key>([^<]*)</key>[ \t\n]*"
    r"<(?:(string|data|integer|real|date)>([^<]*)</\2>|(true|false)/>)"
)
_TAIL: Final = re.compile(r"[ \t\n]*</dict>[ \t\n]*</plist>[ \t\n]*")


def decode_flat(document: bytes, limits: Limits) -> dict[str, PlistValue] | None:
    """The dictionary, or None if the document is not of this form, which says nothing against it.

    Raises:
        NotAPropertyList: a number or date is none.
        NotBase64: a data element holds something else than base64.
    """
    if len(document) > LARGEST or document.count(b"<dict>") != 1 or limits.max_depth < 1:
        return None
    # "]]>" has no place in the text of an XML document.
    if document.translate(None, _PLAIN) or b"]]>" in document:
        return None
    text = document.decode("ascii")
    if (head := _HEAD.match(text)) is None:
        return None
    found: dict[str, PlistValue] = {}
    place, pairs, match = head.end(), 0, _PAIR.match
    while (pair := match(text, place)) is not None:
        key, tag, value, word = pair.groups()
        found[key] = word == "true" if tag is None else CONVERT[tag](value)
        place = pair.end()
        pairs += 1
    if _TAIL.fullmatch(text, place) is None:
        return None
    # A key that is named twice, or too many values: the full reader has the words for it.
    return found if len(found) == pairs and 2 * pairs < limits.max_objects else None
