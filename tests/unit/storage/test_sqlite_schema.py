"""Migrations run once, in order, and never on a database that is not ours to touch."""

import re
from pathlib import Path

import apsw
import pytest

from conformance.storage_values import NOON, MovedClock
from ostiary.storage.errors import SchemaAltered, SchemaTooNew
from ostiary.storage.sqlite.connection import open_writer
from ostiary.storage.sqlite.schema import Migration, migrate, shipped_migrations
from ostiary.storage.sqlite.storage import open_sqlite

FIRST = Migration(name="0001_before_one.sql", script="CREATE TABLE one (a TEXT) STRICT;")
SECOND = Migration(name="0002_after_two.sql", script="CREATE TABLE two (b TEXT) STRICT;")
BROKEN = Migration(
    name="0002_after_two.sql", script="CREATE TABLE two (b TEXT) STRICT; CREATE NONSENSE;"
)


def tables(connection: apsw.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    return {name for (name,) in rows} - {"sqlite_sequence"}


@pytest.fixture
def connection(path: Path) -> apsw.Connection:
    return open_writer(path)


def test_a_fresh_database_goes_through_every_step_once(connection: apsw.Connection) -> None:
    assert migrate(connection, NOON, (FIRST, SECOND)) == (FIRST.name, SECOND.name)
    assert migrate(connection, NOON, (FIRST, SECOND)) == ()
    assert tables(connection) == {"migration", "one", "two"}
    connection.close()


def test_an_older_database_goes_through_what_is_new(connection: apsw.Connection) -> None:
    migrate(connection, NOON, (FIRST,))
    connection.execute("INSERT INTO one VALUES ('kept')")
    assert migrate(connection, NOON, (FIRST, SECOND)) == (SECOND.name,)
    assert connection.execute("SELECT a FROM one").fetchall() == [("kept",)]
    connection.close()


def test_a_newer_database_is_not_touched(connection: apsw.Connection) -> None:
    migrate(connection, NOON, (FIRST, SECOND))
    with pytest.raises(SchemaTooNew, match="0002_after_two"):
        migrate(connection, NOON, (FIRST,))
    connection.close()


def test_a_step_whose_text_changed_is_not_taken_for_the_same(
    connection: apsw.Connection,
) -> None:
    migrate(connection, NOON, (FIRST,))
    edited = Migration(name=FIRST.name, script=FIRST.script + "-- edited")
    with pytest.raises(SchemaAltered, match="0001_before_one"):
        migrate(connection, NOON, (edited, SECOND))
    assert tables(connection) == {"migration", "one"}
    connection.close()


def test_a_step_that_fails_leaves_nothing_of_itself(connection: apsw.Connection) -> None:
    with pytest.raises(apsw.SQLError):
        migrate(connection, NOON, (FIRST, BROKEN))
    assert tables(connection) == {"migration", "one"}
    assert migrate(connection, NOON, (FIRST, SECOND)) == (SECOND.name,)
    connection.close()


def test_a_step_is_run_to_its_end_whatever_its_statements_give(
    connection: apsw.Connection,
) -> None:
    """A PRAGMA or a SELECT in it gives rows that nobody asked for."""
    asking = Migration(
        name="0001_before_ask.sql", script=f"SELECT 1; PRAGMA user_version; {FIRST.script}"
    )
    migrate(connection, NOON, (asking,))
    assert tables(connection) == {"migration", "one"}
    connection.close()


def test_shipped_steps_are_numbered_without_a_gap_and_say_when_they_run() -> None:
    names = [step.name for step in shipped_migrations()]
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    assert all(re.fullmatch(r"\d{4}_(before|after)_[a-z0-9_]+\.sql", name) for name in names)


def test_what_was_still_to_be_reviewed_is_after_the_step_too(connection: apsw.Connection) -> None:
    """0009: notes move to the table where they are appended."""
    steps = shipped_migrations()
    migrate(connection, NOON, steps[:8])
    connection.execute("INSERT INTO token_review VALUES ('t', 'UDID-1', 'unlock', 2, 5)")
    migrate(connection, NOON, steps)
    assert connection.execute("SELECT * FROM token_review").fetchall() == []
    notes = connection.execute("SELECT * FROM token_note").fetchall()
    assert notes == [(1, "t", "UDID-1", "unlock", 2, 5)]
    connection.close()


def test_every_table_of_ours_is_strict(connection: apsw.Connection) -> None:
    migrate(connection, NOON, shipped_migrations())
    rows = connection.execute(
        "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    assert len(rows) > 15
    assert [name for name, strict in rows if not strict] == []
    connection.close()


async def test_opening_a_newer_database_names_the_step_and_lets_go_of_the_lock(
    path: Path,
) -> None:
    future = Migration(name="9999_after_the_future.sql", script="SELECT 1;")
    async with open_sqlite(path, clock=MovedClock(), migrations=(*shipped_migrations(), future)):
        pass
    with pytest.raises(SchemaTooNew, match="9999_after_the_future"):
        open_sqlite(path, clock=MovedClock())
    async with open_sqlite(
        path, clock=MovedClock(), migrations=(*shipped_migrations(), future)
    ) as opened:
        await opened.check()
