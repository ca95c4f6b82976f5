"""Whether a command may be queued for a channel, and what queueing it changes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ostiary.domain.command import CommandState, LiveCommand, Priority, Reference
from ostiary.domain.decision import AuditEntry, Change, Snapshot
from ostiary.domain.destructive_cap import is_destructive
from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.erasing import ERASES_ONLY, ErasePlan, require_erasable
from ostiary.domain.operator import require_known
from ostiary.domain.suitability import (
    CLEAR_PASSCODE,
    require_profile_suitable,
    require_suitable,
)
from ostiary.domain.token import SealedValue, TokenKind
from ostiary.domain.wake import debounced
from ostiary.errors import Conflicting
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.protocol.mdm.nature import Kind, nature_of

DEVICE_LOCK: Final = "DeviceLock"
ERASE_DEVICE: Final = "EraseDevice"
UNLOCK_TOKEN: Final = Reference(key="UnlockToken", kind=TokenKind.UNLOCK)


class NotEnrolled(Conflicting):
    """The enrollment takes no commands: it checked out, was released, or its user never came."""

    hint = "`ostiary device show` tells its state; enroll the device again."


class CommandUuidTaken(Conflicting):
    """A command with this CommandUUID is in this channel's queue, or was."""

    hint = "Use a new CommandUUID for each command."


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command somebody wants queued; its payload is sealed already."""

    uuid: CommandUuid
    request_type: str
    payload: SealedValue
    source: str
    pushes: bool
    references: tuple[Reference, ...] = ()
    erase: ErasePlan = ERASES_ONLY
    """Of an EraseDevice: what it is to do beside erasing."""
    forbidden_payloads: frozenset[str] = frozenset()
    """Of an InstallProfile: the payload types in it that no device under User Enrollment may take."""
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A command was queued for this row; `pushes` says whether a wake was planned."""

    enrollment: Enrollment
    uuid: CommandUuid
    carries_pending: bool = False
    """It is a lock, and carries the PIN of an earlier one that the device has not answered."""


def apply_order(seen: Snapshot, enrollment_id: EnrollmentId, order: Order) -> Change[Queued]:
    """Queue one command, and wake the channel soon; a push already due carries it too. (AP-11)

    Raises:
        EnrollmentUnknown, NotEnrolled, CommandUuidTaken
        What `require_suitable`, `require_erasable` and `require_profile_suitable` raise: refused with the reason,
        nothing queued. (UT-08, UT-09)
    """
    channel = require_known(seen, enrollment_id)
    if not (channel.state.is_served or channel.state is State.PENDING):
        raise NotEnrolled(enrollment_id=enrollment_id, state=channel.state)
    if seen.reported is not None or seen.reported_is_closed:
        raise CommandUuidTaken(enrollment_id=enrollment_id)
    device = seen.device or channel
    require_suitable(channel, device, order.request_type, seen.facts)
    require_erasable(device, order.erase, seen.facts)
    require_profile_suitable(device, order.forbidden_payloads, seen.facts)
    nature = nature_of(order.request_type)
    is_clear = order.request_type == CLEAR_PASSCODE
    command = LiveCommand(
        uuid=order.uuid,
        enrollment_key=channel.key,
        request_type=order.request_type,
        priority=_priority(order.request_type, urgent=nature.urgent),
        payload=order.payload,
        references=(UNLOCK_TOKEN, *order.references) if is_clear else order.references,
        state=CommandState.QUEUED,
        queued_at=order.now,
        source=order.source,
    )
    wakes = (debounced(channel.key, order.now, seen.wake),) if order.pushes else ()
    audit = None
    if nature.kind is not Kind.ORDINARY or is_destructive(order.request_type, order.references):
        audit = AuditEntry(
            tenant=channel.tenant,
            actor=order.source,
            verb=f"enqueue {order.request_type}",
            subject=channel.id,
            reason="",
        )
    return Change(
        at=order.now,
        answer=Queued(enrollment=channel, uuid=order.uuid),
        enqueue=(command,),
        wakes=tuple(wake for wake in wakes if wake != seen.wake),
        audit=audit,
    )


def _priority(request_type: str, *, urgent: bool) -> Priority:
    if request_type in ("DeviceConfigured", "UserConfigured"):
        return Priority.RELEASE
    return Priority.URGENT if urgent else Priority.NORMAL
