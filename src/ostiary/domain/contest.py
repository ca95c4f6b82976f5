"""Contests: an unproven newcomer stands beside a live relationship until something settles it. (2.3)"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar

from ostiary.domain import alerts, wake
from ostiary.domain.decision import (
    CancelCommands,
    Change,
    DisableUsers,
    Snapshot,
    Supersede,
    Wake,
)
from ostiary.domain.enrollment import Enrollment, Proof, Standing, State
from ostiary.domain.escrow_lifecycle import Cause, after_contest, relationship_ended
from ostiary.domain.ledger import last_steps, retire
from ostiary.domain.policy import Policy
from ostiary.domain.token import TokenKind

AnswerT = TypeVar("AnswerT")

_HANDED_OVER: Final = (TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP)
_VOUCHED: Final = (Proof.ACCEPTED, Proof.PROVEN)


def other_side(seen: Snapshot, device: Enrollment) -> Enrollment | None:
    """The current relationship that a contested one stands beside."""
    return next(
        (
            row
            for row in seen.relationships
            if row.standing is Standing.CURRENT and row.key != device.key
        ),
        None,
    )


def settling(
    rule: Callable[[Snapshot], Change[AnswerT]], policy: Policy, now: datetime
) -> Callable[[Snapshot], Change[AnswerT]]:
    """Let a rule see the newcomer as current if the old side left or fell silent; store both in one change."""

    def settled(seen: Snapshot) -> Change[AnswerT]:
        device = seen.device
        if device is None or not contends(device):
            return rule(seen)
        old = other_side(seen, device)
        if _is_vouched_for(old, seen):
            won = newcomer_wins(
                old, device, now, how="an operator accepted it", proof=Proof.ACCEPTED
            )
        elif (how := _how_it_ended(old, device, policy, now)) is not None:
            won = newcomer_wins(old, device, now, how=how, proof=device.proof)
        elif old is not None and _is_quiet(old, device, policy, now):
            asked = _ask(old, device, now)
            return join(asked, rule(_with_newcomer(seen, asked)))
        else:
            return rule(seen)
        won = taken_over(seen, won, now)
        return join(won, rule(_as_won(seen, won)))

    return settled


def contends(row: Enrollment) -> bool:
    """Whether this relationship stands beside another and is still there to take its place."""
    return row.standing is Standing.CONTESTED and (
        row.state.is_served or row.state is State.PENDING
    )


def _is_vouched_for(old: Enrollment | None, seen: Snapshot) -> bool:
    """Whether an operator named the newcomer's certificate: how one of several newcomers is chosen."""
    accepted = old.accepted_fingerprint if old is not None else None
    return seen.binding is not None and seen.binding.fingerprint == accepted


def _as_won(seen: Snapshot, won: Change[None]) -> Snapshot:
    """What the rule sees: the newcomer is current, and the old side no longer among the relationships."""
    (*_, current) = won.rows
    settled = {row.key for row in won.rows}
    others = (row for row in seen.relationships if row.key not in settled)
    moved = {one.kind for one in won.escrows}
    escrows = (*(one for one in seen.escrows if one.kind not in moved), *won.escrows)
    shown = _with_newcomer(seen, won)
    return replace(shown, relationships=(current, *others), escrows=escrows)


def _with_newcomer(seen: Snapshot, change: Change[None]) -> Snapshot:
    """What the rule sees: the newcomer as the change left it."""
    (*_, newcomer) = change.rows
    on_device = seen.channel is not None and seen.channel.key == newcomer.key
    return replace(seen, device=newcomer, channel=newcomer if on_device else seen.channel)


def _how_it_ended(
    old: Enrollment | None, newcomer: Enrollment, policy: Policy, now: datetime
) -> str | None:
    if old is None:
        return "no other side is left"
    if old.state is State.REVOKED:
        return None  # an operator let this enrollment go; only an operator may give it to somebody
    if not old.state.is_served and old.state is not State.PENDING:
        return "the other side is no longer enrolled"
    last = _last_word(old, newcomer)
    if _is_quiet(old, newcomer, policy, now) and _was_asked(old, last, now):
        return f"the other side has been silent since {last:%Y-%m-%d %H:%M} UTC"
    return None


def _last_word(old: Enrollment, newcomer: Enrollment) -> datetime:
    """Since when the old side is silent, as far as this contest counts."""
    began = newcomer.contested_at or newcomer.authenticated_at
    return max(began, old.last_seen_at or began)


def _is_quiet(old: Enrollment, newcomer: Enrollment, policy: Policy, now: datetime) -> bool:
    if old.state is State.REVOKED:
        return False
    return now - _last_word(old, newcomer) >= policy.contest_silence


def _was_asked(old: Enrollment, since: datetime, now: datetime) -> bool:
    """Whether the old side could have known that it should speak: a device comes only when it is pushed.

    Without an address, or with one that APNs says is dead, asking is over before it began.
    """
    if old.push is None or old.push_dead_since is not None:
        return True
    # A push in the future was noted before the clock was set back, and says nothing of this contest.
    return old.pushed_at is not None and since < old.pushed_at <= now


