"""What a decision about a device's message comes to, before anybody speaks HTTP."""

from ostiary.domain.command import LiveCommand, Reference
from ostiary.domain.token import RecordId, TokenRecord
from ostiary.errors import OstiaryError
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.values import dataclass


@dataclass(frozen=True, slots=True)
class Accepted:
    """200, empty: stored, or nothing to say."""


@dataclass(frozen=True, slots=True)
class Declined:
    """410 on a user channel: this user is not managed, until the next login. (3.7)"""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The operator released this device: it is told to leave management. Only services/farewell.py says it."""

    product_name: str | None
    os_version: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Refused, and something about it was worth storing (an alert); the service raises `error`."""

    error: OstiaryError


@dataclass(frozen=True, slots=True)
class HandOut:
    """One command for the device, and for each of its references the record whose value fills it."""

    command: LiveCommand
    fills: tuple[tuple[Reference, RecordId], ...] = ()
    with_profile: bool = False
    """The enrollment profile that was made for this hand-out goes along."""


@dataclass(frozen=True, slots=True)
class EscrowedToken:
    """The bootstrap token that is held, or None: a dict with a zero-length value goes out. (BT-01)"""

    record: TokenRecord | None
    device_id: EnrollmentId
    """Whose it is."""


@dataclass(frozen=True, slots=True)
class LoginChallenge:
    """The digest challenge of a network user's login; `nonce` None is the empty challenge. (1.5)"""

    nonce: str | None


@dataclass(frozen=True, slots=True)
class LoginDecided:
    """Whether the digest held: then the prepared AuthToken goes out, else an empty one."""

    proven: bool
