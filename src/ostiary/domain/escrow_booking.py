"""What reports and hand-outs do to escrowed secrets: which event of which state machine they are."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from ostiary.domain import alerts, escrow_fetched, escrow_machine
from ostiary.domain.command import CommandState, LiveCommand, Priority, Reference
from ostiary.domain.decision import Alert, Change, Snapshot
from ostiary.domain.enrollment import Enrollment, Standing
from ostiary.domain.escrow import (
    MANNERS,
    Escrow,
    EscrowState,
    kind_set_by,
    kind_verified_by,
)
from ostiary.domain.escrow_fetched import Brought
from ostiary.domain.escrow_machine import Turn
from ostiary.domain.first_commands import SECURITY_INFO, STANDARD_PAYLOAD
from ostiary.domain.ledger import SealedToken
from ostiary.domain.token import (
    Holder,
    TokenKind,
    TokenProof,
    TokenRecord,
    TokenState,
    TokenStep,
)
from ostiary.domain.visitor import DeviceIdentity
from ostiary.protocol.mdm import secret_answers
from ostiary.protocol.mdm.connect import CommandUuid, ConnectReport, Status
from ostiary.protocol.mdm.redaction import error_codes
from ostiary.values import dataclass

AnswerT = TypeVar("AnswerT")

ESCROW_WORKER: Final = "escrow"
"""Who asks for what is due, as the source of commands."""
BACK_OFF: Final = timedelta(hours=4)
"""Between two tries of a rotation that the device refused. (4.3 row 10)"""
ERASE_DEVICE: Final = "EraseDevice"
FETCHED: Final = frozenset(
    {TokenKind.FILEVAULT_KEY, TokenKind.BYPASS_DEVICE, TokenKind.FILEVAULT_ENVELOPE}
)
"""The kinds whose values devices make; all others are made here."""
STRAYS: Final = 5
STRAYS_WITHIN: Final = timedelta(days=1)
"""So many values of one kind are kept that come within a day with answers to commands that have ended."""
_LONGEST_WHY: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A report of a command of ours, with the secrets it brought, sealed already."""

    message: ConnectReport
    identity: DeviceIdentity
    brought: tuple[SealedToken, ...]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a report or a hand-out changes around secrets."""

    escrows: tuple[Escrow, ...] = ()
    records: tuple[TokenRecord, ...] = ()
    steps: tuple[TokenStep, ...] = ()
    proofs: tuple[TokenProof, ...] = ()
    enqueue: tuple[LiveCommand, ...] = ()
    alerts: tuple[Alert, ...] = ()

    def __add__(self, other: "News") -> "News":
        later = {one.kind for one in other.escrows}
        return News(
            escrows=(*(one for one in self.escrows if one.kind not in later), *other.escrows),
            records=(*self.records, *other.records),
            steps=_last_of_each((*self.steps, *other.steps)),
            proofs=(*self.proofs, *other.proofs),
            enqueue=(*self.enqueue, *other.enqueue),
            alerts=(*self.alerts, *other.alerts),
        )

    def into(self, change: Change[AnswerT]) -> Change[AnswerT]:
        """The change with all of this added."""
        later = {one.kind for one in self.escrows}
        return replace(
            change,
            escrows=(*(one for one in change.escrows if one.kind not in later), *self.escrows),
            records=(*change.records, *self.records),
            steps=_last_of_each((*change.steps, *self.steps)),
            proofs=(*change.proofs, *self.proofs),
            enqueue=(*change.enqueue, *self.enqueue),
            alerts=(*change.alerts, *self.alerts),
        )


def _last_of_each(steps: tuple[TokenStep, ...]) -> tuple[TokenStep, ...]:
    """One step a record, its last: an engine that writes all in one statement keeps no order among them."""
    return tuple({step.record_id: step for step in steps}.values())


NOTHING: Final = News()


def book_report(seen: Snapshot, device: Enrollment, command: LiveCommand, told: Told) -> News:
    """What the device's word on one live command means for the secrets of this device id.

    A relationship that is contested moves no pointer: what it brings is kept in the ledger, beside.
    """
    if device.standing is not Standing.CURRENT:
        return _kept_aside(device, told)
    match told.message.status:
        case Status.NOT_NOW:
            return _put_off(seen, command, told)
        case Status.ACKNOWLEDGED:
            return _acknowledged(seen, device, command, told)
        case _:
            return _refused(seen, device, command, told)


def book_stray(
    seen: Snapshot, device: Enrollment, told: Told, kept: Sequence[TokenRecord] = ()
) -> News:
    """A secret that came with a report of no command that waits: kept and shown, and promoted by nothing. (row 10)

    The command has ended, or another relationship had it: a device that enrolled in between reports what it still has to.

    `kept` are the generations of these kinds. What is among them is no news, and so many a day are enough: such a
    report can be sent again and again.
    """
    aside, too_many = _limited(_kept_aside(device, told), device, kept, told.now)
    if device.standing is not Standing.CURRENT:
        return aside + too_many
    doubts = too_many
    for record in aside.records:
        before = seen.escrow(record.kind)
        if before is not None and record.digest == before.digest:
            continue
        standing = before or _fresh(device, record.kind, told.now)
        # A change that is under way stays so: it is one at a time. (row 2)
        is_busy = standing.state.is_unresolved
        doubted = replace(
            standing,
            state=standing.state if is_busy else EscrowState.UNCERTAIN,
            since=standing.since if is_busy else told.now,
            candidate=record.id,
            trouble="the device told another value with the answer to a command that no longer waits",
        )
        doubts += News(
            escrows=(doubted,),
            records=(record,),
            steps=escrow_fetched.passed_over(standing, _source(told.message)),
            alerts=(alerts.secret_uncertain(device, doubted),),
        )
    return doubts


def _limited(
    aside: News, device: Enrollment, kept: Sequence[TokenRecord], now: datetime
) -> tuple[News, News]:
    """What of it is to be kept, and the word to an operator if that is not all."""
    known = {(one.kind, one.digest) for one in kept}
    fresh = [one for one in aside.records if (one.kind, one.digest) not in known]
    full = {one.kind for one in fresh if _strays_of_today(one.kind, device, kept, now) >= STRAYS}
    told = tuple(alerts.secret_told_too_often(device, kind) for kind in sorted(full))
    room = tuple(one for one in fresh if one.kind not in full)
    return replace(aside, records=room), News(alerts=told)


def _strays_of_today(
    kind: TokenKind, device: Enrollment, kept: Sequence[TokenRecord], now: datetime
) -> int:
    doubtful = (TokenState.CANDIDATE, TokenState.SUSPECT)
    return sum(
        one.kind is kind
        and one.relationship == device.key
        and one.state in doubtful
        and now - one.received_at < STRAYS_WITHIN
        for one in kept
    )


def book_hand_out(seen: Snapshot, command: LiveCommand, now: datetime) -> News:
    """The command goes out: from here on the device may hold what it carries. (row 3)"""
    kind = kind_set_by(command.request_type)
    before = seen.escrow(kind) if kind is not None else None
    if before is None:
        return NOTHING
    if before.kind in FETCHED:
        after = escrow_fetched.hand_out(before, command.uuid, now)
    else:
        after = escrow_machine.hand_out(before, command.uuid, now).escrow
    return News(escrows=(after,)) if after != before else NOTHING


def book_cancelled(
    seen: Snapshot, device: Enrollment, command: LiveCommand, why: str, now: datetime
) -> News:
    """The command was closed without an answer. (row 9)"""
    for kind in (kind_set_by(command.request_type), kind_verified_by(command.request_type)):
        before = seen.escrow(kind) if kind is not None else None
        if before is not None and command.uuid in (before.set_uuid, before.verify_uuid):
            return lost(device, before, why, now)
    return NOTHING


def lost(device: Enrollment, before: Escrow, why: str, now: datetime) -> News:
    """No answer will come, or none came for long."""
    if before.kind in FETCHED:
        gone = escrow_fetched.lose(before, why, now)
        news = _of_brought(before, gone)
        if gone.escrow.state is EscrowState.UNCERTAIN and before.kind is TokenKind.FILEVAULT_KEY:
            uuid = escrow_machine.follow_up_uuid(before, before.set_uuid or _NO_UUID, "ask")
            news += News(enqueue=(standard_command(device, SECURITY_INFO, uuid, now),))
        return news
    return of_turn(device, before, escrow_machine.lose(before, why, now), now)


def of_turn(device: Enrollment, before: Escrow, turn: Turn, now: datetime) -> News:
    """A step of the state machine with its follow-ups: the question to the device, the word to an operator."""
    raised = (alerts.secret_uncertain(device, turn.escrow),) if turn.is_uncertain else ()
    asked: tuple[LiveCommand, ...] = ()
    if turn.verify is not None and (name := MANNERS[before.kind].verify) is not None:
        password = Reference(key="Password", kind=before.kind, record_id=turn.verify.record_id)
        asked = (standard_command(device, name, turn.verify.uuid, now, password),)
    return News(
        escrows=(turn.escrow,) if turn.escrow != before else (),
        steps=turn.steps,
        proofs=turn.proofs,
        enqueue=asked,
        alerts=raised,
    )


def _put_off(seen: Snapshot, command: LiveCommand, told: Told) -> News:
    kind = kind_set_by(command.request_type) or kind_verified_by(command.request_type)
    before = seen.escrow(kind) if kind is not None else None
    if before is None:
        return NOTHING
    if before.kind in FETCHED:
        after = escrow_fetched.put_off(before, command.uuid, command.hand_outs, told.now)
    else:
        turn = escrow_machine.put_off(before, command.uuid, command.hand_outs, told.now)
        after = turn.escrow
    return News(escrows=(after,)) if after != before else NOTHING


def _refused(seen: Snapshot, device: Enrollment, command: LiveCommand, told: Told) -> News:
    why = _reason(told.message)
    if (kind := kind_verified_by(command.request_type)) is not None:
        before = seen.escrow(kind)
        if before is None:
            return NOTHING
        return _verified(device, before, command, told, holds=None, why=why)
    kind = kind_set_by(command.request_type)
    before = seen.escrow(kind) if kind is not None else None
    if before is None or before.set_uuid != command.uuid:
        return NOTHING
    if command.request_type == ERASE_DEVICE:
        # "Error" does not mean "not erased": only the device's next words tell. (4.7 consequence 1)
        return lost(device, before, f"the device said: {why}; it may have been erased", told.now)
    if before.kind in FETCHED:
        if before.kind is TokenKind.FILEVAULT_KEY and command.hand_outs > 1:
            # The first may have been carried out unheard: that is why the key that the second names fails.
            return lost(
                device, before, f"the device refused it when it came again: {why}", told.now
            )
        refused = escrow_fetched.refuse(before, command.uuid, why, told.now)
        return _tried_again(
            command, News(escrows=(refused,)) if refused != before else NOTHING, told
        )
    turn = escrow_machine.refuse(before, command.uuid, why, command.hand_outs, told.now)
    return _tried_again(command, of_turn(device, before, turn, told.now), told)


def _tried_again(command: LiveCommand, news: News, told: Told) -> News:
    """A rotation that was due, because its value was disclosed, is due again after a while; a person's wish is not. (4.3 row 10)"""
    if command.source != ESCROW_WORKER:
        return news
    later = told.now + BACK_OFF
    return replace(
        news,
        escrows=tuple(
            replace(one, due_at=one.due_at or later) if one.state is EscrowState.SETTLED else one
            for one in news.escrows
        ),
    )


