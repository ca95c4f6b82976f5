"""One command queue per channel: what a report does to it, and which command goes out next. (3.3 to 3.6)"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from enum import Enum

from ostiary.domain import alerts, wake
from ostiary.domain.answer import Accepted, Declined, Goodbye, HandOut
from ostiary.domain.auto_admin import guid_told
from ostiary.domain.bad_news import bad_news
from ostiary.domain.bypass_codes import code_wanted
from ostiary.domain.command import (
    ClosedCommand,
    CommandState,
    LiveCommand,
    Priority,
    Reference,
)
from ostiary.domain.decision import Alert, Change, CommandMove, Snapshot, Wake
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import kind_set_by, kind_verified_by
from ostiary.domain.escrow_booking import (
    Told,
    book_cancelled,
    book_hand_out,
    book_report,
    book_stray,
)
from ostiary.domain.facts import Fact, FactSheet, SheetName
from ostiary.domain.first_commands import (
    DEVICE_CONFIGURED,
    DEVICE_INFORMATION,
    USER_CONFIGURED,
)
from ostiary.domain.last_look import Look, comes_back_by_profile, why_not_now
from ostiary.domain.ledger import SealedToken
from ostiary.domain.pairing import require_paired, rolled_back
from ostiary.domain.token import (
    KeyedDigest,
    RecordId,
    TokenPointer,
    TokenProof,
    TokenRecord,
    TokenState,
    TokenStep,
)
from ostiary.domain.unopened import Unopened, put_aside
from ostiary.domain.user_login import require_session
from ostiary.domain.visitor import DeviceIdentity
from ostiary.errors import Conflicting
from ostiary.protocol.mdm.connect import ConnectReport, Status
from ostiary.protocol.mdm.device_information import (
    decode_device_information,
    learn,
    learn_hardware,
)
from ostiary.protocol.mdm.nature import Kind, nature_of
from ostiary.protocol.mdm.redaction import render_guarded_result
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
    brought: tuple[SealedToken, ...]
    """Secrets that the report carries, sealed."""
    sheet: tuple[SheetName, Mapping[str, Fact]] | None
    """What the device reports of itself, where this report is one that tells."""
    kept: tuple[TokenRecord, ...] | None = None
    """Once it is known that secrets came with an ended command: what is kept of their kinds."""
    look: Look | None = None
    """Once it is known that a destructive command is about to leave."""
    unopened: Unopened | None = None
    """Once the report is booked: the command that was its answer, and could not be written."""
    now: datetime


class StrayNotLookedAt(Conflicting):
    """Secrets came with a command that has ended, and what is kept of them already is not known yet."""


def apply_report(seen: Snapshot, report: Report) -> Change[ReportAnswer]:
    """Book what became of the last command, and hand out the next one.

    A report for an unknown or closed command changes nothing and is answered all the same: anything but
    2xx would make the device repeat it for ever. (3.4 rules 2, 3; CQ-07, CQ-08)

    Raises:
        CertificateNotPaired, CertificateSuperseded: never answered 401.
        TargetNotLookedAt: ask again with a look.
        StrayNotLookedAt: ask again with what is kept.
        HandedOutElsewhere: the command that could not be written may be carried out all the same.
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
    booked = _booked(seen, device, channel, report)
    served = _hand_out(_as_booked(seen, booked), channel, report, booked)
    base = rolled_back(seen, device)
    if base is device:
        return served
    if channel.key == device.key and served.rows:
        rows = (replace(row, state=base.state, renewing_fingerprint=None) for row in served.rows)
        return replace(served, rows=tuple(rows))
    return replace(served, rows=(*served.rows, base))


def _booked(
    seen: Snapshot, device: Enrollment, channel: Enrollment, report: Report
) -> Change[ReportAnswer]:
    """What the report changes; or, as it is booked already, the end of a command that could not be written."""
    if report.unopened is not None:
        return put_aside(seen, channel, report.unopened, report.now)
    booked = _proving_push(seen, channel, _book(seen, channel, report))
    return _booking_secrets(seen, device, channel, report, booked)


def _proving_push(
    seen: Snapshot, channel: Enrollment, booked: Change[ReportAnswer]
) -> Change[ReportAnswer]:
    """A channel that comes after it was pushed has proven the push token; stored is not proven. (design.md 2)"""
    if seen.wake is None or seen.wake.attempt == 0 or channel.push is None:
        return booked
    proof = TokenProof(record_id=channel.push.record_id, proven_by="the device came after a push")
    return replace(booked, proofs=(*booked.proofs, proof))


