"""When a channel is pushed again."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.domain.push_schedule import (
    LONGEST_AWAY,
    LONGEST_THROTTLED,
    OVERDUE,
    PushPlan,
    is_repeat,
    plan_after,
    was_never_seen,
)
from ostiary.domain.push_target import PushTarget
from ostiary.protocol.apns.outcome import PushOutcome, PushVerdict
from unit.services.push_world import NOON, PushWorld

HOUR = timedelta(hours=1)


def channel(**changes: object) -> PushTarget:
    return PushTarget.of(PushWorld().add(**changes))  # type: ignore[arg-type]  # fields of the test's choice


def outcome(
    verdict: PushVerdict, reason: str | None = None, died_at: datetime | None = None
) -> PushOutcome:
    return PushOutcome(
        verdict=verdict, apns_id=None, status=None, reason=reason, unregistered_at=died_at
    )


def plan(
    said: PushOutcome,
    row: PushTarget | None = None,
    *,
    attempt: int = 0,
    failures: int = 0,
    jitter: float = 0.0,
    has_work: bool = True,
) -> PushPlan:
    return plan_after(
        said,
        row or channel(),
        attempt=attempt,
        failures=failures,
        now=NOON,
        jitter=jitter,
        has_work=has_work,
    )


def test_an_unanswered_push_is_repeated_ever_more_seldom() -> None:
    """60 s, 5 min, 1 h, then daily. (5.2)"""
    waits = []
    attempt = 0
    for _ in range(6):
        step = plan(outcome(PushVerdict.ACCEPTED), attempt=attempt)
        waits.append(step.next_due_at - NOON)
        attempt = step.attempt
    day = timedelta(days=1)
    assert waits == [timedelta(seconds=60), timedelta(minutes=5), HOUR, day, day, day]


def test_a_device_for_which_nothing_waits_is_pushed_weekly() -> None:
    """The same ladder, and after it a week where there is no work. (5.2)"""
    waits = []
    attempt = 0
    for _ in range(5):
        step = plan(outcome(PushVerdict.ACCEPTED), attempt=attempt, has_work=False)
        waits.append(step.next_due_at - NOON)
        attempt = step.attempt
    week = timedelta(days=7)
    assert waits == [timedelta(seconds=60), timedelta(minutes=5), HOUR, week, week]


@pytest.mark.parametrize(
    ("changes", "repeats"),
    [
        ({}, False),
        ({"due_at": NOON - OVERDUE}, False),
        ({"due_at": NOON - OVERDUE - timedelta(seconds=1)}, True),
        ({"attempt": 1}, True),
        ({"failures": 1}, True),
        ({"has_new_work": False}, True),
    ],
    ids=[
        "new work",
        "new work among much",
        "left over from an outage of ours",
        "unanswered before",
        "refused before",
        "said NotNow, or lost on the way",
    ],
)
def test_everything_but_the_first_push_for_new_work_may_wait_for_its_turn(
    changes: dict[str, Any], repeats: bool
) -> None:
    """What an operator has just queued does not stand behind a storm. (5.2, docs/decisions/0015)"""
    facts = {"attempt": 0, "failures": 0, "has_new_work": True, "due_at": NOON, "now": NOON}
    assert is_repeat(**{**facts, **changes}) is repeats


@pytest.mark.case("AP-12")
def test_a_device_never_seen_since_it_enrolled_is_pushed_again_after_30_seconds() -> None:
    """The first push may have come before APNs knew the device. (TU-19)"""
    never = channel(last_seen_at=None)
    first = plan(outcome(PushVerdict.ACCEPTED), never)
    assert first.next_due_at == NOON + timedelta(seconds=30)
    second = plan(outcome(PushVerdict.ACCEPTED), never, attempt=first.attempt)
    assert second.next_due_at == NOON + timedelta(seconds=60)


def test_never_seen_means_not_since_the_token_update_that_enrolled() -> None:
    """A re-enrolled device's contacts of before do not count, nor does that TokenUpdate itself."""
    assert was_never_seen(channel(last_seen_at=None))
    assert was_never_seen(channel(enrolled_at=NOON, last_seen_at=NOON))
    assert was_never_seen(channel(enrolled_at=NOON, last_seen_at=NOON - HOUR))
    assert not was_never_seen(channel(enrolled_at=NOON - HOUR, last_seen_at=NOON))


