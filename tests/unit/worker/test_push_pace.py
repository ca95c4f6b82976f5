"""How fast pushes are repeated. (check-in-and-commands.md 5.2, docs/decisions/0015)"""

from collections import Counter
from datetime import datetime, timedelta

from ostiary.worker.push_pace import RepeatPace
from unit.services.push_world import NOON

SECOND = timedelta(seconds=1)


def storm(pace: RepeatPace, size: int, now: datetime = NOON) -> list[datetime | None]:
    return [pace.put_off(now) for _ in range(size)]


def test_a_storm_is_spread_over_as_many_turns_as_it_needs() -> None:
    """100,000 devices that said NotNow in one second come back over a thousand."""
    turns = storm(RepeatPace(100), 100_000)
    assert turns[:100] == [None] * 100, "what nobody used for a second goes at once"
    later = [turn for turn in turns[100:] if turn is not None]
    assert len(later) == 99_900
    assert later == sorted(later)
    in_each_second = Counter((turn - NOON) // SECOND for turn in later)
    assert max(in_each_second.values()) <= 100
    assert later[-1] == NOON + timedelta(seconds=999)


def test_whoever_comes_at_his_turn_is_let_go() -> None:
    pace = RepeatPace(10)
    turns = sorted(turn for turn in storm(pace, 200) if turn is not None)
    assert [pace.put_off(turn) for turn in turns] == [None] * len(turns)


def test_over_any_time_no_more_go_than_the_pace_allows() -> None:
    """However often one asks."""
    pace, gone = RepeatPace(10), 0
    for step in range(1000):
        gone += pace.put_off(NOON + timedelta(milliseconds=10 * step)) is None
    assert 100 <= gone <= 110


def test_a_few_repeats_do_not_wait() -> None:
    pace = RepeatPace(10)
    for minute in range(5):
        assert storm(pace, 10, NOON + timedelta(minutes=minute)) == [None] * 10


def test_a_clock_that_is_set_stops_nobody_for_long() -> None:
    """Forward or back, turns begin anew."""
    pace = RepeatPace(10)
    storm(pace, 100)
    for moment in (NOON + timedelta(days=365), NOON - timedelta(days=365)):
        turns = storm(pace, 30, moment)
        assert turns[:10] == [None] * 10
        assert all(turn is None or turn <= moment + timedelta(hours=1) for turn in turns)


def test_nobody_is_put_off_for_more_than_an_hour() -> None:
    """Then turns are shared, and whoever comes too soon is put off once more."""
    turns = storm(RepeatPace(1), 10_000)
    assert all(turn is None or turn <= NOON + timedelta(hours=1) for turn in turns)
