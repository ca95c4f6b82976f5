"""The state machine of every secret that the server sets by command, as one pure table.

Source: escrowed-secrets.md 4.0.3; the numbers beside the rules are its rows. Nothing here knows what a Recovery Lock
is: a `Manner` says whether a kind can be verified and whether it takes a restart.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid5

from ostiary.domain.escrow import MANNERS, Escrow, EscrowState
from ostiary.domain.token import RecordId, TokenProof, TokenState, TokenStep
from ostiary.errors import Conflicting
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.values import dataclass

ANSWER_WITHIN: Final = timedelta(days=7)
"""How long a device that was handed a new value may be silent before we say that we do not know. (row 9)"""

ASK_OF_RESTART: Final = timedelta(days=1)
"""How often a device is asked whether it has restarted since it took a value that needs it. (4.5)"""
ASK_AGAIN: Final = timedelta(days=1)
"""After a device was asked whether it holds a value, and said neither yes nor no."""
ERRS_FOR_GOOD: Final = timedelta(days=2)
"""How long it must have said neither, three times running, to be counted as a no. (row 7b, "errors for good")"""
_REFUSED_LATE: Final = "the device refused it, and may have taken it unheard before"
_UNCLEAR_FOR_GOOD: Final = 3
"""Times running that a device says neither, before that is its answer."""
_NO_WORD: Final = (
    "the device was asked whether it holds the value, and could not say",
    "the device was asked twice whether it holds the value, and could not say",
    "the device was asked again and again whether it holds the value, and could not say",
)
_NO_WORD_BEFORE: Final = "whether the value before is in force could not be told"
_FOLLOW_UPS: Final = UUID("6f1b7c0e-5f0a-5d5e-9b1d-2f6a1c7d9e11")


class SetUnderWay(Conflicting):
    """Another change of this secret has not been resolved yet."""

    hint = "Wait for the device's answer, or cancel the command with `ostiary queue cancel`; `ostiary token escrow` shows it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """A follow-up: ask the device whether this generation is in force, under this CommandUUID."""

    record_id: RecordId
    uuid: CommandUuid


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one event led to."""

    escrow: Escrow
    steps: tuple[TokenStep, ...] = ()
    proofs: tuple[TokenProof, ...] = ()
    verify: Verify | None = None
    is_uncertain: bool = False
    """It has just become uncertain: an operator is to be told."""


class SecretUncertain(Conflicting):
    """Nobody knows which of two values the device holds, and a change has to name the one in force."""

    hint = (
        "Ask the device first: `ostiary token verify ENROLLMENT KIND`; a firmware password counts only from the next "
        "restart on, which `ostiary enqueue ENROLLMENT security-info` tells. Then set another value."
    )


def ask(escrow: Escrow, candidate: RecordId | None, set_uuid: CommandUuid, now: datetime) -> Turn:
    """Rows 1 and 2: another value is committed and its command queued; without a candidate, the secret is to be cleared.

    A doubt that was there before outlives the refusal of this one, so `trouble` goes along with it.

    Raises:
        SetUnderWay: never two unresolved Sets for one secret. (RL-05)
        SecretUncertain: a kind that can be verified is to be verified first.
    """
    if escrow.state.is_unresolved:
        raise SetUnderWay(kind=escrow.kind.value, state=escrow.state.value)
    can_be_asked = MANNERS[escrow.kind].verify is not None
    if escrow.candidate is not None and can_be_asked and not was_denied(escrow):
        raise SecretUncertain(kind=escrow.kind.value)
    given_up: tuple[TokenStep, ...] = ()
    if escrow.candidate is not None:
        why = "it may be in force: its command was never answered, and another value was asked for"
        given_up = (TokenStep(record_id=escrow.candidate, state=TokenState.SUSPECT, cause=why),)
    asked = _moved(
        escrow,
        EscrowState.CANDIDATE,
        now,
        candidate=candidate,
        set_uuid=set_uuid,
        verify_uuid=None,
        trouble=_doubt_from_before(escrow),
        due_at=None,
    )
    return Turn(escrow=asked, steps=given_up)


