"""Hot statements are served by an index or a key, whatever the size of the tables."""

import re
import sqlite3
from collections.abc import Iterator
from types import ModuleType

import pytest

from conformance.storage_values import NOON
from ostiary.storage.sqlite import (
    api_tokens,
    challenges,
    load,
    push_certificates,
    reports,
    seen,
    wakes,
    write,
    write_commands,
    write_news,
    write_tokens,
)
from ostiary.storage.sqlite.connection import open_writer
from ostiary.storage.sqlite.schema import migrate, shipped_migrations

ROOMS = (
    api_tokens,
    challenges,
    load,
    push_certificates,
    reports,
    seen,
    wakes,
    write,
    write_commands,
    write_news,
    write_tokens,
)
MAY_SCAN = {
    "CERTIFICATES": "a handful of rows",
    "COUNT_TOKENS": "one row for each kind and state",
    "COUNT_LIVE": "a figure for /metrics",
    "COUNT_WAKES": "a figure for /metrics",
    "COUNT_ALERTS": "a figure for /metrics",
    "LIST_LIVE": "a report over all channels, in a reader's thread",
    "LIST_ALL_CLOSED": "newest first along the primary key, until the limit",
}


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    made = open_writer(tmp_path_factory.mktemp("plans") / "plans.db")
    migrate(made, NOON, shipped_migrations())
    yield made
    made.close()


def statements() -> dict[str, str]:
    """Every named statement of the engine."""

    def named(room: ModuleType) -> Iterator[tuple[str, str]]:
        for name, text in vars(room).items():
            verb = text.split(None, 1)[0] if isinstance(text, str) and text.strip() else ""
            if name.isupper() and verb in ("SELECT", "INSERT", "UPDATE", "DELETE"):
                yield name, text

    return {name: text for room in ROOMS for name, text in named(room)}


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    numbered = [int(number) for number in re.findall(r"\?(\d+)", statement)]
    count = max(numbered, default=statement.count("?"))
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", (None,) * count)
    return [detail for *_, detail in rows]


@pytest.mark.parametrize(("name", "statement"), statements().items(), ids=statements())
def test_no_statement_walks_through_a_table(
    connection: sqlite3.Connection, name: str, statement: str
) -> None:
    steps = plan(connection, statement)
    scans = [
        step
        for step in steps
        if step.startswith("SCAN") and "USING" not in step and "CONSTANT" not in step
    ]
    assert not scans or name in MAY_SCAN, steps


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (load.QUEUE, "command_by_turn"),
        (load.QUEUE_WITHOUT_DEFERRED, "command_by_turn"),
        (load.HAS_DEFERRED, "command_deferred"),
        (load.REPORTED, "command_by_uuid"),
        (load.REPORTED_IS_CLOSED, "command_closed_by_uuid"),
        (load.CURRENT_ROW, "enrollment_by_id"),
        (load.RELATIONSHIPS, "enrollment_by_id"),
        (load.USER_ROW, "enrollment_user"),
        (wakes.DUE_WAKES, "wake_due"),
        (wakes.NEXT_DUE, "wake_due"),
        (write_tokens.ADD_RECORD, "token_generation"),
        (write.SUPERSEDE_IDENTITIES, "token_identity"),
        (reports.LIST_ENROLLMENTS, "enrollment_by_id"),
        (reports.LIST_CLOSED, "command_closed_by_channel"),
        (reports.LIST_TOKENS_OF_RARE_KIND, "token_rare_kind"),
        (reports.TOKEN_HISTORY, "token_generation"),
        (reports.COUNT_ENROLLMENTS, "enrollment_figures"),
        (reports.COUNT_DEAD, "enrollment_push_dead"),
        (push_certificates.SERVED_BY_TOPIC, "enrollment_figures"),
    ],
)
def test_a_statement_uses_the_index_that_was_made_for_it(
    connection: sqlite3.Connection, statement: str, index: str
) -> None:
    assert any(index in step for step in plan(connection, statement))


@pytest.mark.parametrize("statement", [load.QUEUE, wakes.DUE_WAKES, wakes.NEXT_DUE])
def test_what_is_taken_in_order_is_not_sorted(
    connection: sqlite3.Connection, statement: str
) -> None:
    """A queue of a thousand commands costs no more than one of two."""
    assert not [step for step in plan(connection, statement) if "TEMP B-TREE" in step]


def test_a_row_saved_in_place_touches_no_index(connection: sqlite3.Connection) -> None:
    """Columns named in indexes are left out, so a TokenUpdate writes one page of the table."""
    indexed = {
        column
        for (index,) in connection.execute(
            "SELECT name FROM pragma_index_list('enrollment') WHERE origin = 'c'"
        ).fetchall()
        for (column,) in connection.execute(f"SELECT name FROM pragma_index_info('{index}')")
    }
    assigned = set(
        re.findall(r"(\w+) = (?:\?|coalesce)", write.SAVE_ROW_IN_PLACE.split("WHERE")[0])
    )
    assert indexed
    assert not indexed & assigned
