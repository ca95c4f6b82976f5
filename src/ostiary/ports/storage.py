"""Storage as decisions see it. Every engine implements these and passes tests/conformance/test_storage_*.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from ostiary.domain.decision import Ask, AuditEntry, Change, Snapshot
from ostiary.domain.enrollment import Credential, Enrollment, EnrollmentKey
from ostiary.domain.invitation import Challenge, Invitation, Spend
from ostiary.domain.push_target import PushTarget, SealedPush
from ostiary.domain.token import (
    Fingerprint,
    KeyedDigest,
    RecordId,
    SealedValue,
    TenantId,
    TokenRecord,
)
from ostiary.errors import Unavailable
from ostiary.protocol.mdm.checkin import Topic

AnswerT = TypeVar("AnswerT")


class StorageBusy(Unavailable):
    """More decisions wait for the disk than we let wait."""

    hint = "The disk is slow or the load too high; devices repeat by themselves."


class StorageFailed(Unavailable):
    """The database did not take the change; nothing of it is stored."""

    hint = "Look at the disk and the database; devices repeat by themselves."


class Enrollments(Protocol):
    """Where devices, tokens and commands are decided."""

    async def decide(
        self, ask: Ask, rule: Callable[[Snapshot], Change[AnswerT]]
    ) -> Change[AnswerT]:
        """Load what `ask` names, apply the pure `rule`, store its Change, all or nothing.

        Returns only once the change is on disk. The rule is synchronous and may run again on fresh
        state, so it has no effect but its answer; what it raises reaches the caller and stores nothing.

        Raises:
            StorageBusy: the queue before the writer is full.
            StorageFailed: the engine refused or lost the commit.
        """

    async def load_record(self, record_id: RecordId) -> TokenRecord | None:
        """One ledger record with its value."""


class Challenges(Protocol):
    """Invitations and the single-use challenges inside enrollment profiles."""

    async def add_invitation(self, invitation: Invitation, audit: AuditEntry) -> None: ...

    async def find_invitation(self, code: KeyedDigest) -> Invitation | None: ...

    async def add_challenge(self, challenge: Challenge, *, replaces: bool = False) -> None:
        """Store it, and its ledger record of kind enrollment-challenge with the challenge's id, holder the id.

        `replaces` ends those of the same device and purpose that no invitation gave out and nobody used.
        """

    async def withdraw_challenges(
        self,
        tenant: TenantId,
        *,
        serial_number: str | None,
        enrollment_key: EnrollmentKey,
        at: datetime,
    ) -> None:
        """End whatever was made for this device and is still unused: nobody can spend it any more."""

    async def find_challenge(
        self, digest: KeyedDigest
    ) -> tuple[Challenge, Invitation | None, bytes | None] | None:
        """The challenge, its invitation, and the DER of the certificate issued for it, if any."""

    async def spend(
        self, digest: KeyedDigest, rule: Callable[[Challenge, Invitation | None], Spend | None]
    ) -> bytes:
        """Decide once on the challenge; the DER of the certificate that it stands for.

        `rule` returns None when the certificate issued before is to be returned again, and raises to refuse.
        """

    async def add_credential(self, credential: Credential, certificate: bytes) -> None:
        """Keep a certificate (DER) that was issued without a stored challenge: RenewalReq."""

    async def count_renewals(self, key: EnrollmentKey, *, since: datetime) -> int:
        """How many certificates were issued for this relationship alone since then."""

    async def find_renewable(self, fingerprint: Fingerprint) -> Enrollment | None:
        """The relationship that a certificate is bound to, in force, for RenewalReq."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueWake:
    """A channel to push now, with all that a push needs."""

    enrollment: PushTarget
    due_at: datetime
    attempt: int
    failures: int = 0
    has_work: bool = True
    """A command waits for the channel, were it only a deferred one."""
    has_new_work: bool = True
    """One of them was never handed out."""
    push_record: SealedPush


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeStep:
    """What a push led to. `next_due_at` None removes the wake, unless it was renewed since it was claimed."""

    enrollment_key: EnrollmentKey
    record_id: RecordId
    """The generation of the push token that was used."""
    at: datetime
    attempt: int
    """The new number of accepted pushes since the last contact."""
    failures: int = 0
    """The new number of pushes in a row that APNs did not take."""
    accepted: bool
    next_due_at: datetime | None
    dead_reason: str | None = None
    """Set: APNs says this token is dead. Ignored if another generation or a later arrival is current by now."""
    dead_before: datetime | None = None
    """APNs' timestamp: the token is dead only if it last arrived before this moment. (5.5)"""


