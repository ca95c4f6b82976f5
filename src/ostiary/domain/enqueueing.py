"""Whether a command may be queued for a channel, and what queueing it changes."""

from dataclasses import dataclass
from datetime import datetime

from ostiary.domain.command import CommandState, LiveCommand, Priority, TokenReference
from ostiary.domain.decision import AuditEntry, Change, Snapshot
from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.first_commands import is_macos
from ostiary.domain.operator import require_known
from ostiary.domain.token import SealedValue
from ostiary.domain.wake import debounced
from ostiary.errors import Conflicting, Refused
from ostiary.protocol.mdm.commands import Kind, nature_of
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId, EnrollmentType

CLEAR_PASSCODE = "ClearPasscode"
DEVICE_LOCK = "DeviceLock"


class NotEnrolled(Conflicting):
    """The enrollment takes no commands: it checked out, was released, or its user never came."""

    hint = "`ostiary device show` tells its state; enroll the device again."


class CommandNotForThisChannel(Refused):
    """This command works on the device channel only, and a user channel was named."""

    hint = "Name the device: the part of the id before the colon."


class CommandNotForThisEnrollment(Refused):
    """Apple forbids this command under User Enrollment."""


class CommandNotForThisPlatform(Refused):
    """This kind of device does not know the command."""


class AccessRightMissing(Refused):
    """The enrollment profile on the device does not grant the access right that the command needs."""

    hint = "Rights cannot be added by renewing a profile; the device has to enroll again with a profile that grants them."


class PinMissing(Refused):
    """A Mac is locked with a PIN of six digits, and none was given."""

    hint = "Choose one and write it down before you send it: `ostiary enqueue ID device-lock --pin 123456`."


class NoUnlockToken(Refused):
    """The device never handed over an unlock token, so its passcode cannot be cleared from here."""

    hint = (
        "No command can ask for one. Only a new enrollment, with access right 4 in the profile, makes the device "
        "send it; `ostiary token history` shows whether an earlier relationship had one."
    )


class AnswerNotKept(Refused):
    """The device's answer would hold a secret that exists nowhere else, and this server cannot keep it yet."""

    hint = "Escrow of this secret is not there yet; without it the answer would be lost, so nothing is sent."


class CommandUuidTaken(Conflicting):
    """A command with this CommandUUID is in this channel's queue, or was."""

    hint = "Use a new CommandUUID for each command."


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A command somebody wants queued; its payload is sealed already, or empty for the standard form."""

    uuid: CommandUuid
    request_type: str
    payload: SealedValue
    source: str
    pushes: bool
    lacks_pin: bool
    """A command of ours without a PIN: no Mac is locked by it. What somebody wrote by hand is their business."""
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A command was queued for this row; `pushes` says whether a wake was planned."""

    enrollment: Enrollment
    uuid: CommandUuid


def apply_order(seen: Snapshot, enrollment_id: EnrollmentId, order: Order) -> Change[Queued]:
    """Queue one command, and wake the channel soon; a push already due carries it too. (AP-11)

    Raises:
        EnrollmentUnknown, NotEnrolled, CommandUuidTaken
        CommandNotForThisChannel, CommandNotForThisEnrollment, CommandNotForThisPlatform, AccessRightMissing,
        NoUnlockToken: refused with the reason, nothing queued. (UT-08, UT-09)
    """
    channel = require_known(seen, enrollment_id)
    if not (channel.state.is_served or channel.state is State.PENDING):
        raise NotEnrolled(enrollment_id=enrollment_id, state=channel.state)
    if seen.reported is not None or seen.reported_is_closed:
        raise CommandUuidTaken(enrollment_id=enrollment_id)
    device = seen.device or channel
    require_suitable(channel, device, order.request_type)
    if order.request_type == DEVICE_LOCK and is_macos(device) and order.lacks_pin:
        raise PinMissing(enrollment_id=enrollment_id)
    nature = nature_of(order.request_type)
    is_clear = order.request_type == CLEAR_PASSCODE
    command = LiveCommand(
        uuid=order.uuid,
        enrollment_key=channel.key,
        request_type=order.request_type,
        priority=_priority(order.request_type, urgent=nature.urgent),
        payload=order.payload,
        reference=TokenReference.LATEST_UNLOCK if is_clear else None,
        state=CommandState.QUEUED,
        queued_at=order.now,
        source=order.source,
    )
    wakes = (debounced(channel.key, order.now, seen.wake),) if order.pushes else ()
    audit = None
    if nature.kind is not Kind.ORDINARY:
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


def require_suitable(channel: Enrollment, device: Enrollment, request_type: str) -> None:
    """Refuse, with the reason, a command that this channel cannot carry out. Source: escrowed-secrets.md 4.1, 4.6."""
    nature = nature_of(request_type)
    facts = {"request_type": request_type, "enrollment_id": channel.id}
    if nature.answers_with_secret:
        raise AnswerNotKept(**facts)
    if nature.device_channel_only and channel.is_user_channel:
        raise CommandNotForThisChannel(**facts)
    is_user_enrollment = device.type is EnrollmentType.USER_ENROLLMENT_DEVICE
    if is_user_enrollment and not nature.user_enrollment:
        raise CommandNotForThisEnrollment(**facts)
    if is_user_enrollment and request_type == DEVICE_LOCK and is_macos(device):
        raise CommandNotForThisEnrollment("a Mac under User Enrollment cannot be locked", **facts)
    if request_type == CLEAR_PASSCODE:
        _require_clearable(device)
    if nature.right and device.profile and not device.profile.access_rights & nature.right:
        raise AccessRightMissing(right=nature.right, **facts)
    if request_type == CLEAR_PASSCODE and device.unlock is None:
        raise NoUnlockToken(enrollment_id=device.id)


def _require_clearable(device: Enrollment) -> None:
    """ClearPasscode exists on iPhone, iPad, Apple Watch and Apple Vision. (UT-08)"""
    product = device.facts.product_name or device.facts.model or ""
    if is_macos(device):
        raise CommandNotForThisPlatform("a Mac has no passcode to clear", enrollment_id=device.id)
    if "AppleTV" in product:
        raise CommandNotForThisPlatform(
            "an Apple TV has no passcode to clear", enrollment_id=device.id
        )
