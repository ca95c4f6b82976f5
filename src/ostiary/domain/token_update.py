"""What a TokenUpdate means: the rules TU-1 to TU-20, the centre of the product."""

from dataclasses import replace
from datetime import datetime

from ostiary.domain import alerts, first_commands
from ostiary.domain.answer import Accepted, Declined, Goodbye, Refusal
from ostiary.domain.authenticate import TopicNotHeld
from ostiary.domain.auto_admin import SealedAdmin, with_admin_account
from ostiary.domain.command import LiveCommand
from ostiary.domain.decision import (
    Alert,
    CancelCommands,
    Change,
    DisableUsers,
    Snapshot,
    Supersede,
    Wake,
)
from ostiary.domain.enrollment import Enrollment, EnrollmentKey, Standing, State
from ostiary.domain.escrow_booking import NOTHING
from ostiary.domain.escrow_lifecycle import Cause, after_renewal, relationship_ended
from ostiary.domain.ledger import SealedToken, Succession, retire, succeed
from ostiary.domain.pairing import EnrollmentIsOut, require_paired, uses_old_certificate
from ostiary.domain.policy import Policy, RestoredBackup
from ostiary.domain.token import KeyedDigest, TokenKind, TokenPointer, TokenStep
from ostiary.domain.user_login import begin_user_channel, no_room, require_session
from ostiary.domain.visitor import DeviceIdentity
from ostiary.domain.wake import first_wake
from ostiary.protocol.mdm.checkin import TokenUpdate
from ostiary.protocol.mdm.identity import EnrollmentType
from ostiary.values import dataclass

TokenUpdateAnswer = Accepted | Declined | Goodbye | Refusal

_SOURCE = "TokenUpdate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A TokenUpdate with its tokens sealed and everything else the rule needs."""

    message: TokenUpdate
    identity: DeviceIdentity
    push: SealedToken
    unlock: SealedToken | None
    auth_token: KeyedDigest | None
    policy: Policy
    admin: SealedAdmin | None = None
    """Once it is known that a Mac enrolls that gets an administrator account."""
    now: datetime


def apply_token_update(seen: Snapshot, update: Update) -> Change[TokenUpdateAnswer]:
    """Keep what the channel hands over; the first one after an Authenticate completes the enrollment.

    Raises:
        CertificateNotPaired: no Authenticate came with this certificate. (CI-13)
        EnrollmentIsOut: a restored backup that policy refuses, or a user of a device that is out.
        AdminPasswordWanted: ask again with a password for the Mac's administrator account.
    """
    device = require_paired(seen, update.identity, update.message.channel)
    if isinstance(device, Goodbye):
        return Change(at=update.now, answer=device)
    if update.message.channel.is_user_channel:
        return _on_user_channel(seen, device, update)
    return _on_device_channel(seen, device, update)


def _on_device_channel(
    seen: Snapshot, device: Enrollment, update: Update
) -> Change[TokenUpdateAnswer]:
    message, now = update.message, update.now
    raised = _judge_topic(seen, device, update)
    if isinstance(raised, Change):
        return raised
    if device.state is State.OUT and update.policy.restored_backup is RestoredBackup.REFUSE:
        raise EnrollmentIsOut(enrollment_id=device.id)
    by_old_certificate = uses_old_certificate(seen, device)
    completes_renewal = device.state is State.RENEWING and not by_old_certificate
    erased = completes_renewal and message.awaiting_configuration is True
    enrolls = device.state is State.PENDING or erased
    before = _without_old_secrets(device) if erased else device
    push = succeed(before, update.push, update.identity, now, source=_SOURCE)
    unlock = (
        succeed(before, update.unlock, update.identity, now, source=_SOURCE)
        if update.unlock is not None
        else Succession(pointer=before.unlock)
    )
    awaiting = _awaiting(before, message.awaiting_configuration, enrolls=enrolls)
    row = replace(
        before,
        state=State.ENROLLED,
        renewing_fingerprint=None,
        topic=message.push.topic,
        enrolled_at=now if enrolls else before.enrolled_at,
        push=push.pointer,
        push_dead_since=None,
        push_dead_reason=None,
        unlock=unlock.pointer,
        awaiting=awaiting,
        came_erased=awaiting or before.came_erased,
        token_updates=before.token_updates + 1,
    )
    commands = (
        first_commands.after_enrollment(row, update.push.record_id, now)
        if enrolls
        else _release_if_it_waits(seen, before, row, update)
    )
    is_renewed = completes_renewal and not erased
    asked = after_renewal(seen, row, update.push.record_id, now) if is_renewed else NOTHING
    change: Change[TokenUpdateAnswer] = Change(
        at=now,
        answer=Accepted(),
        rows=(row,),
        supersede=_renewed_away(row, update.identity) if completes_renewal else (),
        disable_users=(DisableUsers(device_key=row.key),) if erased else (),
        cancel=_cancel(row, "the device was erased") if erased else (),
        steps=(
            *(_retired_by_erase(device, before) if erased else ()),
            *push.steps,
            *unlock.steps,
        ),
        records=(*push.records, *unlock.records),
        enqueue=commands,
        wakes=_wake_if_work(seen, row, now, has_work=bool(commands or asked.enqueue) or enrolls),
        alerts=raised,
        seen=row.key,
    )
    if seen.escrows and _begins_anew(row, message, enrolls=enrolls):
        change = relationship_ended(seen.escrows, row, Cause.ERASED, now).into(change)
    if is_renewed:
        return asked.into(change)
    if not enrolls:
        return change
    return with_admin_account(seen, row, change, update.policy, update.push.record_id, update.admin)


