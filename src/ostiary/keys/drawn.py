"""Secrets drawn from the system's cryptographic source, shaped so that people can read and type them."""

import secrets
from typing import Final

from ostiary.protocol.mdm.bypass_code import RAW_BYTES
from ostiary.protocol.mdm.lock_commands import PIN_DIGITS
from ostiary.protocol.mdm.password_hash import SALT_BYTES
from ostiary.secret import Secret

LETTERS: Final = "bcdefghjknprstuvx"
"""Small letters that no two of look alike, and that lie on the same keys in English, French and German: a Mac asks
for these passwords before anybody can choose a keyboard."""
LENGTH: Final = 24
"""98 bits: enough where the hash of the password is known."""

_DIGITS: Final = "0123456789"


class SystemDraws:
    """Implements ports.draws with the operating system's source."""

    def password(self) -> Secret:
        return _of(LETTERS, LENGTH)

    def pin(self) -> Secret:
        return _of(_DIGITS, PIN_DIGITS)

    def bypass_raw(self) -> Secret:
        return Secret(secrets.token_bytes(RAW_BYTES))

    def salt(self) -> bytes:
        return secrets.token_bytes(SALT_BYTES)


def _of(characters: str, count: int) -> Secret:
    return Secret("".join(secrets.choice(characters) for _ in range(count)).encode("ascii"))
