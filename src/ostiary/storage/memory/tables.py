"""Everything that the in-memory twin knows, and how one copy becomes the next."""

from dataclasses import dataclass, field
from typing import NamedTuple, Self

from ostiary.domain.command import ClosedCommand, LiveCommand
from ostiary.domain.decision import AuditEntry, Wake
from ostiary.domain.enrollment import Binding, Credential, Enrollment, EnrollmentKey
from ostiary.domain.escrow import Escrow
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.invitation import Challenge, Invitation
from ostiary.domain.renewal import Renewal
from ostiary.domain.token import Fingerprint, Holder, RecordId, TenantId, TokenKind, TokenRecord
from ostiary.ports.reports import AlertLine
from ostiary.ports.storage import PendingPushKey, PushCertificate
from ostiary.protocol.mdm.checkin import Topic


class Note(NamedTuple):
    """That a history grew, and by which generations."""

    number: int
    history: tuple[TenantId, Holder, TokenKind]
    first: int
    last: int


@dataclass(slots=True, kw_only=True)
class Tables:
    """Values by their keys. Values are frozen, so copying the dictionaries copies it all."""

    enrollments: dict[EnrollmentKey, Enrollment] = field(default_factory=dict)
    bindings: dict[Fingerprint, Binding] = field(default_factory=dict)
    records: dict[RecordId, TokenRecord] = field(default_factory=dict)
    escrows: dict[tuple[TenantId, Holder, TokenKind], Escrow] = field(default_factory=dict)
    sheets: dict[tuple[EnrollmentKey, SheetName], FactSheet] = field(default_factory=dict)
    commands: dict[tuple[str, str], LiveCommand] = field(default_factory=dict)
    """By enrollment key and CommandUUID."""
    closed: dict[tuple[str, str], ClosedCommand] = field(default_factory=dict)
    wakes: dict[EnrollmentKey, Wake] = field(default_factory=dict)
    claimed: set[EnrollmentKey] = field(default_factory=set)
    """Wakes that somebody pushes at the moment, not written anew since."""
    credentials: dict[Fingerprint, tuple[Credential, bytes]] = field(default_factory=dict)
    """With the certificate's DER."""
    invitations: dict[RecordId, Invitation] = field(default_factory=dict)
    challenges: dict[RecordId, Challenge] = field(default_factory=dict)
    push_certificates: dict[Topic, PushCertificate] = field(default_factory=dict)
    pending_push_keys: dict[RecordId, PendingPushKey] = field(default_factory=dict)
    alerts: dict[tuple[str, str, str], AlertLine] = field(default_factory=dict)
    audit: list[tuple[AuditEntry, bytes]] = field(default_factory=list)
    """With the hash of the chain up to it."""
    last_sequence: int = 0
    review_notes: dict[int, Note] = field(default_factory=dict)
    """By tenant, holder and kind: the first and the last generation that retention has not looked at."""
    renewals: dict[EnrollmentKey, Renewal] = field(default_factory=dict)

    def copy(self) -> Self:
        """A second set of dictionaries with the same values."""
        return type(self)(
            enrollments=dict(self.enrollments),
            bindings=dict(self.bindings),
            records=dict(self.records),
            escrows=dict(self.escrows),
            sheets=dict(self.sheets),
            commands=dict(self.commands),
            closed=dict(self.closed),
            wakes=dict(self.wakes),
            claimed=set(self.claimed),
            credentials=dict(self.credentials),
            invitations=dict(self.invitations),
            challenges=dict(self.challenges),
            push_certificates=dict(self.push_certificates),
            pending_push_keys=dict(self.pending_push_keys),
            alerts=dict(self.alerts),
            audit=list(self.audit),
            last_sequence=self.last_sequence,
            review_notes=dict(self.review_notes),
            renewals=dict(self.renewals),
        )
