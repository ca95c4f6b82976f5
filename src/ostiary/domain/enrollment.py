"""An enrollment row: one relationship with one device, or one user channel on it."""

from datetime import datetime
from enum import StrEnum
from typing import NewType

from ostiary.domain.token import Fingerprint, KeyedDigest, TenantId, TokenKind, TokenPointer
from ostiary.protocol.mdm.checkin import DeviceFacts, Topic
from ostiary.protocol.mdm.identity import EnrollmentId, EnrollmentType
from ostiary.values import dataclass

EnrollmentKey = NewType("EnrollmentKey", str)
"""32 hex digits: one relationship. A contested newcomer with the same enrollment id has a key of its own."""


class State(StrEnum):
    """Where a relationship stands. (check-in-and-commands.md 2.4)"""

    ABSENT = "absent"
    """A user channel that has said no TokenUpdate yet."""
    PENDING = "pending"
    ENROLLED = "enrolled"
    RENEWING = "renewing"
    OUT = "out"
    REVOKED = "revoked"

    @property
    def is_served(self) -> bool:
        """Whether commands are handed out and pushes sent."""
        return self in (self.ENROLLED, self.RENEWING)


class Standing(StrEnum):
    """Which of several relationships for one enrollment id people and commands mean."""

    CURRENT = "current"
    CONTESTED = "contested"
    ENDED = "ended"


class Proof(StrEnum):
    """How we know that this certificate belongs to this device. (design.md 5)"""

    PROVEN = "proven"
    IMPORTED = "imported"
    FIRST_USE = "first-use"
    ACCEPTED = "accepted"
    """An operator vouched for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledProfile:
    """What the enrollment profile that the device runs allows; None where we did not issue it."""

    access_rights: int
    capabilities: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSession:
    """A network user's login on a Mac: the nonce we sent, and the digest of the AuthToken in use. (1.5)"""

    nonce: str | None = None
    auth_token: KeyedDigest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    """One relationship with one device (`parent_key` None), or one user channel on it.

    Tokens hang on the row by pointers; their generations are in the ledger. `version` counts writes,
    for engines that detect conflicts by it; storage raises it.
    """

    key: EnrollmentKey
    tenant: TenantId
    id: EnrollmentId
    type: EnrollmentType
    parent_key: EnrollmentKey | None
    state: State
    standing: Standing
    proof: Proof
    facts: DeviceFacts
    topic: Topic
    created_at: datetime
    authenticated_at: datetime
    enrolled_at: datetime | None = None
    last_seen_at: datetime | None = None
    released_at: datetime | None = None
    """When an operator let the device go; a credential must be younger to enroll it again."""
    contested_at: datetime | None = None
    """On a contested newcomer: when the contest began."""
    push: TokenPointer | None = None
    push_dead_since: datetime | None = None
    push_dead_reason: str | None = None
    pushed_at: datetime | None = None
    unlock: TokenPointer | None = None
    bootstrap: TokenPointer | None = None
    awaiting: bool = False
    came_erased: bool = False
    """It once waited in Setup Assistant: what the device held before is dead, also when it waits no longer. (2.3, cause D)"""
    not_on_console: bool | None = None
    user_short_name: str | None = None
    user_long_name: str | None = None
    profile: InstalledProfile | None = None
    session: UserSession | None = None
    renewing_fingerprint: Fingerprint | None = None
    """While RENEWING: the new certificate. Requests by another one mean that the renewal failed. (2.4 row 8)"""
    accepted_fingerprint: Fingerprint | None = None
    """An operator vouched for this certificate; its next message binds it, once. (3.8 rule 6)"""
    token_updates: int = 0
    """TokenUpdates since the last Authenticate; NanoMDM's tally."""
    version: int = 0

    @property
    def is_user_channel(self) -> bool:
        return self.parent_key is not None

    def pointer(self, kind: TokenKind) -> TokenPointer | None:
        """The current generation of one of the three kinds that devices hand over."""
        match kind:
            case TokenKind.PUSH:
                return self.push
            case TokenKind.UNLOCK:
                return self.unlock
            case TokenKind.BOOTSTRAP:
                return self.bootstrap
            case _:
                return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A certificate is bound to one relationship, and a device speaks only through it. (3.8)

    `superseded_at` marks a renewed-away certificate: remembered so that it is refused by name.
    """

    fingerprint: Fingerprint
    tenant: TenantId
    enrollment_key: EnrollmentKey
    proof: Proof
    bound_at: datetime
    not_after: datetime
    superseded_at: datetime | None = None


class Purpose(StrEnum):
    """What an enrollment credential was minted for."""

    ENROLL = "enroll"
    RENEW = "renew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What an invitation or credential was bound to; each None means anybody."""

    serial_number: str | None = None
    enrollment_key: EnrollmentKey | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What our CA knows of a certificate that it issued: who was invited, and for what. (2.3, proof)"""

    fingerprint: Fingerprint
    tenant: TenantId
    purpose: Purpose
    bound: Bound
    profile: InstalledProfile | None
    issued_at: datetime
    not_after: datetime
    challenge_id: str
