"""Account passwords as they travel: a plist inside a plist, from which the password cannot be read.

Source: escrowed-secrets.md 4.8 (Password hash).
"""

import hmac
import plistlib
from dataclasses import dataclass, field
from hashlib import pbkdf2_hmac
from typing import Any, Final
from xml.parsers.expat import ExpatError

from ostiary_sim.outcomes import CommandFailed, CommandMalformed

_ALGORITHM: Final = "SALTED-SHA512-PBKDF2"
_MOST_ITERATIONS: Final = 1_000_000
"""No Mac is kept busy for minutes by one hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordHash:
    """What a Mac keeps of an account's password."""

    entropy: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    iterations: int

    def matches(self, password: str) -> bool:
        """Say whether this is the password that was hashed."""
        derived = pbkdf2_hmac(
            "sha512", password.encode(), self.salt, self.iterations, len(self.entropy)
        )
        return hmac.compare_digest(derived, self.entropy)


def read_password_hash(value: object) -> PasswordHash:
    """The hash in a `passwordHash` key.

    Raises:
        CommandMalformed: not data.
        CommandFailed: not the plist a Mac understands.
    """
    if not isinstance(value, bytes):
        raise CommandMalformed("passwordHash is not data")
    try:
        inside: Any = plistlib.loads(value)[_ALGORITHM]
        entropy, salt, iterations = inside["entropy"], inside["salt"], inside["iterations"]
    except (ExpatError, ValueError, KeyError, TypeError, plistlib.InvalidFileException):
        raise CommandFailed(f"passwordHash is not a property list with {_ALGORITHM}.") from None
    if not isinstance(entropy, bytes) or not isinstance(salt, bytes) or not entropy or not salt:
        raise CommandFailed("entropy and salt of passwordHash must be data.")
    if not isinstance(iterations, int) or not 0 < iterations <= _MOST_ITERATIONS:
        raise CommandFailed("iterations of passwordHash must be a sensible number.")
    return PasswordHash(entropy=entropy, salt=salt, iterations=iterations)