def _begins_anew(row: Enrollment, message: TokenUpdate, *, enrolls: bool) -> bool:
    """Whether this device came out of Setup Assistant: what an earlier life of it held is dead. (2.3, cause D)"""
    is_current = row.standing is Standing.CURRENT
    return is_current and enrolls and message.awaiting_configuration is True


def _judge_topic(
    seen: Snapshot, device: Enrollment, update: Update
) -> tuple[Alert, ...] | Change[TokenUpdateAnswer]:
    """Refuse a topic this enrollment never had and nobody holds; else store, and alert if something is odd. (CI-11)"""
    topic = update.message.push.topic
    if topic == device.topic:
        return () if seen.topic_is_held else (alerts.topic_not_held(device.tenant, topic),)
    if seen.topic_is_held:
        return (alerts.topic_changed(device, topic),)
    alert = alerts.topic_not_held(device.tenant, topic)
    return Change(at=update.now, answer=Refusal(TopicNotHeld(topic=topic)), alerts=(alert,))


def _without_old_secrets(device: Enrollment) -> Enrollment:
    """A device that turned out to be erased: what it held before this Authenticate is dead to it. (2.3, cause D)"""
    return replace(
        device,
        unlock=_if_since(device, device.unlock),
        bootstrap=_if_since(device, device.bootstrap),
        push=_if_since(device, device.push),
        awaiting=False,
        session=None,
    )


def _if_since(device: Enrollment, pointer: TokenPointer | None) -> TokenPointer | None:
    return (
        pointer if pointer is not None and pointer.arrived_at >= device.authenticated_at else None
    )


def _retired_by_erase(device: Enrollment, before: Enrollment) -> tuple[TokenStep, ...]:
    kinds = (TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP)
    gone = tuple(
        kind for kind in kinds if device.pointer(kind) is not None and before.pointer(kind) is None
    )
    return retire(device, gone, "the device was erased")


def _renewed_away(row: Enrollment, identity: DeviceIdentity) -> tuple[Supersede, ...]:
    cause = "the renewed certificate is in use"
    return (Supersede(enrollment_key=row.key, keep=identity.fingerprint, cause=cause),)


def _cancel(row: Enrollment, cause: str) -> tuple[CancelCommands, ...]:
    return (CancelCommands(enrollment_key=row.key, users=True, cause=cause),)


def _awaiting(before: Enrollment, said: bool | None, *, enrolls: bool) -> bool:
    """Absent means false on the first TokenUpdate after an Authenticate, and "as before" on later ones. (TU-12)

    A later `false` is no answer to a release either: only an acknowledged DeviceConfigured ends the wait.
    """
    if said:
        return True
    return False if enrolls else before.awaiting


def _release_if_it_waits(
    seen: Snapshot, before: Enrollment, row: Enrollment, update: Update
) -> tuple[LiveCommand, ...]:
    """A device that says it waits gets its release again, unless one is already on its way."""
    said = update.message.awaiting_configuration
    if not said or (before.awaiting and seen.queue):
        return ()
    return (first_commands.release(row, update.push.record_id, update.now),)


def _wake_if_work(
    seen: Snapshot, row: Enrollment, now: datetime, *, has_work: bool
) -> tuple[Wake, ...]:
    """Push soon if something waits; not at once, for the device may not be known to APNs yet. (TU-19)"""
    if not has_work and seen.wake is None:
        return ()
    return (Wake(enrollment_key=row.key, due_at=first_wake(now)),)


def _on_user_channel(
    seen: Snapshot, device: Enrollment, update: Update
) -> Change[TokenUpdateAnswer]:
    message, now = update.message, update.now
    is_shared = message.channel.type is EnrollmentType.SHARED_IPAD
    if is_shared and not update.policy.shared_ipad_users:
        return Change(at=now, answer=Declined())
    if not (device.state.is_served or device.state is State.PENDING):
        raise EnrollmentIsOut(enrollment_id=device.id)
    if (declined := no_room(seen, device, update.policy, now)) is not None:
        return declined
    before = seen.channel or begin_user_channel(
        # Nothing else is named so: it begins with this message, as the record does.
        device,
        message.channel,
        EnrollmentKey(update.push.record_id),
        now,
        names=message,
    )
    if not require_session(before, update.auth_token):
        return Change(at=now, answer=Declined())
    raised = _judge_topic(seen, device, update)
    if isinstance(raised, Change):
        return raised
    enrolls = not before.state.is_served
    push = succeed(before, update.push, update.identity, now, source=_SOURCE)
    row = replace(
        before,
        state=State.ENROLLED,
        topic=message.push.topic,
        enrolled_at=now if enrolls else before.enrolled_at,
        push=push.pointer,
        push_dead_since=None,
        push_dead_reason=None,
        awaiting=is_shared and _awaiting(before, message.awaiting_configuration, enrolls=enrolls),
        not_on_console=message.not_on_console,
        user_short_name=message.user_short_name or before.user_short_name,
        user_long_name=message.user_long_name or before.user_long_name,
        token_updates=1 if enrolls else before.token_updates + 1,
    )
    commands = _release_if_it_waits(seen, before, row, update) if row.awaiting else ()
    asked = first_commands.after_login(device, update.push.record_id, now) if enrolls else ()
    return Change(
        at=now,
        answer=Accepted(),
        rows=(row,),
        steps=push.steps,
        records=push.records,
        enqueue=(*commands, *asked),
        wakes=(
            *_wake_if_work(seen, row, now, has_work=bool(commands)),
            *(Wake(enrollment_key=device.key, due_at=first_wake(now)) for _ in asked),
        ),
        alerts=raised,
        seen=row.key,
    )