def _acknowledged(seen: Snapshot, device: Enrollment, command: LiveCommand, told: Told) -> News:
    news = _brought(seen, device, told)
    name, result = command.request_type, told.message.result
    if (kind := kind_verified_by(name)) is not None and (before := seen.escrow(kind)) is not None:
        holds = secret_answers.password_verified(result)
        why = "it acknowledged the question, and the answer is not in it"
        return news + _verified(device, before, command, told, holds=holds, why=why)
    kind = kind_set_by(name)
    before = seen.escrow(kind) if kind is not None else None
    if before is not None and before.set_uuid == command.uuid:
        if before.kind in FETCHED:
            return news + _told_nothing(device, before, news, told)
        took_it = secret_answers.password_changed(result)
        turn = escrow_machine.acknowledge(
            before, command.uuid, took_it=took_it, hand_outs=command.hand_outs, now=told.now
        )
        return news + of_turn(device, before, turn, told.now)
    if name == SECURITY_INFO:
        return news + _security_facts(seen, device, command, told, news)
    if (preflight := secret_answers.eacs_preflight(result)) is not None:
        return news + _preflight(device, preflight)
    return news


def _verified(
    device: Enrollment,
    before: Escrow,
    command: LiveCommand,
    told: Told,
    *,
    holds: bool | None,
    why: str,
) -> News:
    """The answer to a question. A device that holds nothing we know is asked whether it has such a secret at all. (4.4)

    Neither yes nor no is None.
    """
    now = told.now
    if holds is None:
        turn = escrow_machine.could_not_say(before, command.uuid, why, now)
    else:
        turn = escrow_machine.verified(before, command.uuid, holds=holds, now=now)
    news = of_turn(device, before, turn, now)
    if turn.escrow == before or not escrow_machine.was_denied(turn.escrow):
        return news
    uuid = escrow_machine.follow_up_uuid(before, command.uuid, "exists")
    return news + News(enqueue=(standard_command(device, SECURITY_INFO, uuid, now),))


