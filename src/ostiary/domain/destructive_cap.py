"""How many destructive commands one hour may see: a slip of a script must not erase a fleet. (design.md 5)"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from ostiary.domain.command import Reference
from ostiary.domain.token import TokenKind
from ostiary.errors import Refused
from ostiary.protocol.mdm.lights_out import LOM_DEVICE_REQUEST
from ostiary.protocol.mdm.nature import NATURE, Kind, nature_of

CAP_WINDOW: Final = timedelta(hours=1)
DESTRUCTIVE_TYPES: Final = tuple(
    sorted(name for name, nature in NATURE.items() if nature.kind is Kind.DESTRUCTIVE)
)
UNENROLLS: Final = Reference(key="", kind=TokenKind.IDENTITY, optional=True)
"""Nothing is filled in: the mark of a RemoveProfile that takes the enrollment profile, and the device out of our hands."""
SWITCHED: Final = "lights-out"
"""What the audit says of each Mac that a controller is to switch: these are counted, not the one command to it."""
COUNTED_VERBS: Final = (
    SWITCHED,
    "enqueue removeprofile",
    *(f"enqueue {name}".lower() for name in DESTRUCTIVE_TYPES if name != LOM_DEVICE_REQUEST),
)
"""In the audit; a RemoveProfile of another profile than our own is not audited."""


class TooManyDestructive(Refused):
    """This would queue more destructive commands than one hour may see; nothing was queued for anybody."""

    hint = (
        "If it is meant, say how many devices it is for: `--confirm N` (`?confirm=N` over HTTP). More are always "
        "allowed after `ostiary policy set most_destructive_an_hour N`; `--dry-run` shows what would happen."
    )


class AnotherNumberConfirmed(Refused):
    """The number that was confirmed is not the number of devices that the command is for; nothing was queued."""

    hint = "Count again, and confirm the number of different enrollments that are named."


def is_destructive(request_type: str, references: Sequence[Reference]) -> bool:
    """Whether a command can take a device out of somebody's hands, or its data away."""
    return nature_of(request_type).kind is Kind.DESTRUCTIVE or UNENROLLS in references


def require_within_cap(*, wanted: int, already: int, most: int, confirmed: int | None) -> None:
    """Let a request pass whole, or refuse it whole, before anything of it is queued.

    `already` counts those queued within the last hour by anybody of the tenant. Who names the right number has
    counted, and may have more.

    Raises:
        TooManyDestructive, AnotherNumberConfirmed
    """
    if confirmed is not None and confirmed != wanted:
        raise AnotherNumberConfirmed(confirmed=confirmed, devices=wanted)
    if confirmed is None and already + wanted > most:
        raise TooManyDestructive(devices=wanted, queued_within_the_hour=already, most_an_hour=most)
