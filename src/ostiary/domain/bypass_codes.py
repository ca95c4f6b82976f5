"""When a device is asked for its Activation Lock bypass code: as soon as it says that it is supervised, then daily.

Source: activation-lock.md 5. A device tells its code for fifteen days after supervision, and never again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.command import LiveCommand, Reference
from ostiary.domain.decision import Change, Snapshot
from ostiary.domain.enqueueing import Order, Queued, apply_order
from ostiary.domain.enrollment import Enrollment, Standing
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_booking import NOTHING, News, standard_command
from ostiary.domain.escrow_fetched import begin
from ostiary.domain.escrow_machine import follow_up_uuid
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.platform import Machine, machine_of
from ostiary.domain.suitability import require_suitable
from ostiary.domain.token import Holder, TokenKind
from ostiary.errors import Refused
from ostiary.protocol.mdm.commands import Command
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.protocol.mdm.platforms import Platform

ASK_DAILY: Final = timedelta(days=1)
CODE_IS_TOLD: Final = timedelta(days=15)
BYPASS_CODE: Final = "ActivationLockBypassCode"
_ALLOWED: Final = "ActivationLockAllowedWhileSupervised"
CODE_HELD: Final = Reference(key="", kind=TokenKind.BYPASS_DEVICE)
"""Nothing is filled in; the command waits until a code is held, and never goes out if none comes. (AL-03)"""
_HAVE_CODES: Final = frozenset({Platform.IOS, Platform.IPADOS, Platform.MACOS, Platform.VISIONOS})


class CodeNoLongerTold(Refused):
    """The bypass code can no longer be fetched: devices tell it for fifteen days after supervision, and none is held."""

    hint = (
        "Without it, whoever turns on Find My could keep the device for himself. Erase the device: it makes another "
        "code, and tells that one for fifteen days."
    )


def code_wanted(seen: Snapshot, device: Enrollment, sheet: FactSheet) -> News:
    """A device that has just said that it is supervised is due to be asked; once, the rest is by the day."""
    if sheet.name is not SheetName.DEVICE or device.standing is not Standing.CURRENT:
        return NOTHING
    if not tells_code(machine_of(device, (sheet,))):
        return NOTHING
    before = seen.escrow(TokenKind.BYPASS_DEVICE)
    if before is not None and not _is_of_an_earlier_life(before, device):
        return NOTHING
    return News(
        escrows=(replace(_known(before, device, sheet.reported_at), due_at=sheet.reported_at),)
    )


def may_have_code(machine: Machine) -> bool:
    """Whether devices of this kind make bypass codes and tell them, if they are supervised."""
    is_told = machine.platform in _HAVE_CODES and not machine.shared_ipad
    return is_told and not machine.user_enrollment


def tells_code(machine: Machine) -> bool:
    """Whether a device has a bypass code and tells it: it says itself that it is supervised."""
    return bool(machine.supervised) and may_have_code(machine)


def can_be_told(device: Enrollment, now: datetime) -> bool:
    """Whether the device still tells its code, as far as its enrollment says when it was supervised."""
    return device.enrolled_at is None or now - device.enrolled_at <= CODE_IS_TOLD


def allows_user_lock(command: Command) -> bool:
    """Whether this command lets the device's user lock it with an account of his own."""
    if str(command.get("RequestType", "")).lower() != "settings":
        return False
    items = command.get("Settings")
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        return False
    options = (item.get("MDMOptions") for item in items if isinstance(item, Mapping))
    return any(isinstance(one, Mapping) and one.get(_ALLOWED) for one in options)


def apply_allow_user_lock(
    seen: Snapshot, enrollment_id: EnrollmentId, order: Order
) -> Change[Queued]:
    """Queue the setting behind the code: it goes out once a code is held, and the question for one goes first.

    Raises:
        CodeNoLongerTold: (AK-18)
        What `apply_order` and `require_suitable` raise.
    """
    queued = apply_order(seen, enrollment_id, order)
    device = queued.answer.enrollment
    require_suitable(device, seen.device or device, BYPASS_CODE, seen.facts)
    before = seen.escrow(TokenKind.BYPASS_DEVICE)
    if before is not None and (before.current is not None or before.state.is_unresolved):
        return queued
    if not can_be_told(device, order.now):
        raise CodeNoLongerTold(enrollment_id=enrollment_id)
    known = _known(before, device, order.now)
    uuid = follow_up_uuid(known, order.uuid, "fetch")
    fetch = standard_command(device, BYPASS_CODE, uuid, order.now)
    asked = replace(begin(known, uuid, order.now), due_at=known.due_at or order.now + ASK_DAILY)
    return replace(queued, enqueue=(fetch, *queued.enqueue), escrows=(asked,))


def ask_for_code(device: Enrollment, before: Escrow, now: datetime) -> News:
    """Queue the question, and plan the next one while the device still answers it; it may make another code any day."""
    if not can_be_told(device, now):
        return News(escrows=(replace(before, due_at=None),))
    later = replace(before, due_at=now + ASK_DAILY)
    if not device.state.is_served or before.state.is_unresolved:
        return News(escrows=(later,))
    uuid = follow_up_uuid(before, CommandUuid(now.isoformat()), "fetch")
    command: LiveCommand = standard_command(device, BYPASS_CODE, uuid, now)
    asked = replace(begin(later, uuid, now), due_at=later.due_at)
    return News(escrows=(asked,), enqueue=(command,))


def _is_of_an_earlier_life(before: Escrow, device: Enrollment) -> bool:
    """Whether nobody has asked since the device enrolled last."""
    began = device.enrolled_at
    return began is not None and before.since < began and not before.state.is_unresolved


def _known(before: Escrow | None, device: Enrollment, now: datetime) -> Escrow:
    return before or Escrow(
        tenant=device.tenant,
        holder=Holder(device.id),
        kind=TokenKind.BYPASS_DEVICE,
        state=EscrowState.SETTLED,
        since=now,
    )