def _doubt_from_before(escrow: Escrow) -> str | None:
    """What the next change takes along; how often the device could not say of the last value is no count of the next."""
    if escrow.state is not EscrowState.UNCERTAIN:
        return None
    return _NO_WORD_BEFORE if escrow.unclear else escrow.trouble


def go_out_again(escrow: Escrow, set_uuid: CommandUuid, now: datetime) -> Turn:
    """The same candidate goes out with one more command, while what became of the first is not known. (4.6, DL-03)

    From here on neither a refusal nor a cancelled command proves that the device has not got it.
    """
    twice = "two commands carry it, and no answer to one of them speaks for the other"
    again = _moved(
        escrow,
        EscrowState.UNCERTAIN,
        now,
        set_uuid=set_uuid,
        verify_uuid=None,
        trouble=twice,
        due_at=None,
    )
    return Turn(escrow=again)


def was_denied(escrow: Escrow) -> bool:
    """Whether the device was asked about every value in doubt and said that it holds none of them.

    What waits for a restart cannot be denied before it. (4.5)
    """
    is_asked = escrow.state is EscrowState.UNCERTAIN and escrow.verify_uuid is not None
    return is_asked and not _may_wait_for_restart(escrow)


def hand_out(escrow: Escrow, uuid: CommandUuid, now: datetime) -> Turn:
    """Row 3: from here on the device may hold either value. A second hand-out changes nothing."""
    if escrow.set_uuid != uuid or escrow.state is not EscrowState.CANDIDATE:
        return Turn(escrow=escrow)
    return Turn(escrow=_moved(escrow, EscrowState.IN_FLIGHT, now, due_at=now + ANSWER_WITHIN))


def put_off(escrow: Escrow, uuid: CommandUuid, hand_outs: int, now: datetime) -> Turn:
    """Row 4: NotNow; the device did not take it. If it went out unheard before, that may have been carried out.

    Whoever says NotNow is there, so that the wait for its answer begins anew.
    """
    is_asked = escrow.state in (EscrowState.VERIFYING, EscrowState.CHECKING)
    if is_asked and escrow.verify_uuid == uuid:
        return Turn(escrow=replace(escrow, due_at=now + ANSWER_WITHIN))
    if escrow.set_uuid != uuid or escrow.state is not EscrowState.IN_FLIGHT:
        return Turn(escrow=escrow)
    if hand_outs > 1:
        return Turn(escrow=replace(escrow, due_at=now + ANSWER_WITHIN))
    return Turn(escrow=_moved(escrow, EscrowState.CANDIDATE, now, due_at=None))


def refuse(escrow: Escrow, uuid: CommandUuid, why: str, hand_outs: int, now: datetime) -> Turn:
    """Row 5: the device says Error: the old value stays, and stays visible.

    If the command went out before, the first may have been carried out unheard, and that is why the second fails: the
    old value that it names is not in force any more. Then the device is asked.
    """
    if escrow.set_uuid != uuid or not _waits(escrow):
        return Turn(escrow=escrow)
    if hand_outs <= 1 and escrow.state is not EscrowState.UNCERTAIN:
        return _reject(escrow, f"the device refused it: {why}", now)
    doubt = f"{_REFUSED_LATE}: {why}"
    manner = MANNERS[escrow.kind]
    if manner.takes_restart:
        return Turn(escrow=_waiting_for_restart(escrow, doubt, now))
    if manner.verify is not None:
        return _verifying(replace(escrow, trouble=doubt), uuid, now)
    if escrow.state is EscrowState.UNCERTAIN:
        return Turn(escrow=escrow)
    return _uncertain(escrow, doubt, now)


