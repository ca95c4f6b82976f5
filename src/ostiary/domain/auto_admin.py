"""The administrator account that Setup Assistant makes on a Mac: asked for with the enrollment, its password rotated later.

Source: escrowed-secrets.md 4.8.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID, uuid5

from ostiary.domain import escrow_machine
from ostiary.domain.command import CommandState, LiveCommand, Priority
from ostiary.domain.decision import AuditEntry, Change, Snapshot
from ostiary.domain.enqueueing import Order, Queued, apply_order
from ostiary.domain.enrollment import Enrollment, Standing
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_booking import NOTHING, News, of_turn
from ostiary.domain.escrow_orders import candidate_record
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.first_commands import DEVICE_INFORMATION
from ostiary.domain.ledger import SealedToken
from ostiary.domain.operator import require_known
from ostiary.domain.platform import machine_of
from ostiary.domain.policy import Policy
from ostiary.domain.suitability import require_suitable
from ostiary.domain.token import Holder, RecordId, SealedValue, TokenKind
from ostiary.errors import Conflicting, Refused
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.device_information import HardwareFacts
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.values import dataclass

ACCOUNT_CONFIGURATION: Final = "AccountConfiguration"
LOOK_FOR_GUID: Final = timedelta(minutes=10)
WAITS_FOR_GUID: Final = "the rotation waits until the Mac tells the GUID of the account"

AnswerT = TypeVar("AnswerT")


class AdminPasswordWanted(Conflicting):
    """A Mac enrolls that is to get an administrator account, and its password has to be drawn first."""


class AdminAccountNotKnown(Conflicting):
    """The Mac has not told the GUID of the administrator account that was made for us."""

    hint = "Ask it with `ostiary enqueue ID device-information`, then try again; only Setup Assistant makes that account."


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedAdmin:
    """An AccountConfiguration for one Mac, sealed, and the password in it, sealed for the ledger."""

    payload: SealedValue
    password: SealedToken


def admin_command_uuid(seed: RecordId) -> CommandUuid:
    """The CommandUUID of the AccountConfiguration that a TokenUpdate brings about, by the record that it stores."""
    return CommandUuid(str(uuid5(UUID(hex=seed), ACCOUNT_CONFIGURATION)).upper())


def with_admin_account(
    seen: Snapshot,
    row: Enrollment,
    change: Change[AnswerT],
    policy: Policy,
    seed: RecordId,
    admin: SealedAdmin | None,
) -> Change[AnswerT]:
    """The enrollment of a Mac that waits, with the account in the same change; DeviceConfigured goes out after it.

    Raises:
        AdminPasswordWanted: decide once more, with a password.
    """
    if not _gets_an_account(row, policy):
        return change
    if admin is None:
        raise AdminPasswordWanted(enrollment_id=row.id)
    now, kind = change.at, TokenKind.ADMIN_PASSWORD
    booked = next((one for one in change.escrows if one.kind is kind), None)
    before = booked or seen.escrow(kind) or _nothing_held(row, now)
    if before.state.is_unresolved:
        return change
    order = Order(
        uuid=admin_command_uuid(seed),
        request_type=ACCOUNT_CONFIGURATION,
        payload=admin.payload,
        source="enrollment",
        pushes=False,
        now=now,
    )
    turn = escrow_machine.ask(before, admin.password.record_id, order.uuid, now)
    news = of_turn(row, before, turn, now) + News(
        records=(candidate_record(row, admin.password, order),), enqueue=(_command(row, order),)
    )
    return news.into(change)


def apply_deferral(
    seen: Snapshot,
    enrollment_id: EnrollmentId,
    question: Order,
    audit: AuditEntry,
    again_at: datetime,
) -> Change[Queued]:
    """Put a rotation off until the account's GUID is known, and ask the Mac for it. (AA-03)

    Raises:
        AdminAccountNotKnown: no such account was ever made for us, or what became of it is in doubt.
    """
    channel, before = require_known(seen, enrollment_id), seen.escrow(TokenKind.ADMIN_PASSWORD)
    if before is None or before.state is not EscrowState.SETTLED or before.current is None:
        raise AdminAccountNotKnown(enrollment_id=enrollment_id)
    later = replace(before, due_at=again_at, trouble=WAITS_FOR_GUID)
    waiting = next((one for one in seen.queue if one.request_type == DEVICE_INFORMATION), None)
    if waiting is not None:
        answer = Queued(enrollment=channel, uuid=waiting.uuid)
        return Change(at=question.now, answer=answer, escrows=(later,), audit=audit)
    asked = apply_order(seen, enrollment_id, question)
    return replace(asked, escrows=(later,), audit=audit)


def guid_told(seen: Snapshot, sheet: FactSheet) -> News:
    """A rotation that waited for the account's GUID is due as soon as the Mac tells it. (AA-03)"""
    before = seen.escrow(TokenKind.ADMIN_PASSWORD)
    if sheet.name is not SheetName.DEVICE or before is None or before.trouble != WAITS_FOR_GUID:
        return NOTHING
    if not HardwareFacts.read(sheet.facts).admin_accounts:
        return NOTHING
    return News(escrows=(replace(before, due_at=sheet.reported_at, trouble=None),))


def _gets_an_account(row: Enrollment, policy: Policy) -> bool:
    if not policy.admin_account or not row.awaiting or row.standing is not Standing.CURRENT:
        return False
    if not machine_of(row).is_mac:
        return False
    try:
        require_suitable(row, row, ACCOUNT_CONFIGURATION)
    except (Refused, Conflicting):
        return False
    return True


def _command(row: Enrollment, order: Order) -> LiveCommand:
    return LiveCommand(
        uuid=order.uuid,
        enrollment_key=row.key,
        request_type=order.request_type,
        priority=Priority.NORMAL,
        payload=order.payload,
        references=(),
        state=CommandState.QUEUED,
        queued_at=order.now,
        source=order.source,
    )


def _nothing_held(row: Enrollment, now: datetime) -> Escrow:
    return Escrow(
        tenant=row.tenant,
        holder=Holder(row.id),
        kind=TokenKind.ADMIN_PASSWORD,
        state=EscrowState.SETTLED,
        since=now,
    )
