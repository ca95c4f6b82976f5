"""Statements are named constants, where the index tests find them; what is put together while we run has tests of its own."""

import pytest

from unit.storage.statements import ENGINES, hidden, rooms, statements

COMPOSED = {
    "postgres.load": "all shapes that asks can have are planned in test_postgres_plans",
    "postgres.write_at_once": "shapes of plain changes are planned in test_postgres_plans",
    "postgres.retention_aged": "counts for a dry run what a statement with a name finds",
    "sqlite.retention_aged": "counts for a dry run what a statement with a name finds",
    "sqlite.storage": "reads one row, to see whether the database can be read",
}


@pytest.mark.parametrize("engine", ENGINES)
def test_no_statement_hides_in_a_function(engine: str) -> None:
    """A statement that the planner is never asked about is one that walks through a table some day."""
    found = {f"{engine}.{room}": lines for room, lines in hidden(engine).items()}
    assert not {room: lines for room, lines in found.items() if room not in COMPOSED}


@pytest.mark.parametrize("engine", ENGINES)
def test_statements_are_found_wherever_they_are_added(engine: str) -> None:
    names = {room.__name__.rpartition(".")[2] for room in rooms(engine)}
    assert {"load", "wakes", "reports", "retention_aged", "write_commands"} <= names
    assert len(statements(engine)) > 100
