"""A command that was about to leave and cannot be written: something in it does not open. It ends, and stands before no other.

What is sealed stays as it is. Source: escrowed-secrets.md 4.0.2 rule 4, 4.0.3 rows 5, 7b and 9; docs/divergences.md.
"""

import json
from dataclasses import replace
from datetime import datetime
from typing import Final

from ostiary.domain import alerts, escrow_fetched, escrow_machine
from ostiary.domain.answer import Accepted
from ostiary.domain.command import ClosedCommand, CommandState, LiveCommand
from ostiary.domain.decision import Change, Snapshot
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import Escrow, EscrowState, kind_set_by, kind_verified_by
from ostiary.domain.escrow_booking import (
    BACK_OFF,
    ESCROW_WORKER,
    FETCHED,
    NOTHING,
    News,
    lost,
    of_turn,
    standard_command,
)
from ostiary.domain.first_commands import SECURITY_INFO
from ostiary.domain.token import RecordId, TokenKind, TokenState, TokenStep
from ostiary.errors import Conflicting
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.values import dataclass

_AS_IT_CAME: Final = "the bytes are kept as they are"


class HandedOutElsewhere(Conflicting):
    """The command that could not be written here went out, or was answered, through another connection meanwhile."""

    hint = "The device asks again by itself."


@dataclass(frozen=True, slots=True, kw_only=True)
class Unopened:
    """What stood in the way of a hand-out that was stored already, and how that hand-out was stored."""

    uuid: CommandUuid
    sent_at: datetime
    hand_outs: int
    kind: TokenKind | None
    """The secret that the command carries; None: what was queued does not open itself."""
    record_id: RecordId | None = None
    """Its generation."""
    is_own: bool = False
    """The ledger has it, as this device's of this kind. Another's is not touched, whatever points to it."""
    is_gone: bool = False
    """The ledger does not know it at all."""
    unwritable: str | None = None
    """It did open, and has no place in a command: why."""

    @property
    def sentence(self) -> str:
        """What is wrong, without any value."""
        if self.unwritable is not None:
            what = "what was queued" if self.kind is None else f"the {self.kind} that it carries"
            return f"{what} cannot be written: {self.unwritable.rstrip('.')}"
        if self.kind is None:
            return "what was queued does not open"
        if self.is_gone:
            return f"the {self.kind} that it carries is not in the database any more"
        return f"the stored {self.kind} that it carries does not open"

    @property
    def is_for_ever(self) -> bool:
        """Whether another such command would end the same way: the value that it needs cannot be carried by any."""
        return self.kind is not None and self.unwritable is not None


def put_aside(
    seen: Snapshot, channel: Enrollment, unopened: Unopened, now: datetime
) -> Change[Accepted]:
    """End the command, settle what its secret comes to, and tell an operator; nothing if it has ended meanwhile.

    `seen` was asked for with this command as the reported one.

    Raises:
        HandedOutElsewhere: it may be carried out after all.
    """
    nothing = Change(at=now, answer=Accepted(), seen=channel.key)
    command, device = seen.reported, seen.device or channel
    if command is None:
        return nothing
    stored = (command.state, command.sent_at, command.hand_outs)
    if stored != (CommandState.SENT, unopened.sent_at, unopened.hand_outs):
        raise HandedOutElsewhere(command_uuid=command.uuid)
    closed = ClosedCommand(
        uuid=command.uuid,
        enrollment_key=command.enrollment_key,
        request_type=command.request_type,
        state=CommandState.CANCELLED,
        queued_at=command.queued_at,
        closed_at=now,
        source=command.source,
        result=json.dumps({"cause": f"cancelled instead of handed out: {unopened.sentence}"}),
        hand_outs=command.hand_outs,
    )
    told = alerts.command_does_not_open(
        device, command, unopened.sentence, for_ever=unopened.is_for_ever
    )
    ended = replace(nothing, close=(closed,), alerts=(told,))
    if channel.is_user_channel:
        return ended
    news = _news(seen, device, command, unopened, now)
    if not unopened.is_gone:
        return news.into(ended)
    rows = _without_pointer(device, unopened)
    return _without_record(seen, unopened, news).into(replace(ended, rows=rows))


def _news(
    seen: Snapshot, device: Enrollment, command: LiveCommand, unopened: Unopened, now: datetime
) -> News:
    """What the escrowed secrets come to: the one that the command sets or asks about, and the one that does not open."""
    news = NOTHING
    set_kind = kind_set_by(command.request_type)
    set_before = seen.escrow(set_kind) if set_kind is not None else None
    if set_before is not None and set_before.set_uuid == command.uuid:
        news = _not_set(device, set_before, command, unopened, now)
    asked_kind = kind_verified_by(command.request_type)
    asked_before = seen.escrow(asked_kind) if asked_kind is not None else None
    if asked_before is not None and asked_before.verify_uuid == command.uuid:
        news = _not_asked(device, asked_before, command, unopened, now)
    return news + _doubting(seen, device, unopened, news, now)


def _not_set(
    device: Enrollment, before: Escrow, command: LiveCommand, unopened: Unopened, now: datetime
) -> News:
    """The new value did not leave now. (rows 5 and 9)

    If it went out before, and nobody answered, the device may hold it all the same: then nobody knows.
    """
    why, may_have_left = unopened.sentence, command.hand_outs > 1
    if before.kind in FETCHED:
        if may_have_left:
            return lost(device, before, why, now)
        calm = escrow_fetched.refuse(before, command.uuid, f"never handed out: {why}", now)
        return _due_again(command, before, unopened, News(escrows=(calm,)), now)
    if not may_have_left and before.state is EscrowState.IN_FLIGHT:
        unsent = replace(before, state=EscrowState.CANDIDATE)
        turn = escrow_machine.lose(unsent, why, now)
        return _due_again(command, before, unopened, of_turn(device, before, turn, now), now)
    news = lost(device, before, why, now)
    if unopened.kind is TokenKind.LOCK_PIN and unopened.record_id == before.candidate:
        return news + _given_up(device, before, unopened, news, now)
    return news