def _told_nothing(device: Enrollment, before: Escrow, news: News, told: Told) -> News:
    """Acknowledged, and the answer holds no value that we can keep: what we held stays, a rotation is in doubt. (FV-06)"""
    if any(record.kind is before.kind for record in news.records) or any(
        one.kind is before.kind and not one.state.is_unresolved for one in news.escrows
    ):
        return NOTHING
    if before.kind is TokenKind.BYPASS_DEVICE:
        why = "the device answered without a code"
        settled = escrow_fetched.refuse(before, before.set_uuid or _NO_UUID, why, told.now)
        return News(escrows=(settled,)) if settled != before else NOTHING
    # It was carried out, whatever was said of hand-outs.
    flying = replace(before, state=EscrowState.IN_FLIGHT)
    doubted = lost(
        device, flying, "the device rotated its key and did not tell the new one", told.now
    )
    escrows = doubted.escrows
    return replace(
        doubted,
        escrows=escrows,
        alerts=tuple(alerts.secret_uncertain(device, one) for one in escrows),
    )


def _brought(seen: Snapshot, device: Enrollment, told: Told) -> News:
    news = NOTHING
    for token in told.brought:
        before = seen.escrow(token.kind) or _fresh(device, token.kind, told.now)
        source = _source(told.message)
        came = escrow_fetched.bring(
            before,
            token,
            device,
            told.identity,
            told.now,
            source=source,
            answers=before.set_uuid is not None and before.set_uuid == told.message.command_uuid,
        )
        news += _of_brought(before, came)
        if token.kind is TokenKind.FILEVAULT_ENVELOPE and came.records:
            news += News(alerts=(alerts.envelope_unreadable(device),))
        if token.looks_odd and came.escrow.candidate not in (None, before.candidate):
            news += News(alerts=(alerts.secret_uncertain(device, came.escrow),))
    return news


