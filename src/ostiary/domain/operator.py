"""What operators decide about an enrollment: to let it go, to vouch for a certificate, to cancel its commands."""

from dataclasses import replace
from datetime import datetime

from ostiary.domain.command import ClosedCommand, CommandState
from ostiary.domain.contest import join, newcomer_wins, taken_over, turn_away
from ostiary.domain.decision import AuditEntry, CancelCommands, Change, DisableUsers, Snapshot
from ostiary.domain.enrollment import Enrollment, Proof, Standing, State
from ostiary.domain.escrow_booking import book_cancelled
from ostiary.domain.escrow_lifecycle import Cause, relationship_ended
from ostiary.domain.ledger import retire
from ostiary.domain.token import Fingerprint, TokenKind
from ostiary.errors import Conflicting, Missing
from ostiary.protocol.mdm.identity import EnrollmentId


class EnrollmentUnknown(Missing):
    """No enrollment of this id is known here."""

    hint = "`ostiary device list` shows the ids; a user channel is written device:user."


class NotADevice(Conflicting):
    """This can be done to a device, not to one of its user channels."""

    hint = "Name the device: the part of the id before the colon."


class NothingToAccept(Conflicting):
    """No single other certificate claims this enrollment at the moment."""

    hint = "Name the certificate with --fingerprint; `ostiary device show` lists those that were refused."


class CommandIsOver(Conflicting):
    """The command has ended, or never was in this enrollment's queue."""

    hint = "`ostiary queue list` shows what can still be cancelled."


def require_known(seen: Snapshot, enrollment_id: EnrollmentId) -> Enrollment:
    """The row of the named channel. Raises EnrollmentUnknown."""
    if seen.channel is None:
        raise EnrollmentUnknown(enrollment_id=enrollment_id)
    return seen.channel


def apply_release(
    seen: Snapshot, enrollment_id: EnrollmentId, audit: AuditEntry, now: datetime
) -> Change[Enrollment]:
    """Let a device go: from now on it is told to leave management whenever it asks. (2.4 row 12)

    Tokens are retired, not destroyed; commands are cancelled, pushes stop.
    """
    device = _require_device(seen, enrollment_id)
    cause = "the operator released the device"
    row = replace(
        device,
        state=State.REVOKED,
        push=None,
        unlock=None,
        bootstrap=None,
        session=None,
        released_at=now,
    )
    held = (TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP)
    let_go = Change(
        at=now,
        answer=row,
        rows=(row,),
        disable_users=(DisableUsers(device_key=row.key),),
        cancel=(CancelCommands(enrollment_key=row.key, users=True, cause=cause),),
        steps=retire(device, held, cause),
        drop_wakes=(row.key,),
        audit=audit,
    )
    return relationship_ended(seen.escrows, device, Cause.RELEASED, now).into(let_go)


def apply_accept(
    seen: Snapshot,
    enrollment_id: EnrollmentId,
    fingerprint: Fingerprint | None,
    audit: AuditEntry,
    now: datetime,
) -> Change[Enrollment]:
    """Vouch for a certificate: settle a contest for the newcomer, or bind a named one at its next message.

    Raises:
        NothingToAccept: no fingerprint given, and not exactly one newcomer contests the enrollment.
    """
    device = _require_device(seen, enrollment_id)
    if fingerprint is not None:
        row = replace(device, accepted_fingerprint=fingerprint)
        return Change(at=now, answer=row, rows=(row,), audit=audit)
    contenders = [row for row in seen.relationships if row.standing is Standing.CONTESTED]
    if len(contenders) != 1:
        raise NothingToAccept(enrollment_id=enrollment_id, contenders=len(contenders))
    won = newcomer_wins(
        device, contenders[0], now, how="an operator accepted it", proof=Proof.ACCEPTED
    )
    won = taken_over(seen, won, now)
    (*_, current) = won.rows
    return join(won, Change(at=now, answer=current, audit=audit))


def apply_keep(
    seen: Snapshot, enrollment_id: EnrollmentId, audit: AuditEntry, now: datetime
) -> Change[Enrollment]:
    """Settle a contest for the certificate in use: every newcomer is turned away.

    Raises:
        NothingToAccept: nobody contests the enrollment.
    """
    device = _require_device(seen, enrollment_id)
    turned = turn_away(seen, now)
    if not turned.rows:
        raise NothingToAccept(enrollment_id=enrollment_id, contenders=0)
    return join(turned, Change(at=now, answer=device, audit=audit))


def apply_cancel(
    seen: Snapshot, enrollment_id: EnrollmentId, audit: AuditEntry, now: datetime
) -> Change[ClosedCommand]:
    """Cancel one live command, atomically with hand-out; one that was handed out is closed, not recalled. (3.4 rule 10)"""
    channel = require_known(seen, enrollment_id)
    command = seen.reported
    if command is None:
        raise CommandIsOver(enrollment_id=channel.id)
    closed = ClosedCommand(
        uuid=command.uuid,
        enrollment_key=command.enrollment_key,
        request_type=command.request_type,
        state=CommandState.CANCELLED,
        queued_at=command.queued_at,
        closed_at=now,
        source=command.source,
        result='{"cause": "cancelled by an operator"}',
        hand_outs=command.hand_outs,
    )
    left = seen.queue or seen.has_deferred
    drop = (channel.key,) if seen.wake is not None and not left else ()
    cancelled = Change(at=now, answer=closed, close=(closed,), drop_wakes=drop, audit=audit)
    device = seen.device or channel
    news = book_cancelled(seen, device, command, "an operator cancelled its command", now)
    return news.into(cancelled)


def _require_device(seen: Snapshot, enrollment_id: EnrollmentId) -> Enrollment:
    channel = require_known(seen, enrollment_id)
    if channel.is_user_channel:
        raise NotADevice(enrollment_id=enrollment_id)
    return channel