def _given_up(
    device: Enrollment, before: Escrow, unopened: Unopened, news: News, now: datetime
) -> News:
    """A PIN that the Mac may have and nobody can read: it stays in doubt, and another lock draws another. (DL-03)"""
    standing, why = next(iter(news.escrows), before), unopened.sentence
    cause = f"it may be in force: its command was never answered; {why}, {_AS_IT_CAME}"
    doubted = replace(
        standing,
        state=EscrowState.UNCERTAIN,
        since=now,
        candidate=None,
        set_uuid=None,
        trouble=standing.trouble or why,
        due_at=None,
    )
    told = () if news.alerts else (alerts.secret_uncertain(device, doubted),)
    return News(escrows=(doubted,), steps=_suspect(unopened, cause), alerts=told)


def _not_asked(
    device: Enrollment, before: Escrow, command: LiveCommand, unopened: Unopened, now: datetime
) -> News:
    """The device cannot be asked about this value: it is asked about the other one, or whether it has such a secret. (7b)

    No answer proves the value gone, so that it stays among those that may be in force.
    """
    if before.state is EscrowState.VERIFYING and before.candidate is None:
        before = replace(before, state=EscrowState.CHECKING)
    if before.state not in (EscrowState.VERIFYING, EscrowState.CHECKING):
        calm = before.state is EscrowState.SETTLED
        trouble = unopened.sentence if calm else before.trouble
        return News(escrows=(replace(before, verify_uuid=None, trouble=trouble),))
    turn = escrow_machine.verified(
        before, command.uuid, holds=False, why=unopened.sentence, now=now
    )
    news = of_turn(device, before, turn, now)
    if not escrow_machine.was_denied(turn.escrow):
        return news
    uuid = escrow_machine.follow_up_uuid(before, command.uuid, "exists")
    return news + News(enqueue=(standard_command(device, SECURITY_INFO, uuid, now),))


def _doubting(
    seen: Snapshot, device: Enrollment, unopened: Unopened, news: News, now: datetime
) -> News:
    """The generation in force that does not open is called doubtful; the same, told once more, will be kept once more.

    One that opens and cannot be written may work all the same: a person types it.
    """
    kind, record_id = unopened.kind, unopened.record_id
    if kind is None or record_id is None or unopened.unwritable is not None:
        return NOTHING
    pointer = device.pointer(kind)
    moved = (one for one in news.escrows if one.kind is kind)
    held = next(moved, seen.escrow(kind))
    is_held = held is not None and held.current == record_id
    if not is_held and (pointer is None or pointer.record_id != record_id):
        return NOTHING
    doubted = News(steps=_suspect(unopened, f"it does not open; {_AS_IT_CAME}"))
    if held is None or held.digest is None:
        return doubted
    doubted += News(escrows=(replace(held, digest=None),))
    if kind is not TokenKind.FILEVAULT_KEY:
        return doubted
    uuid = escrow_machine.follow_up_uuid(held, unopened.uuid, "tell")
    return doubted + News(enqueue=(standard_command(device, SECURITY_INFO, uuid, now),))


def _suspect(unopened: Unopened, cause: str) -> tuple[TokenStep, ...]:
    if unopened.record_id is None or not unopened.is_own:
        return ()
    return (TokenStep(record_id=unopened.record_id, state=TokenState.SUSPECT, cause=cause),)


def _without_record(seen: Snapshot, unopened: Unopened, news: News) -> News:
    """What is gone is pointed to no more: its next step would fail, and with it whatever message brings another value.

    Others of its kind may be gone too, so none is marked.
    """
    others = tuple(one for one in news.escrows if one.kind is not unopened.kind)
    moved = next((one for one in news.escrows if one.kind is unopened.kind), None)
    held = moved or (seen.escrow(unopened.kind) if unopened.kind is not None else None)
    if held is not None and held.current == unopened.record_id:
        held = replace(held, current=None, digest=None)
    if held is not None and held.candidate == unopened.record_id:
        held = replace(held, candidate=None)
    escrows = others if held is None else (*others, held)
    return replace(news, escrows=escrows, steps=(), proofs=())


def _without_pointer(device: Enrollment, unopened: Unopened) -> tuple[Enrollment, ...]:
    pointer = None if unopened.kind is None else device.pointer(unopened.kind)
    if pointer is None or pointer.record_id != unopened.record_id:
        return ()
    match unopened.kind:
        case TokenKind.UNLOCK:
            return (replace(device, unlock=None),)
        case TokenKind.BOOTSTRAP:
            return (replace(device, bootstrap=None),)
        case _:
            return ()


def _due_again(
    command: LiveCommand, before: Escrow, unopened: Unopened, news: News, now: datetime
) -> News:
    """A rotation that was due is due again; not if what is in force does not open, for then it would fail for ever."""
    is_hopeless = unopened.record_id is not None and unopened.record_id == before.current
    if command.source != ESCROW_WORKER or is_hopeless:
        return news
    later = now + BACK_OFF
    return replace(
        news,
        escrows=tuple(
            replace(one, due_at=one.due_at or later) if one.state is EscrowState.SETTLED else one
            for one in news.escrows
        ),
    )