def _security_facts(
    seen: Snapshot, device: Enrollment, command: LiveCommand, told: Told, news: News
) -> News:
    result, now = told.message.result, told.now
    found = NOTHING
    if (firmware := seen.escrow(TokenKind.FIRMWARE_PASSWORD)) is not None:
        status = secret_answers.firmware_status(result)
        if status is not None and status.change_pending is False:
            is_gone = status.exists is False and escrow_machine.was_denied(firmware)
            turn = (
                escrow_machine.has_none(firmware, "the Mac says that it has no such password", now)
                if is_gone
                else escrow_machine.restarted(firmware, command.uuid, now)
            )
            found += of_turn(device, firmware, turn, now)
    if (lock := seen.escrow(TokenKind.RECOVERY_LOCK)) is not None:
        enabled = secret_answers.recovery_lock_enabled(result)
        found += _recovery_lock(device, lock, command.uuid, enabled=enabled, now=now)
    if (disk := seen.escrow(TokenKind.FILEVAULT_KEY)) is not None and not news.escrows:
        said = "the disk is not encrypted now"
        enabled = secret_answers.filevault_enabled(result)
        is_calm = disk.state is EscrowState.SETTLED and disk.current is not None
        if enabled is False and is_calm and disk.trouble != said:
            found += News(escrows=(replace(disk, trouble=said),))
        if enabled and disk.trouble == said:
            found += News(escrows=(replace(disk, trouble=None),))
    return found