def _booking_secrets(
    seen: Snapshot,
    device: Enrollment,
    channel: Enrollment,
    report: Report,
    booked: Change[ReportAnswer],
) -> Change[ReportAnswer]:
    """What the report means for escrowed secrets, and the facts that it tells; nothing for most."""
    if channel.is_user_channel or report.message.status is Status.IDLE:
        return booked
    told = Told(
        message=report.message, identity=report.identity, brought=report.brought, now=report.now
    )
    command = seen.reported
    if command is None or _never_left(command):
        if command is not None:
            told_early = alerts.answer_before_hand_out(device, command.request_type)
            booked = replace(booked, alerts=(*booked.alerts, told_early))
        if not report.brought:
            return booked
        if report.kept is None:
            raise StrayNotLookedAt
        return book_stray(seen, device, told, report.kept).into(booked)
    if seen.escrows or report.brought or report.sheet is not None:
        booked = book_report(seen, device, command, told).into(booked)
    if report.sheet is None or report.message.status is not Status.ACKNOWLEDGED:
        return booked
    name, facts = report.sheet
    before = next((one.facts for one in seen.facts if one.name is name), {})
    if name is SheetName.DEVICE:
        # A report answers only what it was asked.
        facts = learn_hardware(before, facts)
    sheet = FactSheet(enrollment_key=device.key, name=name, facts=facts, reported_at=report.now)
    booked = guid_told(_as_booked(seen, booked), sheet).into(replace(booked, facts=(sheet,)))
    return code_wanted(seen, device, sheet).into(booked)


def _book(seen: Snapshot, channel: Enrollment, report: Report) -> Change[ReportAnswer]:
    """The queue effect of the status alone."""
    message, now = report.message, report.now
    nothing: Change[ReportAnswer] = Change(at=now, answer=Accepted(), seen=channel.key)
    if message.status is Status.IDLE:
        return replace(nothing, lift_deferred=channel.key) if seen.has_deferred else nothing
    command = seen.reported
    if command is None or _never_left(command):
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


def _never_left(command: LiveCommand) -> bool:
    """A command with a secret that no device can have seen, as hand-outs are stored before they leave.

    What is said of it decides nothing: it stays in line. (row 10)
    """
    name = command.request_type
    carries = kind_set_by(name) is not None or kind_verified_by(name) is not None
    return carries and command.hand_outs == 0


def _done(
    nothing: Change[ReportAnswer], channel: Enrollment, command: LiveCommand, report: Report
) -> Change[ReportAnswer]:
    closed = replace(
        nothing,
        close=(_close(command, CommandState.DONE, report),),
        alerts=bad_news(channel, command.request_type, report.message.result),
    )
    if command.request_type == DEVICE_INFORMATION and not channel.is_user_channel:
        return replace(closed, rows=_learned(channel, report))
    if command.request_type in _RELEASES and channel.awaiting:
        # Noted here too: whoever said that it waits may have said so to a node of an earlier version.
        released = replace(channel, awaiting=False, came_erased=not channel.is_user_channel)
        return replace(closed, rows=(released,))
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
        result=_kept_result(command, report),
        hand_outs=command.hand_outs,
    )


def _kept_result(command: LiveCommand, report: Report) -> str:
    """What is kept of the answer: of one to a command with a secret, no words that may quote it. (ST-02)"""
    name = command.request_type
    is_ordinary = nature_of(name).kind is Kind.ORDINARY
    if is_ordinary and kind_set_by(name) is None and kind_verified_by(name) is None:
        return report.result
    return render_guarded_result(report.message)


def _hand_out(
    seen: Snapshot, channel: Enrollment, report: Report, booked: Change[ReportAnswer]
) -> Change[ReportAnswer]:
    """The next command in turn, or the end of the session."""
    now = report.now
    for command in _in_turn(seen, report):
        match _readiness(seen, command):
            case Readiness.READY:
                why = why_not_now(seen, channel, command, report.look, now)
                if why is None:
                    return _handed_out(seen, channel, command, now, booked)
                booked = _withheld(seen, channel, command, now, booked, why)
            case Readiness.WAITS:
                continue
            case Readiness.NEVER:
                why = "the secret that it refers to is not held any more"
                booked = _given_up(seen, channel, command, now, booked, why)
        seen = _as_booked(seen, booked)
    return _end_session(seen, channel, report, booked)


def _handed_out(
    seen: Snapshot,
    channel: Enrollment,
    command: LiveCommand,
    now: datetime,
    booked: Change[ReportAnswer],
) -> Change[ReportAnswer]:
    # One that the device put off was not carried out: it comes again as if for the first time. (4.0.3 row 4)
    was_put_off = command.state is not CommandState.SENT and command.hand_outs > 0
    hand_outs = command.hand_outs if was_put_off else command.hand_outs + 1
    moved = CommandMove(uuid=command.uuid, to=CommandState.SENT, sent_at=now, hand_outs=hand_outs)
    later = wake.in_session(channel.key, now, seen.wake)
    served = replace(
        booked,
        answer=HandOut(
            command,
            _fills(seen, command),
            with_profile=comes_back_by_profile(seen, seen.device or channel, command),
        ),
        moves=(*booked.moves, moved),
        wakes=(later,) if later is not None else (),
    )
    return book_hand_out(seen, command, now).into(served) if seen.escrows else served


