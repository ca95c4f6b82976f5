"""One command queue per channel: what a report does to it, and which command goes out next. (3.3 to 3.6)"""

from dataclasses import replace
from datetime import datetime

from ostiary.domain import alerts, wake
from ostiary.domain.answer import Accepted, Declined, Goodbye, HandOut
from ostiary.domain.command import (
    ClosedCommand,
    CommandState,
    LiveCommand,
    Priority,
    TokenReference,
)
from ostiary.domain.decision import Alert, Change, CommandMove, Snapshot, Wake
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.first_commands import (
    DEVICE_CONFIGURED,
    DEVICE_INFORMATION,
    USER_CONFIGURED,
)
from ostiary.domain.pairing import require_paired, rolled_back
from ostiary.domain.token import KeyedDigest, TokenPointer, TokenProof, TokenState, TokenStep
from ostiary.domain.user_login import require_session
from ostiary.domain.visitor import DeviceIdentity
from ostiary.protocol.mdm.connect import ConnectReport, Status
from ostiary.protocol.mdm.device_information import decode_device_information, learn
from ostiary.values import dataclass

ReportAnswer = Accepted | Declined | Goodbye | HandOut

CLEAR_PASSCODE = "ClearPasscode"
_RELEASES = (DEVICE_CONFIGURED, USER_CONFIGURED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report on the command channel, its result already redacted for keeping."""

    message: ConnectReport
    identity: DeviceIdentity
    auth_token: KeyedDigest | None
    result: str
    now: datetime


def apply_report(seen: Snapshot, report: Report) -> Change[ReportAnswer]:
    """Book what became of the last command, and hand out the next one.

    A report for an unknown or closed command changes nothing and is answered all the same: anything but
    2xx would make the device repeat it for ever. (3.4 rules 2, 3; CQ-07, CQ-08)

    Raises:
        CertificateNotPaired, CertificateSuperseded: never answered 401.
    """
    message, now = report.message, report.now
    device = require_paired(seen, report.identity, message.channel)
    if isinstance(device, Goodbye):
        return Change(at=now, answer=device)
    channel = seen.channel
    if channel is None or not device.state.is_served or not channel.state.is_served:
        # Not enrolled yet, or no longer: nothing to say, and nothing to complain of. (2.4 row 4, CI-26)
        return Change(at=now, answer=Accepted(), seen=channel.key if channel else None)
    if message.channel.is_user_channel and not require_session(channel, report.auth_token):
        return Change(at=now, answer=Declined())
    booked = _proving_push(seen, channel, _book(seen, channel, report))
    served = _hand_out(seen, channel, report, booked)
    base = rolled_back(seen, device)
    if base is device:
        return served
    if channel.key == device.key and served.rows:
        rows = (replace(row, state=base.state, renewing_fingerprint=None) for row in served.rows)
        return replace(served, rows=tuple(rows))
    return replace(served, rows=(*served.rows, base))


def _proving_push(
    seen: Snapshot, channel: Enrollment, booked: Change[ReportAnswer]
) -> Change[ReportAnswer]:
    """A channel that comes after it was pushed has proven the push token; stored is not proven. (design.md 2)"""
    if seen.wake is None or seen.wake.attempt == 0 or channel.push is None:
        return booked
    proof = TokenProof(record_id=channel.push.record_id, proven_by="the device came after a push")
    return replace(booked, proofs=(*booked.proofs, proof))


def _book(seen: Snapshot, channel: Enrollment, report: Report) -> Change[ReportAnswer]:
    """The queue effect of the status alone."""
    message, now = report.message, report.now
    nothing: Change[ReportAnswer] = Change(at=now, answer=Accepted(), seen=channel.key)
    if message.status is Status.IDLE:
        return replace(nothing, lift_deferred=channel.key) if seen.has_deferred else nothing
    command = seen.reported
    if command is None:
        return nothing
    if message.status is Status.NOT_NOW:
        moved = CommandMove(
            uuid=command.uuid,
            to=CommandState.DEFERRED,
            sent_at=command.sent_at,
            hand_outs=command.hand_outs,
        )
        return replace(nothing, moves=(moved,))
    if message.status is Status.ACKNOWLEDGED:
        return _done(nothing, channel, command, report)
    return _failed(nothing, channel, command, report)


def _done(
    nothing: Change[ReportAnswer], channel: Enrollment, command: LiveCommand, report: Report
) -> Change[ReportAnswer]:
    closed = replace(nothing, close=(_close(command, CommandState.DONE, report),))
    if command.request_type == DEVICE_INFORMATION and not channel.is_user_channel:
        return replace(closed, rows=_learned(channel, report))
    if command.request_type in _RELEASES and channel.awaiting:
        return replace(closed, rows=(replace(channel, awaiting=False),))
    if (used := _used_unlock(channel, command)) is not None:
        proof = TokenProof(
            record_id=used.record_id,
            proven_by=f"ClearPasscode {command.uuid} acknowledged",
        )
        trusted = TokenStep(
            record_id=used.record_id, state=TokenState.OK, cause="its last use worked"
        )
        return replace(closed, proofs=(*closed.proofs, proof), steps=(trusted,))
    return closed


def _learned(channel: Enrollment, report: Report) -> tuple[Enrollment, ...]:
    """The device row with what the device said of itself; nothing if it said nothing new."""
    said = decode_device_information(report.message.result)
    facts = channel.facts if said is None else learn(channel.facts, said)
    return () if facts == channel.facts else (replace(channel, facts=facts),)


def _failed(
    nothing: Change[ReportAnswer], channel: Enrollment, command: LiveCommand, report: Report
) -> Change[ReportAnswer]:
    raised: list[Alert] = []
    if report.message.status is Status.COMMAND_FORMAT_ERROR:
        raised.append(alerts.command_malformed(channel, command.request_type))
    if command.request_type in _RELEASES and channel.awaiting:
        raised.append(
            alerts.release_failed(channel, command.request_type, report.message.error_chain)
        )
    steps: tuple[TokenStep, ...] = ()
    if (used := _used_unlock(channel, command)) is not None:
        cause = f"ClearPasscode {command.uuid} failed; the token is kept"
        steps = (TokenStep(record_id=used.record_id, state=TokenState.SUSPECT, cause=cause),)
    closed = _close(command, CommandState.FAILED, report)
    return replace(nothing, close=(closed,), steps=steps, alerts=tuple(raised))


def _used_unlock(channel: Enrollment, command: LiveCommand) -> TokenPointer | None:
    """The unlock token that a ClearPasscode tried, unless a later value came after its hand-out: that one is untried."""
    unlock, sent_at = channel.unlock, command.sent_at
    if command.request_type != CLEAR_PASSCODE or unlock is None or sent_at is None:
        return None
    return unlock if unlock.received_at <= sent_at else None


def _close(command: LiveCommand, state: CommandState, report: Report) -> ClosedCommand:
    return ClosedCommand(
        uuid=command.uuid,
        enrollment_key=command.enrollment_key,
        request_type=command.request_type,
        state=state,
        queued_at=command.queued_at,
        closed_at=report.now,
        source=command.source,
        result=report.result,
        hand_outs=command.hand_outs,
    )


def _hand_out(
    seen: Snapshot, channel: Enrollment, report: Report, booked: Change[ReportAnswer]
) -> Change[ReportAnswer]:
    """The next command in turn, or the end of the session."""
    now = report.now
    command = _next(seen, report)
    if command is None:
        return _end_session(seen, channel, report, booked)
    moved = CommandMove(
        uuid=command.uuid, to=CommandState.SENT, sent_at=now, hand_outs=command.hand_outs + 1
    )
    later = wake.in_session(channel.key, now, seen.wake)
    needs_unlock = command.reference is TokenReference.LATEST_UNLOCK and channel.unlock is not None
    return replace(
        booked,
        answer=HandOut(
            command, channel.unlock.record_id if needs_unlock and channel.unlock else None
        ),
        moves=(*booked.moves, moved),
        wakes=(later,) if later is not None else (),
    )


def _next(seen: Snapshot, report: Report) -> LiveCommand | None:
    message = report.message
    if message.user_configuration:
        # No account exists yet, so every command would be NotNow; an empty body ends the exchange. (3.6)
        return None
    if message.status is Status.IDLE:
        return seen.queue[0] if seen.queue else None
    deferred_left = seen.has_deferred or _defers(seen, report)
    for command in seen.queue:
        is_sent = command.state is CommandState.SENT
        if command.priority is Priority.RELEASE and deferred_left and not is_sent:
            continue  # a waiting device is let go only when nothing is left to send
        return command
    return None


def _defers(seen: Snapshot, report: Report) -> bool:
    return report.message.status is Status.NOT_NOW and seen.reported is not None


def _end_session(
    seen: Snapshot, channel: Enrollment, report: Report, booked: Change[ReportAnswer]
) -> Change[ReportAnswer]:
    """Nothing more to send now: forget the wake, or plan one for what was deferred. (3.4 rule 5)"""
    work_left = (
        _defers(seen, report) or seen.queue or (seen.has_deferred and not booked.lift_deferred)
    )
    if work_left:
        not_now = report.message.status is Status.NOT_NOW
        later: Wake = wake.after_session(channel.key, report.now, ended_on_not_now=not_now)
        return replace(booked, wakes=(later,))
    return replace(booked, drop_wakes=(channel.key,)) if seen.wake is not None else booked