def acknowledge(
    escrow: Escrow, uuid: CommandUuid, *, took_it: bool | None, hand_outs: int, now: datetime
) -> Turn:
    """Rows 6, 8 and 10: the device says that it took the value; `took_it` is the flag inside the answer, if it has one."""
    if escrow.set_uuid != uuid or not _waits(escrow):
        return Turn(escrow=escrow)
    if took_it is False:
        why = "it acknowledged the command and says that nothing changed"
        return refuse(escrow, uuid, why, hand_outs, now)
    manner = MANNERS[escrow.kind]
    if manner.takes_restart:
        return Turn(escrow=_waiting_for_restart(escrow, escrow.trouble, now))
    if manner.verify is not None:
        return _verifying(escrow, uuid, now)
    return _promote(escrow, f"command {uuid} was acknowledged", now)


def restarted(escrow: Escrow, reported_uuid: CommandUuid, now: datetime) -> Turn:
    """The device reports that no change is pending any more: now it can be asked. (4.5)

    From here on no command is remembered: nothing that went out can still come into force.
    """
    if not _may_wait_for_restart(escrow):
        return Turn(escrow=escrow)
    return _verifying(replace(escrow, set_uuid=None), reported_uuid, now)


def verified(
    escrow: Escrow, uuid: CommandUuid, *, holds: bool, why: str = "", now: datetime
) -> Turn:
    """Rows 7 and 7b: the device was asked about the candidate, or then about the old value, and answered."""
    if escrow.verify_uuid != uuid:
        return Turn(escrow=escrow)
    match escrow.state:
        case EscrowState.VERIFYING if escrow.candidate is None:
            return _cleared_or_not(escrow, uuid, holds=holds, now=now)
        case EscrowState.VERIFYING if holds:
            return _promote(escrow, f"verified by command {uuid}", now)
        case EscrowState.VERIFYING if escrow.current is None:
            said = why or "the device says that it does not hold it"
            return _denied(escrow, uuid, _after_refusal(escrow, said), now)
        case EscrowState.VERIFYING:
            return _checking(escrow, uuid, why or "the device says that it does not hold it", now)
        case EscrowState.CHECKING if holds:
            return _still_held(escrow, uuid, now)
        case EscrowState.CHECKING:
            return _denied(escrow, uuid, why or "the device says that it holds neither", now)
        case EscrowState.PENDING_RESTART if holds and escrow.candidate is not None:
            return _promote(escrow, f"verified by command {uuid}", now)
        case EscrowState.SETTLED:
            return _look_again(escrow, uuid, holds=holds, now=now)
        case _:
            return Turn(escrow=escrow)


def could_not_say(escrow: Escrow, uuid: CommandUuid, why: str, now: datetime) -> Turn:
    """Row 7b: asked whether it holds a value, the device said neither yes nor no: a passing error, or no flag.

    That is no answer, and it is asked again a day later; three times running over `ERRS_FOR_GOOD` count as a no.
    """
    asked = (EscrowState.VERIFYING, EscrowState.CHECKING, EscrowState.SETTLED)
    if escrow.verify_uuid != uuid or escrow.state not in asked:
        return Turn(escrow=escrow)
    times = escrow.unclear + 1
    is_long = now - escrow.since >= ERRS_FOR_GOOD
    if times > _UNCLEAR_FOR_GOOD or (times == _UNCLEAR_FOR_GOOD and is_long):
        return _unclear_for_good(escrow, uuid, f"{_NO_WORD[-1]}: {why}", now)
    times = min(times, _UNCLEAR_FOR_GOOD - 1)
    said = f"{_NO_WORD[times - 1]}: {why}"
    if escrow.state is EscrowState.SETTLED:
        return Turn(escrow=replace(escrow, verify_uuid=None, trouble=said, unclear=times))
    doubted = replace(
        escrow,
        state=EscrowState.UNCERTAIN,
        since=escrow.since if escrow.unclear else now,
        verify_uuid=None,
        trouble=said,
        unclear=times,
        due_at=now + ASK_AGAIN,
    )
    return Turn(escrow=doubted)


