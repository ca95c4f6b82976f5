"""A secret shown to a person: written down, marked as disclosed, and its replacement planned, all before it is shown."""

from dataclasses import replace
from datetime import datetime, timedelta

from ostiary.domain.decision import AuditEntry, Change, Snapshot
from ostiary.domain.enrollment import Enrollment, EnrollmentKey
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_view import ROTATED, chosen
from ostiary.domain.operator import NotADevice, require_known
from ostiary.domain.token import RecordId, TokenKind
from ostiary.errors import Conflicting
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.values import dataclass


class SecretMovedOn(Conflicting):
    """The secret changed while it was being revealed; nothing was shown."""

    hint = "Ask once more."


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """Whose word counted, and what was pointed to, when it was looked up which value is in force."""

    relationship: EnrollmentKey
    pointed: tuple[RecordId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """Which generations of what are to be shown."""

    enrollment_id: EnrollmentId
    kind: TokenKind
    record_ids: tuple[RecordId, ...]
    believed: Believed | None
    """By what they were found to be in force, or perhaps; None where somebody named one by its number."""
    rotate_after: timedelta


def apply_reveal(
    seen: Snapshot, asked: Disclosure, audit: AuditEntry, now: datetime
) -> Change[datetime | None]:
    """Write the disclosure down; the answer is when the secret will be replaced, None if it will not by itself.

    Raises:
        EnrollmentUnknown, NotADevice
        SecretMovedOn: another value is in force than the one that was about to be shown.

    Source: escrowed-secrets.md 4.0.2 rule 7; design.md 2, "a reveal".
    """
    device = require_known(seen, asked.enrollment_id)
    if device.is_user_channel:
        raise NotADevice(enrollment_id=asked.enrollment_id)
    escrow = seen.escrow(asked.kind)
    found = Believed(relationship=device.key, pointed=chosen(escrow))
    if asked.believed is not None and asked.believed != found:
        raise SecretMovedOn(enrollment_id=asked.enrollment_id, kind=asked.kind.value)
    planned = _planned(device, escrow, asked, now)
    return Change(
        at=now,
        answer=planned.due_at if planned is not None else None,
        disclosures=asked.record_ids,
        escrows=(planned,) if planned is not None and planned != escrow else (),
        audit=audit,
    )


def _planned(
    device: Enrollment, escrow: Escrow | None, asked: Disclosure, now: datetime
) -> Escrow | None:
    """The escrow with the moment of its replacement; a worker does the rest.

    None where no worker would: for a kind that no command replaces, while a change is open, for a device that left,
    and when what was shown is not in force.
    """
    if escrow is None or asked.kind not in ROTATED or escrow.state is not EscrowState.SETTLED:
        return None
    if not device.state.is_served or escrow.current not in asked.record_ids:
        return None
    due_at = now + asked.rotate_after
    return replace(escrow, due_at=min(due_at, escrow.due_at or due_at))