def _ask(old: Enrollment, newcomer: Enrollment, now: datetime) -> Change[None]:
    """Push the old side; its silence counts from now on, so that no healthy device is lost for want of a question."""
    return Change(
        at=now,
        answer=None,
        rows=(replace(newcomer, contested_at=now),),
        wakes=(Wake(enrollment_key=old.key, due_at=now),),
    )


def asking(current: Enrollment, now: datetime) -> tuple[Wake, ...]:
    """The push to the old side when a contest begins."""
    return (Wake(enrollment_key=current.key, due_at=now),) if current.push is not None else ()


def newcomer_wins(
    old: Enrollment | None, newcomer: Enrollment, now: datetime, *, how: str, proof: Proof
) -> Change[None]:
    """The newcomer becomes the current relationship; the old one ends and its tokens go to history, unoffered."""
    current = replace(newcomer, standing=Standing.CURRENT, contested_at=None, proof=proof)
    if old is None:
        return Change(
            at=now, answer=None, rows=(current,), alerts=(alerts.contest_settled(current, how),)
        )
    ended = _end(old, now, "another certificate took this enrollment over")
    return replace(
        ended, rows=(*ended.rows, current), alerts=(alerts.contest_settled(current, how),)
    )


def taken_over(seen: Snapshot, won: Change[None], now: datetime) -> Change[None]:
    """The same, with what it means for the secrets of the device id. (escrowed-secrets.md 4.13)

    One that waits in Setup Assistant, or was released from there meanwhile, has been erased: if somebody vouched for it.
    A stranger can say so too, and win because the true device is silent or left; then what may open a disk stays in force.
    """
    (*_, current) = won.rows
    came_erased = current.awaiting or current.came_erased
    is_erased = came_erased and current.proof in _VOUCHED
    cause = Cause.ERASED if is_erased else Cause.ENROLLED_AGAIN
    asked = after_contest(seen.escrows, current, now)
    taken = (relationship_ended(seen.escrows, current, cause, now) + asked).into(won)
    if not asked.enqueue:
        return taken
    return replace(taken, wakes=(*taken.wakes, wake.debounced(current.key, now, None)))


def turn_away(seen: Snapshot, now: datetime) -> Change[None]:
    """End every newcomer's side: proof, or an operator, has spoken for somebody else."""
    turned: Change[None] = Change(at=now, answer=None)
    for row in seen.relationships:
        if row.standing is Standing.CONTESTED:
            turned = join(_end(row, now, "another certificate was proven"), turned)
    return turned


def _end(row: Enrollment, now: datetime, cause: str) -> Change[None]:
    """One side of a contest is over: its certificates are superseded, its tokens go to history."""
    ended = replace(
        row,
        standing=Standing.ENDED,
        # A released device goes on being told so: it may not have asked yet. (2.4 row 12)
        state=row.state if row.state is State.REVOKED else State.OUT,
        push=None,
        unlock=None,
        bootstrap=None,
        session=None,
        accepted_fingerprint=None,
    )
    return Change(
        at=now,
        answer=None,
        rows=(ended,),
        supersede=(Supersede(enrollment_key=row.key, keep=None, cause=cause),),
        disable_users=(DisableUsers(device_key=row.key),),
        cancel=(CancelCommands(enrollment_key=row.key, users=True, cause=cause),),
        steps=retire(row, _HANDED_OVER, cause),
        drop_wakes=(row.key,),
    )


def join(first: Change[None], then: Change[AnswerT]) -> Change[AnswerT]:
    """Both changes as one; where both write a row, the later one has it.

    Only what this module makes comes first, so single-valued parts do not collide.
    """
    later = {row.key for row in then.rows}
    woken = {one.enrollment_key for one in first.wakes}
    rewoken = {one.enrollment_key for one in then.wakes}
    moved = {one.kind for one in then.escrows}
    return replace(
        then,
        rows=(*(row for row in first.rows if row.key not in later), *then.rows),
        supersede=(*first.supersede, *then.supersede),
        bind=(*first.bind, *then.bind),
        disable_users=(*first.disable_users, *then.disable_users),
        cancel=(*first.cancel, *then.cancel),
        steps=last_steps((*first.steps, *then.steps)),
        records=(*first.records, *then.records),
        enqueue=(*first.enqueue, *then.enqueue),
        wakes=(*(one for one in first.wakes if one.enrollment_key not in rewoken), *then.wakes),
        drop_wakes=(*first.drop_wakes, *(key for key in then.drop_wakes if key not in woken)),
        alerts=(*first.alerts, *then.alerts),
        escrows=(*(one for one in first.escrows if one.kind not in moved), *then.escrows),
        proofs=(*first.proofs, *then.proofs),
    )