def _unclear_for_good(escrow: Escrow, uuid: CommandUuid, why: str, now: datetime) -> Turn:
    """That counts as a no; what is asked next of the same doubt is not waited for so long again."""
    turn = verified(replace(escrow, unclear=0), uuid, holds=False, why=why, now=now)
    was_asked = escrow.state is not EscrowState.SETTLED
    if was_asked and turn.escrow.state is not EscrowState.SETTLED:
        return replace(turn, escrow=replace(turn.escrow, unclear=_UNCLEAR_FOR_GOOD))
    return turn


def lose(escrow: Escrow, why: str, now: datetime) -> Turn:
    """Row 9: no answer will come, or none came for long: nobody knows which value is in force.

    A candidate that never left the server is no question: the device cannot hold it.
    """
    if not escrow.state.is_unresolved:
        return Turn(escrow=escrow)
    if escrow.state is EscrowState.CANDIDATE:
        return _reject(escrow, f"never handed out: {why}", now)
    return _uncertain(escrow, why, now)


def verify_again(escrow: Escrow, uuid: CommandUuid, now: datetime) -> Turn:
    """Somebody wants to know: ask about the candidate where there is one, else about the current value.

    What is settled stays so until the answer, and a rotation that is planned stays planned.
    """
    manner = MANNERS.get(escrow.kind)
    doubtful = escrow.candidate or escrow.current
    if manner is None or manner.verify is None or doubtful is None:
        return Turn(escrow=escrow)
    asked = replace(escrow, verify_uuid=uuid)
    if escrow.state is EscrowState.UNCERTAIN:
        about = EscrowState.CHECKING if escrow.candidate is None else EscrowState.VERIFYING
        asked = _asking(asked, about, now)
    elif escrow.state not in (EscrowState.SETTLED, EscrowState.PENDING_RESTART):
        return Turn(escrow=escrow)
    return Turn(escrow=asked, verify=Verify(record_id=doubtful, uuid=uuid))


def cleared(escrow: Escrow, why: str, now: datetime) -> Turn:
    """The device holds no such secret any more: what it held goes to history, and the next Set names no current one."""
    gone = tuple(
        _gone(record, why) for record in (escrow.current, escrow.candidate) if record is not None
    )
    empty = _moved(
        escrow,
        EscrowState.SETTLED,
        now,
        current=None,
        candidate=None,
        set_uuid=None,
        verify_uuid=None,
        due_at=None,
        trouble=None,
    )
    return Turn(escrow=empty, steps=gone)


def has_none(escrow: Escrow, why: str, now: datetime) -> Turn:
    """The device says that it has no such secret. A value that was on its way came to nothing: people are told why."""
    gone = cleared(escrow, why, now)
    if escrow.candidate is None:
        return gone
    trouble = f"{escrow.trouble}; {why}" if escrow.trouble else why
    return replace(gone, escrow=replace(gone.escrow, trouble=trouble))


def _after_refusal(escrow: Escrow, said: str) -> str:
    """What the device says now, behind what it refused the change with."""
    refused = escrow.trouble or ""
    return f"{refused}; {said}" if refused.startswith(_REFUSED_LATE) else said


def _waits(escrow: Escrow) -> bool:
    """Whether an answer to the Set is expected. One that was put off and repeated may answer as a candidate."""
    return escrow.state in (EscrowState.CANDIDATE, EscrowState.IN_FLIGHT, EscrowState.UNCERTAIN)


def _may_wait_for_restart(escrow: Escrow) -> bool:
    """Whether a value that the device took, or may have taken, may come into force with its next restart."""
    if escrow.state is EscrowState.PENDING_RESTART:
        return True
    is_doubtful = escrow.state is EscrowState.UNCERTAIN and escrow.set_uuid is not None
    return is_doubtful and MANNERS[escrow.kind].takes_restart


