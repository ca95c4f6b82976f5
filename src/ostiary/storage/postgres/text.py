"""Text as PostgreSQL can hold it: everything but U+0000, which a binary property list may well bring."""

from collections.abc import Iterable
from typing import Any, Final

_NUL: Final = "\x00"
_MARK: Final = "\ufdd0"  # a noncharacter: it means nothing in any text that people exchange
_ESCAPES: Final = ((_MARK, _MARK + "m"), (_NUL, _MARK + "0"))


def escape(text: str) -> str:
    """The text without U+0000; nearly always the text itself."""
    if _NUL in text or _MARK in text:
        for plain, escaped in _ESCAPES:
            text = text.replace(plain, escaped)
    return text


def unescape(text: str) -> str:
    """What `escape` was given."""
    if _MARK in text:
        for plain, escaped in reversed(_ESCAPES):
            text = text.replace(escaped, plain)
    return text


def unescape_or_none(text: str | None) -> str | None:
    return None if text is None else unescape(text)


def escape_all(values: Iterable[Any]) -> list[Any]:
    """A statement's values, the texts among them escaped."""
    return [
        escape(value) if isinstance(value, str) and (_NUL in value or _MARK in value) else value
        for value in values
    ]