@pytest.mark.case("AP-05")
def test_a_throttled_push_backs_off_and_then_counts_as_one_success() -> None:
    """60 s, doubling, at most an hour; the ladder of unanswered pushes starts at its foot. (5.5)"""
    waits, failures = [], 0
    for _ in range(8):
        step = plan(outcome(PushVerdict.THROTTLED, "TooManyRequests"), failures=failures)
        assert step.attempt == 0
        waits.append((step.next_due_at - NOON) // timedelta(seconds=60))
        failures = step.failures
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    success = plan(outcome(PushVerdict.ACCEPTED), failures=failures)
    assert (success.attempt, success.failures) == (1, 0)
    assert success.next_due_at == NOON + timedelta(seconds=60)


@pytest.mark.case("AP-06")
def test_trouble_of_apns_is_tried_again_within_seconds() -> None:
    """Exponential from 5 s. (5.5)"""
    said = outcome(PushVerdict.RETRY, "ServiceUnavailable")
    waits = [plan(said, failures=n).next_due_at - NOON for n in range(4)]
    assert waits == [timedelta(seconds=s) for s in (5, 10, 20, 40)]


@pytest.mark.case("AP-02")
def test_a_token_that_died_after_it_arrived_is_dead() -> None:
    """410 with a timestamp after the token's arrival. (5.5)"""
    died_at = NOON - HOUR  # the token arrived two hours before noon
    step = plan(outcome(PushVerdict.TOKEN_DEAD, "Unregistered", died_at))
    assert (step.dead_reason, step.dead_before) == ("Unregistered", died_at)


@pytest.mark.case("AP-03")
def test_a_token_that_arrived_after_it_died_lives() -> None:
    """410 with an older timestamp is ignored, and the push tried again. (5.5, TU-20)"""
    row = channel()
    assert row.arrived_at is not None
    for died_at in (row.arrived_at, row.arrived_at - HOUR):
        step = plan(outcome(PushVerdict.TOKEN_DEAD, "Unregistered", died_at), row)
        assert step.dead_reason is None
        assert step.next_due_at == NOON + timedelta(seconds=60)


def test_a_bad_token_is_dead_as_of_now() -> None:
    """400 BadDeviceToken has no timestamp: this token is no good. (5.5)"""
    step = plan(outcome(PushVerdict.TOKEN_DEAD, "BadDeviceToken"))
    assert (step.dead_reason, step.dead_before) == ("BadDeviceToken", NOON)


@pytest.mark.case("AP-07")
def test_trouble_with_a_topic_never_touches_the_token() -> None:
    """DeviceTokenNotForTopic: token kept, tried soon once the topic works again. (5.5)"""
    step = plan(outcome(PushVerdict.TOPIC_PAUSED, "DeviceTokenNotForTopic"))
    assert (step.dead_reason, step.dead_before) == (None, None)
    assert step.next_due_at == NOON + timedelta(minutes=5)


def test_a_mistake_of_ours_is_not_repeated_before_tomorrow() -> None:
    assert plan(outcome(PushVerdict.OUR_BUG)).next_due_at == NOON + timedelta(days=1)


@given(
    st.sampled_from(PushVerdict),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0, 1, exclude_max=True),
)
def test_every_plan_lies_ahead_and_within_reach(
    verdict: PushVerdict, attempt: int, failures: int, jitter: float
) -> None:
    """Jitter only delays, and no count, however large, puts a push out of sight."""
    calm = plan(outcome(verdict), attempt=attempt, failures=failures)
    spread = plan(outcome(verdict), attempt=attempt, failures=failures, jitter=jitter)
    assert NOON < calm.next_due_at <= spread.next_due_at <= NOON + timedelta(days=1.1)
    longest = {PushVerdict.RETRY: LONGEST_AWAY, PushVerdict.THROTTLED: LONGEST_THROTTLED}
    if verdict in longest:
        assert spread.next_due_at <= NOON + longest[verdict] * 1.5


def test_a_channel_without_token_row_takes_apples_word() -> None:
    row = replace(channel(), arrived_at=None)
    assert plan(outcome(PushVerdict.TOKEN_DEAD, "Unregistered", NOON), row).dead_before == NOON
