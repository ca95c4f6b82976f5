"""When a channel is pushed again, as tables: it answered nothing, APNs was busy, APNs was away, the token died."""

from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.push_target import PushTarget
from ostiary.protocol.apns.outcome import PushOutcome, PushVerdict
from ostiary.values import dataclass

VALID_FOR: Final = timedelta(days=7)
"""How long APNs keeps a push for a device that is offline. (5.1)"""

UNANSWERED: Final = (timedelta(seconds=60), timedelta(minutes=5), timedelta(hours=1))
UNANSWERED_NEVER_SEEN: Final = (timedelta(seconds=30), *UNANSWERED)
DAILY: Final = timedelta(days=1)
"""After the last rung of either ladder while work is pending, and after an answer that says we are at fault."""
WEEKLY: Final = timedelta(days=7)
"""The same where nothing is pending, and for devices that nobody wanted anything of for so long."""
FURTHEST: Final = timedelta(days=8)
"""No wake is planned further ahead; one that is was planned by a clock that has been set back since, and is due."""

THROTTLED_FIRST: Final = timedelta(seconds=60)
LONGEST_THROTTLED: Final = timedelta(hours=1)
AWAY_FIRST: Final = timedelta(seconds=5)
LONGEST_AWAY: Final = timedelta(minutes=15)
"""An outage that ends is found out so soon; what then comes at once is paced. (docs/decisions/0015)"""
PAUSED: Final = timedelta(minutes=5)
"""A paused topic is not pushed; once it works again its channels are due soon, not tomorrow."""
NOT_YET: Final = timedelta(minutes=1)
"""A user of a device that is still enrolling: looked at again soon, for the device is about to be reachable. (2.4)"""
UNREACHABLE: Final = timedelta(days=1)
"""Until a channel without a living push token is looked at again: its TokenUpdate wakes it anyway."""
OVERDUE: Final = timedelta(minutes=10)
"""A first push that is this late comes after an outage of ours, together with all the others."""

_LADDER_SPREAD: Final = 0.1
_BACK_OFF_SPREAD: Final = 0.5
_MOST_DOUBLINGS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPlan:
    """What follows a push: the counters, the next time, and whether the token is dead."""

    attempt: int
    failures: int
    next_due_at: datetime
    dead_reason: str | None = None
    dead_before: datetime | None = None


def was_never_seen(channel: PushTarget) -> bool:
    """Whether the channel has made no contact since the TokenUpdate that enrolled it."""
    return channel.last_seen_at is None or (
        channel.enrolled_at is not None and channel.last_seen_at <= channel.enrolled_at
    )


def is_repeat(
    *, attempt: int, failures: int, has_new_work: bool, due_at: datetime, now: datetime
) -> bool:
    """Whether a push may wait for its turn among others: all but the first for work that was never handed out.

    So the end of an outage, or of ours, and a fleet that said NotNow make no storm, and a command that an operator
    has just queued does not stand behind one. (5.2, docs/decisions/0015)
    """
    return attempt > 0 or failures > 0 or not has_new_work or now - due_at > OVERDUE


def plan_after(
    outcome: PushOutcome,
    channel: PushTarget,
    *,
    attempt: int,
    failures: int,
    now: datetime,
    jitter: float,
    has_work: bool = True,
) -> PushPlan:
    """What follows `outcome`, which came `now`.

    `attempt` counts accepted pushes since the last contact and `failures` refused ones in a row, both
    before this one. `jitter` is a draw from [0, 1); it only ever delays. `has_work` says whether a command waits.

    Source: check-in-and-commands.md 5.2 and 5.5, AP-12.
    """
    if outcome.verdict is PushVerdict.ACCEPTED:
        ladder = UNANSWERED_NEVER_SEEN if was_never_seen(channel) else UNANSWERED
        rest = DAILY if has_work else WEEKLY
        wait = ladder[attempt] if attempt < len(ladder) else rest
        due = now + _spread(wait, _LADDER_SPREAD, jitter)
        return PushPlan(attempt=attempt + 1, failures=0, next_due_at=due)
    dead_before = _dead_before(outcome, channel, now)
    wait = DAILY if dead_before else _wait_after_failure(outcome.verdict, failures, jitter)
    return PushPlan(
        attempt=attempt,
        failures=failures + 1,
        next_due_at=now + wait,
        dead_reason=(outcome.reason or "unregistered") if dead_before else None,
        dead_before=dead_before,
    )


def _wait_after_failure(verdict: PushVerdict, failures: int, jitter: float) -> timedelta:
    match verdict:
        case PushVerdict.RETRY:
            return _doubled(AWAY_FIRST, LONGEST_AWAY, failures, jitter)
        case PushVerdict.TOPIC_PAUSED:
            return _spread(PAUSED, _BACK_OFF_SPREAD, jitter)
        case PushVerdict.OUR_BUG:
            return _spread(DAILY, _LADDER_SPREAD, jitter)
        case _:  # throttled; or a death that came before the token, which is tried again as gently
            return _doubled(THROTTLED_FIRST, LONGEST_THROTTLED, failures, jitter)


def _dead_before(outcome: PushOutcome, channel: PushTarget, now: datetime) -> datetime | None:
    """The moment before which the token died; None if it lives, or arrived after APNs' moment. (AP-02, AP-03)"""
    if outcome.verdict is not PushVerdict.TOKEN_DEAD:
        return None
    died_at = outcome.unregistered_at or now
    came_back = channel.arrived_at is not None and channel.arrived_at >= died_at
    return None if came_back else died_at


def _doubled(first: timedelta, longest: timedelta, failures: int, jitter: float) -> timedelta:
    wait = min(first * 2 ** min(failures, _MOST_DOUBLINGS), longest)
    return _spread(wait, _BACK_OFF_SPREAD, jitter)


def _spread(wait: timedelta, share: float, jitter: float) -> timedelta:
    return wait + wait * (share * jitter)
