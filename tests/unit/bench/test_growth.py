"""The database that the bench fills by itself hangs together as one that a server filled."""

from collections.abc import Sequence

import apsw
import pytest

from bench.figures import Figures
from bench.growth import compare
from bench.growth_sqlite import add_answered, add_others


@pytest.fixture
def database() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(
        """
        CREATE TABLE enrollment (
            key TEXT PRIMARY KEY, id TEXT UNIQUE, push_record TEXT, unlock_record TEXT, bootstrap_record TEXT, state TEXT
        );
        CREATE TABLE binding (fingerprint TEXT PRIMARY KEY, enrollment_key TEXT);
        CREATE TABLE token (id TEXT PRIMARY KEY, holder TEXT, relationship TEXT, value BLOB);
        CREATE TABLE command_closed (number INTEGER PRIMARY KEY, enrollment_key TEXT, uuid TEXT UNIQUE);
        INSERT INTO enrollment VALUES ('key-0001-a', 'udid0001-a', 'rec-0001-a', NULL, NULL, 'enrolled');
        INSERT INTO binding VALUES ('fing0001-a', 'key-0001-a');
        INSERT INTO token VALUES ('rec-0001-a', 'udid0001-a', 'key-0001-a', x'00');
        INSERT INTO token VALUES ('rec-0000-a', 'udid0001-a', 'key-0001-a', x'00');
        INSERT INTO command_closed VALUES (1, 'key-0001-a', 'uuid0001-a');
        """
    )
    return connection


def test_copies_point_to_each_other_as_the_originals_do(database: apsw.Connection) -> None:
    add_others(database, 5)
    whole = database.execute(
        """
        SELECT count(*) FROM enrollment e JOIN binding b ON b.enrollment_key = e.key
          JOIN token t ON t.id = e.push_record AND t.holder = e.id AND t.relationship = e.key
         WHERE e.state = 'enrolled'
        """
    ).fetchone()
    assert whole == (6,)


def test_tokens_of_the_past_are_not_copied(database: apsw.Connection) -> None:
    """The bench's devices changed theirs far more often than devices do."""
    add_others(database, 5)
    assert database.execute("SELECT count(*) FROM token").fetchone() == (2 + 5,)


def test_answered_commands_are_added_to_each_device(database: apsw.Connection) -> None:
    add_answered(database, 7)
    assert database.execute(
        "SELECT enrollment_key, count(*) FROM command_closed GROUP BY enrollment_key"
    ).fetchall() == [("key-0001-a", 8)]


def laps(contestant: str, costs: Sequence[float], *, bar_ms: float | None = 0.25) -> list[Figures]:
    return [
        Figures(
            contestant=contestant,
            scenario="Idle",
            connections=16,
            requests=100,
            per_second=1000,
            server_ms=cost,
            database_ms=None,
            load_ms=0.01,
            p50_ms=1,
            p95_ms=2,
            p99_ms=3,
            bar_ms=bar_ms,
        )
        for cost in costs
    ]


@pytest.mark.parametrize(
    ("grown", "growth", "holds"),
    [((0.21, 0.80, 0.105), 0.05, True), ((0.24, 0.48, 0.05), 0.2, False)],
)
def test_growth_is_the_median_of_what_each_lap_added(
    grown: list[float], growth: float, holds: bool
) -> None:
    """One odd lap says nothing, and a slow moment hits both databases of a lap. (design.md 8: at most 10 %)"""
    (found,) = compare([*laps("SQLite", (0.2, 0.4, 0.1)), *laps("SQLite, grown", grown)])
    assert found.growth == pytest.approx(growth)
    assert found.holds is holds


def test_growth_without_a_bar_is_shown_and_not_judged() -> None:
    (found,) = compare(
        [*laps("SQLite", (0.2,), bar_ms=None), *laps("SQLite, grown", (0.4,), bar_ms=None)]
    )
    assert found.growth == pytest.approx(1.0)
    assert found.holds is None
