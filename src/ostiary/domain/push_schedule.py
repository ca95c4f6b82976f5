"""When a channel is pushed again, as tables: it answered nothing, APNs was busy, APNs was away, the token died."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.enrollment import Enrollment
from ostiary.protocol.apns.outcome import PushOutcome, PushVerdict

VALID_FOR: Final = timedelta(days=7)
"""How long APNs keeps a push for a device that is offline. (5.1)"""

UNANSWERED: Final = (timedelta(seconds=60), timedelta(minutes=5), timedelta(hours=1))
UNANSWERED_NEVER_SEEN: Final = (timedelta(seconds=30), *UNANSWERED)
DAILY: Final = timedelta(days=1)
"""After the last rung of either ladder, and after an answer that says we are at fault."""

THROTTLED_FIRST: Final = timedelta(seconds=60)
AWAY_FIRST: Final = timedelta(seconds=5)
LONGEST_BACK_OFF: Final = timedelta(hours=1)
PAUSED: Final = timedelta(minutes=5)
"""A paused topic is not claimed; once it works again its channels are due soon, not tomorrow."""

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


def was_never_seen(channel: Enrollment) -> bool:
    """Whether the channel has made no contact since the TokenUpdate that enrolled it."""
    return channel.last_seen_at is None or (
        channel.enrolled_at is not None and channel.last_seen_at <= channel.enrolled_at
    )


def plan_after(
    outcome: PushOutcome,
    channel: Enrollment,
    *,
    attempt: int,
    failures: int,
    now: datetime,
    jitter: float,
) -> PushPlan:
    """What follows `outcome`, which came `now`.

    `attempt` counts accepted pushes since the last contact and `failures` refused ones in a row, both
    before this one. `jitter` is a draw from [0, 1); it only ever delays.

    Source: check-in-and-commands.md 5.2 and 5.5, AP-12.
    """
    if outcome.verdict is PushVerdict.ACCEPTED:
        ladder = UNANSWERED_NEVER_SEEN if was_never_seen(channel) else UNANSWERED
        wait = ladder[attempt] if attempt < len(ladder) else DAILY
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
            return _doubled(AWAY_FIRST, failures, jitter)
        case PushVerdict.TOPIC_PAUSED:
            return _spread(PAUSED, _BACK_OFF_SPREAD, jitter)
        case PushVerdict.OUR_BUG:
            return _spread(DAILY, _LADDER_SPREAD, jitter)
        case _:  # throttled; or a death that came before the token, which is tried again as gently
            return _doubled(THROTTLED_FIRST, failures, jitter)


def _dead_before(outcome: PushOutcome, channel: Enrollment, now: datetime) -> datetime | None:
    """The moment before which the token died; None if it lives, or arrived after APNs' moment. (AP-02, AP-03)"""
    if outcome.verdict is not PushVerdict.TOKEN_DEAD:
        return None
    died_at = outcome.unregistered_at or now
    came_back = channel.push is not None and channel.push.arrived_at >= died_at
    return None if came_back else died_at


def _doubled(first: timedelta, failures: int, jitter: float) -> timedelta:
    wait = min(first * 2 ** min(failures, _MOST_DOUBLINGS), LONGEST_BACK_OFF)
    return _spread(wait, _BACK_OFF_SPREAD, jitter)


def _spread(wait: timedelta, share: float, jitter: float) -> timedelta:
    return wait + wait * (share * jitter)
