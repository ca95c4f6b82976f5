"""Plainly spelled XML property lists, as devices write theirs, read without an XML parser.

A parser calls back three times for each element; one regular expression takes the element whole, in a third of the time
(docs/decisions/0017). Whatever is not spelled exactly as Apple's writers spell it is left to `plist_xml`: what is
read here, that reads alike, and what that refuses is never read here. A property test holds the two together.
"""

import re
from typing import Final

from ostiary.formats.plist_leaves import CONVERT
from ostiary.formats.plist_rules import Limits, PlistValue

LARGEST: Final = 262_144
"""Bytes. What turns out to be odd near its end has been read in vain."""

_PLAIN: Final = bytes({*range(0x20, 0x7F), *b"\t\n"} - set(b"&"))
"""ASCII without references, and without the carriage returns that XML would turn into line feeds."""
_HEAD: Final = re.compile(
    r'(?:<\?xml version="1\.0" encoding="(?:UTF|utf)-8"\?>[ \t\n]*)?'
    r'(?:<!DOCTYPE plist PUBLIC "-//Apple(?: Computer)?//DTD PLIST 1\.0//EN"'
    r' "https?://www\.apple\.com/DTDs/PropertyList-1\.0\.dtd">[ \t\n]*)?'
    r'<plist version="1\.0">[ \t\n]*<dict>'
)
_ELEMENT: Final = re.compile(
    r"[ \t\n]*(?:<key>([^<]*)</key>[ \t\n]*)?<"
    r"(?:(string|data|integer|real|date)>([^<]*)</\2>|(true|false)/>|(dict|array)>|/(dict|array)>)"
)
_TAIL: Final = re.compile(r"[ \t\n]*</plist>[ \t\n]*")

_Container = dict[str, PlistValue] | list[PlistValue]


def decode_plain(document: bytes, limits: Limits) -> dict[str, PlistValue] | None:
    """The dictionary at the root, or None if the document is not of this form, which says nothing against it.

    Raises:
        NotAPropertyList: a number or date is none.
        NotBase64: a data element holds something else than base64.
    """
    # "]]>" has no place in the text of an XML document.
    if len(document) > LARGEST or document.translate(None, _PLAIN) or b"]]>" in document:
        return None
    text = document.decode("ascii")
    if (head := _HEAD.match(text)) is None:
        return None
    root: dict[str, PlistValue] = {}
    end = _read_contents(text, head.end(), root, limits)
    return None if end is None or _TAIL.fullmatch(text, end) is None else root


def _read_contents(
    text: str, place: int, root: dict[str, PlistValue], limits: Limits
) -> int | None:
    """Fill the root. The place behind its end, or None for anything that is not plain and right."""
    container: _Container = root
    outer: list[_Container] = []
    left, match = limits.max_objects - 1, _ELEMENT.match
    while (element := match(text, place)) is not None:
        key, leaf, content, word, opened, closed = element.groups()
        place = element.end()
        if closed is not None:
            if key is not None or closed != ("dict" if type(container) is dict else "array"):
                return None
            if not outer:
                return place if left >= 0 else None
            container = outer.pop()
            continue
        if opened is not None:
            inner: _Container = {} if opened == "dict" else []
            outer.append(container)
            if len(outer) >= limits.max_depth or not _put(container, key, inner):
                return None
            container = inner
        elif not _put(container, key, word == "true" if leaf is None else CONVERT[leaf](content)):
            return None
        left -= 1 if key is None else 2
    return None


def _put(container: _Container, key: str | None, value: PlistValue) -> bool:
    """Whether the value has a place there: under a new key in a dictionary, without one in an array."""
    if isinstance(container, list):
        if key is None:
            container.append(value)
        return key is None
    if key is None or key in container:
        return False
    container[key] = value
    return True
