"""A secret shown to a person: written down, marked as disclosed, and its replacement planned, all before it is shown."""

from dataclasses import replace
from datetime import datetime, timedelta

from ostiary.domain.decision import AuditEntry, Change, Snapshot
from ostiary.domain.enrollment import Enrollment, EnrollmentKey
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_view import chosen
from ostiary.domain.operator import NotADevice, require_known
from ostiary.domain.rotation import ROTATES, why_not_rotated
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """When what was shown is replaced; or why nothing does that by itself."""

    due_at: datetime | None = None
    open_why: str = ""
    """It may be replaced later, by hand; empty where nothing needs to be."""
    never_why: str = ""
    """No command can, on this device."""


def apply_reveal(
    seen: Snapshot, asked: Disclosure, audit: AuditEntry, now: datetime
) -> Change[Replacement]:
    """Write the disclosure down; the answer is when the secret will be replaced, or why not by itself.

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
    replacement = _replacement(seen, device, escrow, asked, now)
    planned = escrow
    if escrow is not None and replacement.due_at is not None:
        planned = replace(escrow, due_at=replacement.due_at)
    return Change(
        at=now,
        answer=replacement,
        disclosures=asked.record_ids,
        escrows=(planned,) if planned is not None and planned != escrow else (),
        audit=audit,
    )


def _replacement(
    seen: Snapshot, device: Enrollment, escrow: Escrow | None, asked: Disclosure, now: datetime
) -> Replacement:
    """The moment of its replacement; a worker does the rest.

    None where no worker would: for a kind that no command replaces, on a device that cannot carry the command out, while
    a change is open, for a device that left, and when what was shown is not in force.
    """
    if escrow is None or asked.kind not in ROTATES:
        return Replacement()
    if not {escrow.current, escrow.candidate} & set(asked.record_ids):
        return Replacement()
    if (never := why_not_rotated(device, asked.kind, seen.facts)) is not None:
        return Replacement(never_why=never)
    if not device.state.is_served:
        return Replacement(open_why="the device is not enrolled")
    if escrow.state is not EscrowState.SETTLED:
        return Replacement(open_why="a change of it is open")
    if escrow.current not in asked.record_ids:
        return Replacement()
    due_at = now + asked.rotate_after
    return Replacement(due_at=min(due_at, escrow.due_at or due_at))