def _waiting_for_restart(escrow: Escrow, trouble: str | None, now: datetime) -> Escrow:
    return _moved(
        escrow,
        EscrowState.PENDING_RESTART,
        now,
        verify_uuid=None,
        trouble=trouble,
        due_at=now + ASK_OF_RESTART,
    )


def _verifying(escrow: Escrow, after: CommandUuid, now: datetime) -> Turn:
    """Ask about the candidate; about the old value if that one was to be cleared."""
    asked_about = escrow.candidate or escrow.current
    if asked_about is None:
        return cleared(escrow, "nothing was held", now)
    uuid = follow_up_uuid(escrow, after, "verify")
    asking = _asking(replace(escrow, verify_uuid=uuid), EscrowState.VERIFYING, now)
    return Turn(escrow=asking, verify=Verify(record_id=asked_about, uuid=uuid))


def _asking(escrow: Escrow, about: EscrowState, now: datetime) -> Escrow:
    """The device is asked. The first time that it could not say stays known until it says."""
    since = escrow.since if escrow.unclear else now
    return replace(escrow, state=about, since=since, due_at=now + ANSWER_WITHIN)


def _cleared_or_not(escrow: Escrow, uuid: CommandUuid, *, holds: bool, now: datetime) -> Turn:
    """A secret that the device said it cleared: gone only if the device does not hold it any more."""
    if holds:
        return _reject(escrow, "it was to be cleared; the device holds it", now, proven_by=uuid)
    return cleared(escrow, f"cleared: by command {uuid} the device does not hold it any more", now)


def _still_held(escrow: Escrow, uuid: CommandUuid, now: datetime) -> Turn:
    """The old value is in force; for good, unless the other one may wait for a restart. (4.5)"""
    if not (MANNERS[escrow.kind].takes_restart and escrow.set_uuid is not None):
        return _reject(escrow, "the device still holds the one before", now, proven_by=uuid)
    until_then = "the one before is in force, and the other may be from the next restart on"
    return Turn(escrow=_waiting_for_restart(escrow, until_then, now))


def _checking(escrow: Escrow, after: CommandUuid, why: str, now: datetime) -> Turn:
    if escrow.current is None:
        return Turn(escrow=escrow)
    uuid = follow_up_uuid(escrow, after, "check")
    # A device that says no of the one and can never say of the other is not asked for ever.
    told = replace(escrow, verify_uuid=uuid, trouble=escrow.trouble if escrow.unclear else why)
    asking = _asking(told, EscrowState.CHECKING, now)
    return Turn(escrow=asking, verify=Verify(record_id=escrow.current, uuid=uuid))


def _look_again(escrow: Escrow, uuid: CommandUuid, *, holds: bool, now: datetime) -> Turn:
    """A check that somebody asked for while nothing was under way."""
    answered = replace(escrow, verify_uuid=None)
    if escrow.current is None:
        return Turn(escrow=answered)
    if holds:
        step = TokenStep(
            record_id=escrow.current, state=TokenState.OK, cause="the device says that it holds it"
        )
        settled = replace(answered, trouble=None, unclear=0)
        return Turn(escrow=settled, steps=(step,), proofs=(_proof(escrow.current, uuid),))
    step = TokenStep(
        record_id=escrow.current,
        state=TokenState.SUSPECT,
        cause="the device says that it does not hold it",
    )
    doubted = _moved(
        escrow,
        EscrowState.UNCERTAIN,
        now,
        due_at=None,
        trouble="the device says that it does not hold the value we have",
    )
    return Turn(escrow=doubted, steps=(step,), is_uncertain=True)


