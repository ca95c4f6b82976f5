"""What is said of a bootstrap token: the words, what each means, and what to type at the Mac.

Source: escrowed-secrets.md 4.2, "Health shown to the operator" and "What an administrator sees on the Mac".
"""

from enum import StrEnum
from typing import Final

from ostiary.values import dataclass

INSTALL: Final = "sudo profiles install -type bootstraptoken"
STATUS: Final = "sudo profiles status -type bootstraptoken"


class BootstrapWord(StrEnum):
    """How a device's bootstrap token stands, for people."""

    SUSPECT = "suspect"
    LOST = "lost at re-enrollment, needs profiles install"
    CAPABILITY_MISSING = "capability missing"
    REMOVED = "removed by device"
    WAITING = "waiting for a SecureToken login"
    HELD = "held"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtTheMac:
    """A command to type at the Mac, and what it will say or do."""

    command: str
    says: tuple[str, ...]
    means: str


SENTENCES: Final = {
    BootstrapWord.SUSPECT: "A token is held and handed out, but the Mac says that it could not use it: unattended updates "
    "may ask for a password, and an erase may fall back to a full obliteration.",
    BootstrapWord.LOST: "The token of the earlier enrollment is in history and not handed out: new users get no SecureToken, "
    "and updates ask for a password. The Mac believes that it is escrowed and does not send it by itself.",
    BootstrapWord.CAPABILITY_MISSING: "The installed enrollment profile does not say that this server takes bootstrap "
    "tokens, so the Mac never sends one.",
    BootstrapWord.REMOVED: "The Mac took its token back; what it was is in history and not handed out.",
    BootstrapWord.WAITING: "The Mac has not sent one yet. It does when somebody logs in who has a SecureToken.",
    BootstrapWord.HELD: "The token is held, and handed out to this device alone.",
    BootstrapWord.UNSUPPORTED: "This device hands over no bootstrap token.",
}


def at_the_mac(word: BootstrapWord, *, supported: bool | None) -> tuple[AtTheMac, ...]:
    """The two commands of an administrator, with what the Mac will print."""
    known = {True: "YES", False: "NO", None: "YES or NO"}[supported]
    remembers = {
        BootstrapWord.HELD: "YES",
        BootstrapWord.SUSPECT: "YES",
        BootstrapWord.LOST: "YES",
        BootstrapWord.REMOVED: "NO",
        BootstrapWord.WAITING: "NO",
        BootstrapWord.CAPABILITY_MISSING: "NO",
        BootstrapWord.UNSUPPORTED: "NO",
    }[word]
    status = AtTheMac(
        command=STATUS,
        says=(
            f"profiles: Bootstrap Token supported on server: {known}",
            f"profiles: Bootstrap Token escrowed to server: {remembers}",
        ),
        means="The second line is what the Mac remembers of its last escrow, not what this server holds: it stays YES "
        "when a server lost the token.",
    )
    if word in (BootstrapWord.UNSUPPORTED, BootstrapWord.HELD):
        return (status,)
    install = AtTheMac(
        command=INSTALL,
        says=(
            "profiles: Create Bootstrap Token created",
            "profiles: Bootstrap Token created",
            "profiles: Bootstrap Token escrowing to server...",
            "profiles: Bootstrap Token escrowed",
        ),
        means="It asks for the name and password of an administrator with a SecureToken, and makes and sends a new token.",
    )
    return (install, status)
