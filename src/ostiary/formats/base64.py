"""Base64 as the wire must spell it: one text for each value, and garbage is an error, never emptiness."""

import binascii
from typing import Final

from ostiary.errors import Malformed

_WHITESPACE: Final = b" \t\r\n"


class NotBase64(Malformed):
    """The text is not base64."""


def decode_strict(text: str | bytes, *, whitespace: bool) -> bytes:
    """The bytes that `text` spells, or an error: alphabet, padding and last bits must all be right.

    `whitespace` lets blanks and line ends stand between the characters, as property lists have them.

    Raises:
        NotBase64: anything else than exactly one standard spelling.

    Source: check-in-and-commands.md 0, parser traps (garbage decoded as empty would delete a token).
    """
    try:
        spelled = text.encode("ascii") if isinstance(text, str) else text
        if whitespace:
            spelled = spelled.translate(None, _WHITESPACE)
        decoded = binascii.a2b_base64(spelled)
    except ValueError:  # binascii.Error and UnicodeEncodeError are both of this kind
        raise NotBase64 from None
    # Spelling the result again is the whole check: foreign characters, odd padding and stray last bits all differ.
    if binascii.b2a_base64(decoded, newline=False) != spelled:
        raise NotBase64
    return decoded
