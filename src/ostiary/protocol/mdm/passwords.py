"""Whether a secret that a person chose can be set on a device: said before anything is queued.

What is wrong is told by its place or its count, never by what stands there.
"""

from typing import Final

from ostiary.errors import Malformed
from ostiary.secret import Secret

FIRST_PRINTABLE: Final = 0x20
LAST_PRINTABLE: Final = 0x7E
SHORTEST_LOCK: Final = 8
LONGEST_LOCK: Final = 32
SHORTEST_ADMIN: Final = 20
LONGEST_ADMIN: Final = 128


class UnusablePassword(Malformed):
    """This password cannot be set on a device."""

    hint = "Leave it out, and one is drawn that every keyboard types alike."


def require_lock_password(password: Secret) -> Secret:
    """The same password, if it can be a Recovery Lock or a firmware password. (4.4, 4.5, FW-04)

    Raises:
        UnusablePassword: a character outside 0x20 to 0x7E, or not 8 to 32 characters.
    """
    for place, code in enumerate(password.reveal(), start=1):
        if not FIRST_PRINTABLE <= code <= LAST_PRINTABLE:
            raise UnusablePassword(
                f"the character at place {place} cannot be typed at start-up: "
                "only letters, digits and signs of the English keyboard can"
            )
    _require_length(len(password), SHORTEST_LOCK, LONGEST_LOCK)
    return password


def require_admin_password(password: Secret) -> Secret:
    """The same password, if it can be the automatic administrator's: the hash goes about, so it has to be long. (4.8)

    Raises:
        UnusablePassword: not 20 to 128 characters, or one that cannot be typed.
    """
    try:
        text = password.reveal().decode("utf-8")
    except UnicodeDecodeError:
        raise UnusablePassword("the password is not text") from None
    for place, character in enumerate(text, start=1):
        if not character.isprintable():
            raise UnusablePassword(f"the character at place {place} cannot be typed")
    _require_length(len(text), SHORTEST_ADMIN, LONGEST_ADMIN)
    return password


def _require_length(count: int, shortest: int, longest: int) -> None:
    if not shortest <= count <= longest:
        raise UnusablePassword(f"it has {count} characters; {shortest} to {longest} are taken")