class Wakes(Protocol):
    """The channels that are to be pushed."""

    async def claim(self, now: datetime, *, limit: int, lease: timedelta) -> tuple[DueWake, ...]:
        """Due channels of served enrollments, earliest first, each put off by `lease` so that nobody else takes it.

        Dead push tokens and paused topics are left out, and put off for longer: a paused topic's channels by
        `PAUSED`, those of a device that is still enrolling by `NOT_YET`, the others by `UNREACHABLE`. All of them count
        as having failed, so that they are paced when they can be pushed again. (domain/push_schedule.py)
        """

    async def settle(self, steps: Sequence[WakeStep]) -> None:
        """Store what the pushes led to, in one commit."""

    async def wake_silent(self, now: datetime, *, silent_since: datetime, limit: int) -> int:
        """Wake devices that can be pushed, have no wake, and were neither heard of nor pushed since that moment.

        Their wakes begin as if APNs had refused them once, so they are paced. How many were woken.
        """

    async def next_due_at(self) -> datetime | None:
        """When the earliest wake falls due that `claim` would give out; None if there is none."""

    async def wait(self, timeout_seconds: float) -> None:
        """Return when a wake was written, or when the time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushCertificate:
    """An MDM push certificate and its sealed key, one current per topic."""

    topic: Topic
    tenant: TenantId
    record_id: RecordId
    certificate_pem: bytes
    """Leaf first, then whatever chain came with it."""
    sealed_key: SealedValue
    not_before: datetime
    not_after: datetime
    imported_at: datetime
    paused_since: datetime | None = None
    paused_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingPushKey:
    """A private key made for a certificate request, waiting for its certificate.

    Found again by its public key, so several requests may be open and none spoils another.
    """

    record_id: RecordId
    tenant: TenantId
    public_key: str
    """Lower-case hex SHA-256 of the DER SubjectPublicKeyInfo."""
    sealed_key: SealedValue
    created_at: datetime


class PushCertificates(Protocol):
    """The push certificates; their generations live in the ledger, kind push-certificate, holder the topic."""

    async def save_push_certificate(
        self,
        certificate: PushCertificate,
        audit: AuditEntry,
        *,
        spent_key: RecordId | None = None,
    ) -> None:
        """Replace the current one of the same topic (unpausing it); the old generation stays in the ledger.

        `spent_key` names the pending key that became this certificate's, forgotten in the same commit.

        Raises:
            Conflicting: the topic is another tenant's.
        """

    async def save_pending_push_key(self, key: PendingPushKey, audit: AuditEntry) -> None: ...

    async def find_pending_push_key(
        self, tenant: TenantId, public_key: str
    ) -> PendingPushKey | None: ...

    async def load_push_certificate(self, topic: Topic) -> PushCertificate | None: ...

    async def list_push_certificates(self, tenant: TenantId) -> tuple[PushCertificate, ...]: ...

    async def pause_topic(
        self, topic: Topic, reason: str, at: datetime, *, shown: RecordId | None
    ) -> bool:
        """Pause the topic whose certificate `shown` APNs refuses; if it is paused already, the first reason stays.

        False, and nothing is paused: the topic has another certificate by now, or has one where none was to be shown.
        """

    async def count_enrollments_by_topic(self, tenant: TenantId) -> dict[Topic, int]:
        """Served enrollments per topic, for the topic guard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A named, scoped, expiring API token; only its digest is kept."""

    name: str
    tenant: TenantId
    digest: KeyedDigest
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None


class ApiTokens(Protocol):
    """Programs that may ask things of us."""

    async def add_api_token(self, token: ApiToken, audit: AuditEntry) -> None: ...

    async def find_api_token(self, digest: KeyedDigest) -> ApiToken | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """A tenant's wrapped key of one epoch. `check` is a key check value, so that a wrong root key is named at start."""

    tenant: TenantId
    epoch: int
    """0 is the digest key, which does not rotate; 1 and up seal."""
    wrapped: bytes
    check: bytes
    created_at: datetime


class KeyEpochs(Protocol):
    """The wrapped tenant keys; read at start and at rotation only."""

    async def load_epochs(self) -> tuple[EpochRow, ...]: ...

    async def add_epoch(self, row: EpochRow) -> None: ...

    async def replace_epochs(
        self, before: Sequence[EpochRow], after: Sequence[EpochRow], audit: AuditEntry
    ) -> None:
        """Make the rows of all tenants those of `after`, if they are those of `before`; all or nothing.

        Every epoch of `before` is in `after` again, perhaps wrapped anew: a key is never removed.

        Raises:
            Conflicting: the rows are others by now; nothing is stored.
        """


class Policies(Protocol):
    """Policies live in the database, equal on all nodes; each is a name and a JSON value."""

    async def load_policies(self, tenant: TenantId) -> dict[str, str]: ...

    async def save_policy(
        self, tenant: TenantId, name: str, value: str, audit: AuditEntry
    ) -> None: ...
