"""Whole databases as plain rows, read past everything that `storage/transfer` does, and houses filled to the brim."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from conformance.storage_values import MovedClock
from database_file import Database, database
from ostiary.storage.postgres.text import unescape
from ostiary.storage.sqlite.rows import micros
from ostiary.storage.sqlite.storage import open_sqlite

Dump = dict[str, list[tuple[Any, ...]]]
"""By table: its rows by the names of their columns, in no order that means anything."""

NOT_CARRIED = ("enrollment", "turn")
CHOICES: dict[tuple[str, str], Sequence[Any]] = {
    ("command", "state"): ("queued", "sent", "deferred"),
    ("command_closed", "state"): ("done", "failed", "cancelled"),
    ("invitation", "uses_left"): (0, 1, 2**31 - 1),
}
"""What a column's own CHECK lets in."""
NUMBERS: dict[str, Sequence[int]] = {
    "integer": (0, 1, -1, 2**31 - 1, -(2**31)),
    "bigint": (0, 1, -1, 2**63 - 1, -(2**63)),
    "boolean": (0, 1),
    "timestamp with time zone": (0, 1, -1, 1_772_442_000_123_456, -62_135_596_800_000_000),
}
EDGES = ("", "\x00", "\ufdd0", "\ufdd0m", "a\ufdd00\x00", "é'\"\\", "\U0001f511", "\r\n\t\x7f", "0")


def dump_sqlite(path: Path) -> Dump:
    """Every row of every table, as the engine gives them."""
    with database(path) as connection:
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        dump = {}
        for name in names:
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')]
            dump[name] = _sorted(columns, connection.execute(f'SELECT * FROM "{name}"'))
    dump["sqlite_sequence"] = [row for row in dump["sqlite_sequence"] if _has_number(row)]
    return _without_steps(dump)


async def dump_postgres(url: str) -> Dump:
    """The same of a PostgreSQL database, its values said in SQLite's words."""
    connection = await asyncpg.connect(url)
    try:
        names = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        )
        dump = {}
        for (name,) in names:
            rows = await connection.fetch(f'SELECT * FROM "{name}"')
            columns = list(rows[0].keys()) if rows else []
            kept = [column for column in columns if (name, column) != NOT_CARRIED]
            plain = (tuple(_in_plain_words(row[column]) for column in kept) for row in rows)
            dump[name] = _sorted(kept, plain)
        last = await connection.fetchrow("SELECT last_value, is_called FROM command_sequence_seq")
    finally:
        await connection.close()
    assert last is not None
    given = [(("name", "command"), ("seq", last[0]))] if last[1] else []
    return _without_steps({**dump, "sqlite_sequence": given})


def _in_plain_words(value: Any) -> Any:
    match value:
        case datetime():
            return micros(value)
        case bool():
            return int(value)
        case str():
            return unescape(value)
        case _:
            return value


def _sorted(columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> list[tuple[Any, ...]]:
    named = list(columns)
    return sorted((tuple(sorted(zip(named, row, strict=True))) for row in rows), key=repr)


def _has_number(row: tuple[Any, ...]) -> bool:
    return bool(dict(row)["seq"] > 0)


def _without_steps(dump: Dump) -> Dump:
    """Without the steps, which belong to a database, and with the counts of rows as sums."""
    del dump["migration"]
    for name, facts in (
        ("token_count", ("kind", "state")),
        ("enrollment_count", ("type", "state")),
    ):
        sums: dict[Any, int] = {}
        for row in map(dict, dump[name]):
            which = tuple(row[fact] for fact in facts)
            sums[which] = sums.get(which, 0) + row["number"]
        dump[name] = sorted((which, number) for which, number in sums.items() if number)
    return dump


async def postgres_types(url: str) -> dict[tuple[str, str], str]:
    """The type of every column, by table and name."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        )
    finally:
        await connection.close()
    return {(table, column): type_ for table, column, type_ in rows}


async def make_house(path: Path) -> None:
    """An empty database of this version."""
    async with open_sqlite(path, clock=MovedClock()):
        pass


@dataclass(frozen=True)
class Filler:
    """Puts rows into every table there is, whatever columns it has: each column with some of these values."""

    types: dict[tuple[str, str], str]
    chance: random.Random
    texts: Sequence[str]
    blobs: Sequence[bytes]
    rows: int = 4

    def fill(self, path: Path) -> None:
        with database(path) as connection:
            connection.execute("BEGIN")
            tables = [
                name
                for (name,) in connection.execute(
                    "SELECT name FROM sqlite_schema WHERE type = 'table'"
                    " AND name NOT IN ('migration', 'sqlite_sequence') AND name NOT LIKE '%_count'"
                )
            ]
            for table in sorted(
                tables, key=lambda name: (name != "enrollment", name != "invitation")
            ):
                for number in range(self.rows):
                    self._add(connection, table, number)
            connection.execute(
                "DELETE FROM command WHERE sequence = (SELECT max(sequence) FROM command)"
            )
            connection.execute("COMMIT")

    def _add(self, connection: Database, table: str, number: int) -> None:
        columns = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
        unique = _unique_columns(connection, table, columns)
        parents = {
            column: (parent, other)
            for _, _, parent, column, other, *_ in connection.execute(
                f'PRAGMA foreign_key_list("{table}")'
            )
        }
        values: list[Any] = []
        for _, column, _, is_needed, _, is_key in columns:
            if not (is_needed or is_key) and self.chance.random() < 0.3:
                values.append(None)
            elif column in parents and not is_key:
                values.append(self._parent(connection, *parents[column], or_none=not is_needed))
            elif column in parents:
                values.append(self._nth(connection, *parents[column], number))
            else:
                values.append(self._value(table, column, number, is_unique=column in unique))
        marks = ", ".join("?" for _ in values)
        connection.execute(f'INSERT OR REPLACE INTO "{table}" VALUES ({marks})', values)

    def _value(self, table: str, column: str, number: int, *, is_unique: bool) -> Any:
        if choices := CHOICES.get((table, column)):
            return self.chance.choice(choices)
        type_ = self.types[table, column]
        if type_ == "text":
            text = self.chance.choice((*EDGES, *self.texts))
            return f"{text}{number}" if is_unique else text
        if type_ == "bytea":
            blob = self.chance.choice((b"", bytes(range(256)), *self.blobs))
            return blob + bytes([number]) if is_unique else blob
        if is_unique:
            return number + 1
        return self.chance.choice(NUMBERS[type_])

    def _parent(self, connection: Database, parent: str, other: str, *, or_none: bool) -> Any:
        known = [key for (key,) in connection.execute(f'SELECT "{other}" FROM "{parent}"')]
        return self.chance.choice([*known, *([None] if or_none else [])])

    def _nth(self, connection: Database, parent: str, other: str, number: int) -> Any:
        known = connection.execute(f'SELECT "{other}" FROM "{parent}" ORDER BY 1').fetchall()
        return known[number % len(known)][0]


def _unique_columns(connection: Database, table: str, columns: Sequence[Any]) -> set[str]:
    found = {column for _, column, *_, is_key in columns if is_key}
    for _, index, is_unique, *_ in connection.execute(f'PRAGMA index_list("{table}")'):
        if is_unique:
            found |= {name for _, _, name in connection.execute(f'PRAGMA index_info("{index}")')}
    return found
