"""The database that the bench fills by itself hangs together as one that a server filled."""

import sqlite3

import pytest

from bench.growth import add_answered, add_others


@pytest.fixture
def database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.executescript(
        """
        CREATE TABLE enrollment (key TEXT PRIMARY KEY, id TEXT UNIQUE, push_record TEXT, state TEXT);
        CREATE TABLE binding (fingerprint TEXT PRIMARY KEY, enrollment_key TEXT);
        CREATE TABLE token (id TEXT PRIMARY KEY, holder TEXT, relationship TEXT, value BLOB);
        CREATE TABLE command_closed (number INTEGER PRIMARY KEY, enrollment_key TEXT, uuid TEXT UNIQUE);
        INSERT INTO enrollment VALUES ('key-0001-a', 'udid0001-a', 'rec-0001-a', 'enrolled');
        INSERT INTO binding VALUES ('fing0001-a', 'key-0001-a');
        INSERT INTO token VALUES ('rec-0001-a', 'udid0001-a', 'key-0001-a', x'00');
        INSERT INTO command_closed VALUES (1, 'key-0001-a', 'uuid0001-a');
        """
    )
    return connection


def test_copies_point_to_each_other_as_the_originals_do(database: sqlite3.Connection) -> None:
    add_others(database, 5)
    whole = database.execute(
        """
        SELECT count(*) FROM enrollment e JOIN binding b ON b.enrollment_key = e.key
          JOIN token t ON t.id = e.push_record AND t.holder = e.id AND t.relationship = e.key
         WHERE e.state = 'enrolled'
        """
    ).fetchone()
    assert whole == (6,)


def test_answered_commands_are_added_to_each_device(database: sqlite3.Connection) -> None:
    add_answered(database, 7)
    assert database.execute(
        "SELECT enrollment_key, count(*) FROM command_closed GROUP BY enrollment_key"
    ).fetchall() == [("key-0001-a", 8)]
