"""Activation Lock bypass codes: sixteen bytes, as people type them and as Apple keeps them.

Source: activation-lock.md 3.
"""

from hashlib import pbkdf2_hmac
from typing import Final

RAW_BYTES: Final = 16
_ALPHABET: Final = "0123456789ACDEFGHJKLMNPQRTUVWXYZ"
_SYMBOL_BITS: Final = 5
_LAST_BITS: Final = 3
_SYMBOLS: Final = 26
_GROUPS: Final = (5, 5, 4, 4, 4, 4)
_ROUNDS: Final = 50_000


def encode_bypass_code(raw: bytes) -> str:
    """The code with its dashes; the last symbol stands for three bits, not shifted."""
    bits = int.from_bytes(raw, "big")
    last = _ALPHABET[bits & (1 << _LAST_BITS) - 1]
    bits >>= _LAST_BITS
    symbols = last
    for _ in range(_SYMBOLS - 1):
        symbols = _ALPHABET[bits & (1 << _SYMBOL_BITS) - 1] + symbols
        bits >>= _SYMBOL_BITS
    groups, at = [], 0
    for length in _GROUPS:
        groups.append(symbols[at : at + length])
        at += length
    return "-".join(groups)


def decode_bypass_code(code: str) -> bytes | None:
    """The sixteen bytes behind a code, however it is spaced; None: it is none."""
    symbols = code.replace("-", "").replace(" ", "").upper()
    if len(symbols) != _SYMBOLS or any(each not in _ALPHABET for each in symbols):
        return None
    *most, last = (_ALPHABET.index(each) for each in symbols)
    if last >= 1 << _LAST_BITS:
        return None
    bits = 0
    for value in most:
        bits = bits << _SYMBOL_BITS | value
    return (bits << _LAST_BITS | last).to_bytes(RAW_BYTES, "big")


def escrow_hash(raw: bytes) -> str:
    """What a server sends to Apple instead of the code, in lower-case hex."""
    return pbkdf2_hmac("sha256", raw, bytes(4), _ROUNDS, 32).hex()
