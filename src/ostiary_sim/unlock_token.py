"""UnlockTokens shaped like those of real devices: length-prefixed records around random bytes.

Source: escrowed-secrets.md 4.1.
"""

import random
from typing import Final

UNLOCK_TOKEN_BYTES: Final = 1288
_SIGN_BYTES: Final = 20
_RECORD_HEAD: Final = 8
_KEYBAG_VERSION: Final = 4
_KEYBAG_TYPE: Final = 2
_CLASS_KEYS: Final = 11
_ITERATIONS: Final = 50000


def draw_unlock_token(rng: random.Random) -> bytes:
    """A token of 1288 bytes: a DATA block of keybag records and a SIGN block. Opaque to everybody else."""
    records = [
        _record(b"VERS", _number(_KEYBAG_VERSION)),
        _record(b"TYPE", _number(_KEYBAG_TYPE)),
        _record(b"UUID", rng.randbytes(16)),
        _record(b"HMCK", rng.randbytes(40)),
        _record(b"WRAP", _number(1)),
        _record(b"SALT", rng.randbytes(20)),
        _record(b"ITER", _number(_ITERATIONS)),
    ]
    for number in range(1, _CLASS_KEYS + 1):
        records += [
            _record(b"UUID", rng.randbytes(16)),
            _record(b"CLAS", _number(number)),
            _record(b"WRAP", _number(3)),
            _record(b"WPKY", rng.randbytes(40)),
        ]
    inside = b"".join(records)
    room = UNLOCK_TOKEN_BYTES - 2 * _RECORD_HEAD - _SIGN_BYTES
    padding = rng.randbytes(room - len(inside) - _RECORD_HEAD)
    whole = inside + _record(b"PBKY", padding)
    return _record(b"DATA", whole) + _record(b"SIGN", rng.randbytes(_SIGN_BYTES))


def _record(tag: bytes, value: bytes) -> bytes:
    return tag + len(value).to_bytes(4, "big") + value


def _number(value: int) -> bytes:
    return value.to_bytes(4, "big")
