"""The password hash that a Mac takes for an account: SALTED-SHA512-PBKDF2, a property list inside a property list."""

import hashlib
from typing import Final

from ostiary.errors import Malformed
from ostiary.formats import plist
from ostiary.secret import Secret

SALT_BYTES: Final = 32
ENTROPY_BYTES: Final = 128
FEWEST_ITERATIONS: Final = 20_000
MOST_ITERATIONS: Final = 40_000
ITERATIONS: Final = 39_999
"""Just below the most that the schema allows: guessing a password from its hash costs that much."""


class UnusableSalt(Malformed):
    """A salt is 32 bytes."""


class UnusableIterations(Malformed):
    """The rounds lie outside of what the schema allows."""


def salted_sha512_pbkdf2(password: Secret, *, salt: bytes, iterations: int = ITERATIONS) -> Secret:
    """The bytes of `passwordHash` for a password in UTF-8; themselves a secret. (AA-01)

    `salt` is fresh for every password. The work takes some tens of milliseconds of CPU: do it off the loop.

    Raises:
        UnusableSalt, UnusableIterations

    Source: escrowed-secrets.md 4.8; the 128 bytes are what peers send, not the schema's word.
    """
    if len(salt) != SALT_BYTES:
        raise UnusableSalt(size_bytes=len(salt))
    if not FEWEST_ITERATIONS <= iterations <= MOST_ITERATIONS:
        raise UnusableIterations(fewest=FEWEST_ITERATIONS, most=MOST_ITERATIONS)
    entropy = hashlib.pbkdf2_hmac("sha512", password.reveal(), salt, iterations, ENTROPY_BYTES)
    inner: plist.PlistValue = {"entropy": entropy, "salt": salt, "iterations": iterations}
    return Secret(plist.encode({"SALTED-SHA512-PBKDF2": inner}))
