"""Activation Lock bypass codes that we make: raw bytes, what a person types, and what Apple is told when it locks.

Source: activation-lock.md 3.
"""

import hashlib
from typing import Final

from ostiary.errors import Malformed
from ostiary.secret import Secret

RAW_BYTES: Final = 16
ALPHABET: Final = "0123456789ACDEFGHJKLMNPQRTUVWXYZ"
"""By value 0 to 31. B, I, O and S are missing: they look like digits."""
SYMBOLS: Final = 26

_BITS: Final = 5
_LAST_BITS: Final = 3
_GROUPS: Final = (5, 5, 4, 4, 4, 4)
_VALUE_OF: Final = {symbol: value for value, symbol in enumerate(ALPHABET)}
_HASH_SALT: Final = bytes(4)
_HASH_ROUNDS: Final = 50_000
_HASH_BYTES: Final = 32


class UnusableRawCode(Malformed):
    """A bypass code stands for 16 bytes."""


class UnusableBypassCode(Malformed):
    """This is no Activation Lock bypass code."""

    hint = "26 letters and digits, dashes as you like; B, I, O and S never occur: they are 8, 1, 0 and 5."


def encode_bypass_code(raw: Secret) -> Secret:
    """The code that a person types: 31 characters, `3UM43-PUYVY-QYD1-UVCC-HEHJ-FKA4`. (AK-1)

    Raises:
        UnusableRawCode: not 16 bytes.
    """
    number = int.from_bytes(_checked(raw), "big")
    # The last symbol holds the 3 bits that are left, as they are; RFC 4648 would shift them.
    symbols = [ALPHABET[number & (1 << _LAST_BITS) - 1]]
    number >>= _LAST_BITS
    for _ in range(SYMBOLS - 1):
        symbols.append(ALPHABET[number & (1 << _BITS) - 1])
        number >>= _BITS
    text = "".join(reversed(symbols))
    groups: list[str] = []
    for size in _GROUPS:
        groups.append(text[:size])
        text = text[size:]
    return Secret("-".join(groups).encode("ascii"))


def decode_bypass_code(code: Secret) -> Secret:
    """The raw bytes of a code as somebody typed it: small letters, blanks and dashes do not matter. (AK-3)

    Raises:
        UnusableBypassCode: names the character that cannot be, or the count that is wrong. (AK-4)
    """
    try:
        text = code.reveal().decode("utf-8")
    except UnicodeDecodeError:
        raise UnusableBypassCode("the code is not text") from None
    symbols = "".join(text.replace("-", " ").split()).upper()
    for symbol in symbols:
        if symbol not in _VALUE_OF:
            raise UnusableBypassCode(f"{symbol!r} is no character of a bypass code")
    if len(symbols) != SYMBOLS:
        raise UnusableBypassCode(
            f"a bypass code has {SYMBOLS} characters without its dashes, not {len(symbols)}"
        )
    if _VALUE_OF[symbols[-1]] >= 1 << _LAST_BITS:
        raise UnusableBypassCode(f"{symbols[-1]!r} cannot be the last character, which is 0 to 7")
    number = 0
    for symbol in symbols[:-1]:
        number = number << _BITS | _VALUE_OF[symbol]
    number = number << _LAST_BITS | _VALUE_OF[symbols[-1]]
    return Secret(number.to_bytes(RAW_BYTES, "big"))


def escrow_hash(raw: Secret) -> str:
    """What Apple is given as `escrow_key` when it locks a device: hex, small letters; never the code. (AK-1)

    Raises:
        UnusableRawCode: not 16 bytes.
    """
    return hashlib.pbkdf2_hmac("sha256", _checked(raw), _HASH_SALT, _HASH_ROUNDS, _HASH_BYTES).hex()


def _checked(raw: Secret) -> bytes:
    if len(raw) != RAW_BYTES:
        raise UnusableRawCode(size_bytes=len(raw))
    return raw.reveal()