class Readiness(Enum):
    """Whether a command can go out now."""

    READY = "ready"
    WAITS = "waits"
    """For a value that another command is about to bring. (AL-03)"""
    NEVER = "never"
    """What it refers to is gone."""


def _readiness(seen: Snapshot, command: LiveCommand) -> Readiness:
    for reference in command.references:
        if reference.optional or reference.is_minted or _filler(seen, reference) is not None:
            continue
        asked = seen.escrow(reference.kind)
        is_coming = asked is not None and asked.state.is_unresolved
        return Readiness.WAITS if is_coming else Readiness.NEVER
    return Readiness.READY


def _given_up(
    seen: Snapshot,
    channel: Enrollment,
    command: LiveCommand,
    now: datetime,
    booked: Change[ReportAnswer],
    why: str,
) -> Change[ReportAnswer]:
    """Nothing can be handed out without what the command refers to; it must not stand before the others for ever."""
    closed = ClosedCommand(
        uuid=command.uuid,
        enrollment_key=command.enrollment_key,
        request_type=command.request_type,
        state=CommandState.CANCELLED,
        queued_at=command.queued_at,
        closed_at=now,
        source=command.source,
        result=json.dumps({"cause": why}),
        hand_outs=command.hand_outs,
    )
    news = book_cancelled(seen, seen.device or channel, command, why, now)
    return news.into(replace(booked, close=(*booked.close, closed)))


def _withheld(
    seen: Snapshot,
    channel: Enrollment,
    command: LiveCommand,
    now: datetime,
    booked: Change[ReportAnswer],
    why: str,
) -> Change[ReportAnswer]:
    """A destructive command whose target is not any more what it was: closed, and somebody is told."""
    closed = _given_up(seen, channel, command, now, booked, why)
    told = alerts.destructive_withheld(seen.device or channel, command.request_type, why)
    return replace(closed, alerts=(*closed.alerts, told))


def _as_booked(seen: Snapshot, booked: Change[ReportAnswer]) -> Snapshot:
    """What the next command is handed out upon: a report may just have moved a secret that it refers to."""
    if not booked.escrows:
        return seen
    moved = {one.kind for one in booked.escrows}
    kept = (one for one in seen.escrows if one.kind not in moved)
    return replace(seen, escrows=(*kept, *booked.escrows))


def _fills(seen: Snapshot, command: LiveCommand) -> tuple[tuple[Reference, RecordId], ...]:
    """The record for each hole of a command: the pinned one, or whatever is current now. (4.0.2 rule 6)"""
    found = ((reference, _filler(seen, reference)) for reference in command.references)
    return tuple(
        (reference, record) for reference, record in found if record is not None and reference.key
    )


def _filler(seen: Snapshot, reference: Reference) -> RecordId | None:
    if seen.channel is not None and seen.channel.is_user_channel:
        return None  # what the device keeps, or keeps secret, is never told to one of its users
    if reference.record_id is not None or seen.device is None:
        return reference.record_id
    if (pointer := seen.device.pointer(reference.kind)) is not None:
        return pointer.record_id
    held = seen.escrow(reference.kind)
    return held.current if held is not None else None


def _in_turn(seen: Snapshot, report: Report) -> Iterator[LiveCommand]:
    message = report.message
    if message.user_configuration:
        # No account exists yet, so every command would be NotNow; an empty body ends the exchange. (3.6)
        return
    if message.status is Status.IDLE:
        yield from seen.queue
        return
    deferred_left = seen.has_deferred or _defers(seen, report)
    for command in seen.queue:
        is_sent = command.state is CommandState.SENT
        if command.priority is Priority.RELEASE and deferred_left and not is_sent:
            continue  # a waiting device is let go only when nothing is left to send
        yield command


def _defers(seen: Snapshot, report: Report) -> bool:
    return report.message.status is Status.NOT_NOW and seen.reported is not None


def _end_session(
    seen: Snapshot, channel: Enrollment, report: Report, booked: Change[ReportAnswer]
) -> Change[ReportAnswer]:
    """Nothing more to send now: forget the wake, or plan one for what was deferred or asked meanwhile. (3.4 rule 5)"""
    if booked.enqueue:
        return replace(booked, wakes=(wake.debounced(channel.key, report.now, None),))
    work_left = (
        _defers(seen, report) or seen.queue or (seen.has_deferred and not booked.lift_deferred)
    )
    if work_left:
        not_now = report.message.status is Status.NOT_NOW
        later: Wake = wake.after_session(channel.key, report.now, ended_on_not_now=not_now)
        return replace(booked, wakes=(later,))
    return replace(booked, drop_wakes=(channel.key,)) if seen.wake is not None else booked
