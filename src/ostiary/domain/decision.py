"""What a decision is made of: what it asks to see, what it is shown, and the change it answers with."""

from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from ostiary.domain.command import ClosedCommand, LiveCommand
from ostiary.domain.enrollment import (
    Binding,
    Credential,
    Enrollment,
    EnrollmentKey,
    Standing,
    State,
)
from ostiary.domain.escrow import Escrow, concerns_secrets
from ostiary.domain.facts import FactSheet
from ostiary.domain.token import (
    Fingerprint,
    RecordId,
    TenantId,
    TokenKind,
    TokenProof,
    TokenRecord,
    TokenStep,
)
from ostiary.protocol.mdm.checkin import Topic
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import Channel, EnrollmentId
from ostiary.values import dataclass

AnswerT = TypeVar("AnswerT")
AnswerT_co = TypeVar("AnswerT_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByCertificate:
    """A device speaks: the certificate says who it is, `channel` what the message claims.

    `tenant` is where an unbound certificate's issuer belongs; a bound one's binding decides.
    """

    fingerprint: Fingerprint
    channel: Channel | None
    tenant: TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class ByName:
    """A person or program names an enrollment; the current relationship is meant."""

    tenant: TenantId
    enrollment_id: EnrollmentId


@dataclass(frozen=True, slots=True, kw_only=True)
class ByKey:
    """A worker names one relationship or user channel."""

    key: EnrollmentKey


class QueueView(StrEnum):
    """How much of the channel's queue a decision sees; always in order of turn, at most two."""

    NONE = "none"
    WITHOUT_DEFERRED = "without-deferred"
    WHOLE = "whole"


class EscrowView(StrEnum):
    """When a decision sees where the device's escrowed secrets stand; most never need to."""

    NONE = "none"
    WITH_COMMANDS = "with-commands"
    """If the reported command or one of the queue's first carries a secret, or brings one."""
    WHILE_ENROLLING = "while-enrolling"
    """Unless the device is plainly enrolled."""
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a decision needs to see. Storage loads no more than this, in one load."""

    who: ByCertificate | ByName | ByKey
    relationships: bool = False
    """Also every current or contested relationship of the device id, the credential of the certificate."""
    queue: QueueView = QueueView.NONE
    reported: CommandUuid | None = None
    value_of: TokenKind | None = None
    """Also the record, with its value, that the device row's pointer of this kind names."""
    topic: Topic | None = None
    """Also whether a push certificate is held for this topic in the tenant."""
    escrows: EscrowView = EscrowView.NONE
    facts: bool = False
    """Also what the device last reported of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """A channel has work waiting and is to be pushed at `due_at`. One row a channel, so pushes coalesce.

    `attempt` counts pushes that APNs accepted since the channel last made contact, `failures` those in a
    row that it did not take: an outage of APNs must not age the ladder of a device that hears nothing.
    """

    enrollment_key: EnrollmentKey
    due_at: datetime
    attempt: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What storage found. Everything not asked for is None, empty or False."""

    binding: Binding | None = None
    """The certificate's binding, superseded ones included."""
    device: Enrollment | None = None
    """By certificate: the relationship it is bound to. By name or key: the device row of the named channel."""
    channel: Enrollment | None = None
    """The row of the channel meant: `device` itself on the device channel, a user's row or None on a user channel."""
    credential: Credential | None = None
    """Loaded with `relationships`: what our CA knows of this certificate; None for a foreign CA's."""
    relationships: tuple[Enrollment, ...] = ()
    """Device rows with standing current or contested for the claimed device id in the tenant. Loaded when asked
    for, and always when the certificate is unbound or its relationship contested."""
    current_has_binding: bool = False
    """Loaded with `relationships`: whether the current one has any binding in force."""
    reported: LiveCommand | None = None
    """The command a report names, if it is live on this channel."""
    reported_is_closed: bool = False
    """The command a report names ended before, on this channel."""
    queue: tuple[LiveCommand, ...] = ()
    """The first two live commands in order of turn: sent ones, then by priority, then by sequence."""
    has_deferred: bool = False
    """Loaded with a queue view: some command of this channel other than the reported one is deferred."""
    wake: Wake | None = None
    """The channel's wake row."""
    users: int = 0
    """How many user channels the device has; loaded where the user channel meant has no row yet."""
    token: TokenRecord | None = None
    topic_is_held: bool = False
    escrows: tuple[Escrow, ...] = ()
    """Where the secrets of the device id stand; those of the current relationship, whoever asks."""
    facts: tuple[FactSheet, ...] = ()
    """What this relationship last reported, a sheet for each kind of report."""

    def escrow(self, kind: TokenKind) -> Escrow | None:
        """Where one secret stands; None if nothing was ever held or asked for."""
        return next((one for one in self.escrows if one.kind is kind), None)


def whose_escrows(seen: Snapshot) -> Enrollment | None:
    """The row whose id's secrets are meant: the device's own, or the current one that a new certificate claims to be."""
    if seen.device is not None:
        return seen.device
    current = (row for row in seen.relationships if row.standing is Standing.CURRENT)
    return next(current, None)


def wants_escrows(ask: Ask, seen: Snapshot) -> bool:
    """Whether what was found so far asks for the escrows too: the one rule for every engine."""
    device = seen.device
    if device is not None and device.standing is Standing.CONTESTED:
        # Its contest may be settled by this very message, and the secrets change sides with it.
        return True
    match ask.escrows:
        case EscrowView.NONE:
            return False
        case EscrowView.ALWAYS:
            return whose_escrows(seen) is not None
        case EscrowView.WHILE_ENROLLING:
            return device is not None and device.state is not State.ENROLLED
        case EscrowView.WITH_COMMANDS:
            if not seen.queue and seen.reported is None:
                return False
            commands = (seen.reported, *seen.queue) if seen.reported else seen.queue
            return any(concerns_secrets(command) for command in commands)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandMove:
    """A live command's step to another live state, on hand-out or NotNow."""

    uuid: CommandUuid
    to: str
    """A live `CommandState`."""
    sent_at: datetime | None
    hand_outs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Supersede:
    """Every binding of a relationship but `keep` is superseded, and the identity records of those too."""

    enrollment_key: EnrollmentKey
    keep: Fingerprint | None
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelCommands:
    """Close as cancelled every live command of a device row and, with `users`, of its user channels."""

    enrollment_key: EnrollmentKey
    users: bool
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DisableUsers:
    """Every user channel of a device row is out: AuthTokens dropped (who needed one still does), wakes removed."""

    device_key: EnrollmentKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something an operator should look at; the same (tenant, subject, kind) is counted, not repeated."""

    tenant: TenantId
    subject: str
    """What it is about: an enrollment id, a topic."""
    kind: str
    """A stable word in kebab-case."""
    sentence: str
    """What happened and what to do, without secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """What a person or their program did. Chained by hash per tenant when it is stored."""

    tenant: TenantId
    actor: str
    verb: str
    subject: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Generic[AnswerT_co]):
    """All that a decision does, stored entirely or not at all; and its answer.

    Storage applies the parts in the order of the fields, all with the one moment `at`.
    """

    at: datetime
    answer: AnswerT_co
    rows: tuple[Enrollment, ...] = ()
    """Inserted, or replaced by key if the stored version is still the loaded one."""
    supersede: tuple[Supersede, ...] = ()
    bind: tuple[Binding, ...] = ()
    """Inserted, or replaced by fingerprint."""
    disable_users: tuple[DisableUsers, ...] = ()
    cancel: tuple[CancelCommands, ...] = ()
    steps: tuple[TokenStep, ...] = ()
    records: tuple[TokenRecord, ...] = ()
    """Appended; storage numbers the generation. A record whose id exists is left as it is."""
    proofs: tuple[TokenProof, ...] = ()
    disclosures: tuple[RecordId, ...] = ()
    """A person is shown the values of these records now."""
    escrows: tuple[Escrow, ...] = ()
    """Inserted, or replaced by (tenant, holder, kind). The device row's turn guards them."""
    facts: tuple[FactSheet, ...] = ()
    """Inserted, or replaced by (enrollment key, name)."""
    close: tuple[ClosedCommand, ...] = ()
    lift_deferred: EnrollmentKey | None = None
    """Every deferred command of this channel is queued again, in its place."""
    moves: tuple[CommandMove, ...] = ()
    enqueue: tuple[LiveCommand, ...] = ()
    """Appended; storage numbers the sequence."""
    wakes: tuple[Wake, ...] = ()
    """Inserted or replaced by enrollment key."""
    drop_wakes: tuple[EnrollmentKey, ...] = ()
    alerts: tuple[Alert, ...] = ()
    audit: AuditEntry | None = None
    seen: EnrollmentKey | None = None
    """This row made contact at `at`. Alone, it may be written later with others: last-seen is batched."""

    @property
    def writes(self) -> bool:
        """Whether anything here must be on disk before the answer leaves."""
        return bool(
            self.rows
            or self.supersede
            or self.bind
            or self.disable_users
            or self.cancel
            or self.steps
            or self.records
            or self.proofs
            or self.disclosures
            or self.escrows
            or self.facts
            or self.close
            or self.lift_deferred
            or self.moves
            or self.enqueue
            or self.wakes
            or self.drop_wakes
            or self.alerts
            or self.audit
        )