def _recovery_lock(
    device: Enrollment, lock: Escrow, after: CommandUuid, *, enabled: bool | None, now: datetime
) -> News:
    """A lock that the Mac says it has not got: asked about first, and cleared if it is not verified either. (4.4)"""
    if enabled is None or lock.state.is_unresolved:
        return NOTHING
    if escrow_machine.was_denied(lock):
        if enabled:
            return NOTHING
        turn = escrow_machine.has_none(lock, "the Mac says that it has no Recovery Lock", now)
        return of_turn(device, lock, turn, now)
    if enabled and lock.state is EscrowState.SETTLED:
        return NOTHING
    uuid = escrow_machine.follow_up_uuid(lock, after, "look")
    return of_turn(device, lock, escrow_machine.verify_again(lock, uuid, now), now)


def _preflight(device: Enrollment, said: str) -> News:
    """The practical proof of a bootstrap token, or the reason to doubt it. (4.2 row 15, BT-21)"""
    if device.bootstrap is None or said.lower() == "not supported":
        return NOTHING
    record_id = device.bootstrap.record_id
    if said.lower() == "success":
        proof = TokenProof(record_id=record_id, proven_by="EACSPreflight said success")
        sure = TokenStep(record_id=record_id, state=TokenState.OK, cause="EACSPreflight succeeded")
        return News(proofs=(proof,), steps=(sure,))
    cause = f"EACSPreflight said: {said}"
    step = TokenStep(record_id=record_id, state=TokenState.SUSPECT, cause=cause)
    return News(steps=(step,), alerts=(alerts.bootstrap_suspect(device, said),))


def _kept_aside(device: Enrollment, told: Told) -> News:
    source = _source(told.message)
    return News(
        records=tuple(
            escrow_fetched.brought_record(
                token,
                device,
                told.identity,
                told.now,
                source=source,
                state=TokenState.CANDIDATE,
            )
            for token in told.brought
        )
    )


def _of_brought(before: Escrow, came: Brought) -> News:
    return News(
        escrows=(came.escrow,) if came.escrow != before else (),
        records=came.records,
        steps=came.steps,
        proofs=came.proofs,
    )


def _fresh(device: Enrollment, kind: TokenKind, now: datetime) -> Escrow:
    return Escrow(
        tenant=device.tenant,
        holder=Holder(device.id),
        kind=kind,
        state=EscrowState.SETTLED,
        since=now,
    )


def standard_command(
    device: Enrollment, name: str, uuid: CommandUuid, now: datetime, *references: Reference
) -> LiveCommand:
    """A follow-up in its standard form; it asks, so it stands in line with the others."""
    return LiveCommand(
        uuid=uuid,
        enrollment_key=device.key,
        request_type=name,
        priority=Priority.NORMAL,
        payload=STANDARD_PAYLOAD,
        references=references,
        state=CommandState.QUEUED,
        queued_at=now,
        source=ESCROW_WORKER,
    )


def _source(message: ConnectReport) -> str:
    return f"report of command {message.command_uuid}"


def _reason(message: ConnectReport) -> str:
    """The codes of the device's errors, or its status where it names none; its words may quote the secret. (ST-02)"""
    return (error_codes(message.error_chain) or message.status.value)[:_LONGEST_WHY]


_NO_UUID: Final = CommandUuid("")