def _promote(escrow: Escrow, how: str, now: datetime) -> Turn:
    """Row 8: the candidate is current; the one before is superseded, never deleted at once."""
    if escrow.candidate is None:
        return Turn(escrow=escrow)
    in_force = TokenStep(record_id=escrow.candidate, state=TokenState.OK, cause=how)
    steps: tuple[TokenStep, ...] = (in_force,)
    if escrow.current is not None and escrow.current != escrow.candidate:
        before = TokenStep(
            record_id=escrow.current,
            state=TokenState.SUPERSEDED,
            cause=f"another value took its place: {how}",
        )
        steps = (before, in_force)
    settled = _moved(
        escrow,
        EscrowState.SETTLED,
        now,
        current=escrow.candidate,
        candidate=None,
        set_uuid=None,
        verify_uuid=None,
        trouble=None,
        due_at=None,
    )
    proof = TokenProof(record_id=escrow.candidate, proven_by=how)
    return Turn(escrow=settled, steps=steps, proofs=(proof,))


def _reject(
    escrow: Escrow, why: str, now: datetime, *, proven_by: CommandUuid | None = None
) -> Turn:
    """The candidate goes to history with its reason; what was current is and stays so.

    Only the device's own word ends a doubt about the current value that was there before the candidate.
    """
    steps: tuple[TokenStep, ...] = (
        () if escrow.candidate is None else (_gone(escrow.candidate, why),)
    )
    proofs: tuple[TokenProof, ...] = ()
    if escrow.current is not None and proven_by is not None:
        steps += (
            TokenStep(
                record_id=escrow.current,
                state=TokenState.OK,
                cause="the device says that it holds it",
            ),
        )
        proofs = (_proof(escrow.current, proven_by),)
    is_doubted = proven_by is None and escrow.trouble is not None
    rejected = _moved(
        escrow,
        EscrowState.UNCERTAIN if is_doubted else EscrowState.SETTLED,
        now,
        candidate=None,
        set_uuid=None,
        verify_uuid=None,
        trouble=escrow.trouble if is_doubted else why,
        due_at=None,
    )
    return Turn(escrow=rejected, steps=steps, proofs=proofs)


def _denied(escrow: Escrow, uuid: CommandUuid, why: str, now: datetime) -> Turn:
    """Nothing that we know is in force, says the device: all is shown still, and another value may be set. (7b)"""
    neither = _uncertain(escrow, why, now)
    return replace(neither, escrow=replace(neither.escrow, verify_uuid=uuid))


def _uncertain(escrow: Escrow, why: str, now: datetime) -> Turn:
    """Both values are kept, both are shown, the old one first. (row 9)"""
    doubted = tuple(
        TokenStep(record_id=record, state=TokenState.SUSPECT, cause=why)
        for record in (escrow.current, escrow.candidate)
        if record is not None
    )
    lost = _moved(escrow, EscrowState.UNCERTAIN, now, verify_uuid=None, trouble=why, due_at=None)
    return Turn(escrow=lost, steps=doubted, is_uncertain=True)


def _gone(record_id: RecordId, why: str) -> TokenStep:
    return TokenStep(record_id=record_id, state=TokenState.RETIRED, cause=why)


def _proof(record_id: RecordId, uuid: CommandUuid) -> TokenProof:
    return TokenProof(record_id=record_id, proven_by=f"verified by command {uuid}")


def follow_up_uuid(escrow: Escrow, after: CommandUuid, what: str) -> CommandUuid:
    """The CommandUUID of what follows a report: the same each time, and no other's; a report is booked once.

    Callers choose none of this form (`protocol.mdm.connect.is_derived`). They may use one of their own again once it is
    forgotten, so where the secret stands is part of the name.
    """
    stands = f"{escrow.since.isoformat()} {escrow.verify_uuid}"
    name = f"{escrow.tenant} {escrow.holder} {escrow.kind} {stands} {after} {what}"
    return CommandUuid(str(uuid5(_FOLLOW_UPS, name)).upper())


def _moved(escrow: Escrow, state: EscrowState, now: datetime, **changes: Any) -> Escrow:
    return replace(escrow, state=state, since=now, unclear=0, **changes)
