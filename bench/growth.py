"""Whether a large database slows anybody down: the same devices, among many others and with a long history.

The others are written straight into the closed database, as copies of rows that the server wrote itself; enrolling
them would take hours. Columns are read from the schema, so that a migration does not break this.
"""

import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from bench import house, scenarios
from bench.figures import Figures, render_table
from bench.scenarios import Size, Stage

CONNECTIONS = 16
_COPIED = ("enrollment", "binding", "token")
_NAMES = {"id", "key", "enrollment_key", "fingerprint", "holder", "relationship"}
"""Columns whose values must be other ones in a copy; equal values become equal copies."""
_NAMES_OF_RECORDS = {"push_record", "unlock_record", "bootstrap_record"}


async def measure(data: Path, stage: Stage, size: Size, others: int, answered: int) -> str:
    """The table of the same requests before and after the database grew."""
    before = await _serve_and_measure(data, stage, size, "alone")
    began = time.monotonic()
    with closing(sqlite3.connect(data / "ostiary.sqlite")) as connection:
        add_others(connection, others)
        add_answered(connection, answered)
    filled = time.monotonic() - began
    after = await _serve_and_measure(data, stage, size, "grown")
    mebibytes = (data / "ostiary.sqlite").stat().st_size / 2**20
    said = (
        f"Growth: {others:,} other enrollments and {answered:,} answered commands a device "
        f"({mebibytes:,.0f} MiB, written in {filled:.0f} s)."
    )
    return f"{said}\n\n{render_table([*before, *after], {})}\n\n{_compared(before, after)}"


async def _serve_and_measure(data: Path, stage: Stage, size: Size, name: str) -> list[Figures]:
    with house.serving(data) as server:
        stage = replace(stage, server=server)
        amounts = {CONNECTIONS: size.writes[CONNECTIONS]}
        await scenarios.idle(stage, {CONNECTIONS: len(stage.devices)})  # so that caches are warm
        figures = [
            *await scenarios.idle(stage, {CONNECTIONS: size.idle[CONNECTIONS]}),
            *await scenarios.token_update(stage, amounts),
            *await scenarios.command(stage, amounts),
            *await scenarios.enroll(replace(stage, devices=[]), {CONNECTIONS: len(stage.devices) // 4}),
        ]
    return [replace(one, scenario=f"{one.scenario}, {name}") for one in figures]


def _compared(before: list[Figures], after: list[Figures]) -> str:
    lines = [
        f"- {early.scenario.rpartition(',')[0]}: {late.cpu_ms / early.cpu_ms - 1:+.0%} CPU, "
        f"p99 {early.p99_ms:.1f} -> {late.p99_ms:.1f} ms"
        for early, late in zip(before, after, strict=True)
    ]
    return "\n".join(lines)


def add_others(connection: sqlite3.Connection, count: int) -> None:
    """Copy the enrollments with their bindings and tokens until there are `count` more."""
    there = connection.execute("SELECT count(*) FROM enrollment").fetchone()[0]
    with connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for table in _COPIED:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(_copied(column) for column in columns)
            connection.execute(
                f"WITH RECURSIVE copy (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < ?)"  # noqa: S608 - the names are the schema's
                f" INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, copy",
                (max(1, count // there),),
            )
        connection.execute("ANALYZE")


def _copied(column: str) -> str:
    if column in _NAMES or column in _NAMES_OF_RECORDS:
        # The number goes first and is stirred, so that the copies lie all over the indexes as real ones do.
        return f"printf('%08X', n * 2654435761 & 4294967295) || substr({column}, 9)"
    return column


def add_answered(connection: sqlite3.Connection, count: int) -> None:
    """Copy one answered command of each device until it has `count` more."""
    table = "command_closed"
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    columns.remove("number")
    stirred = "printf('%08X', n * 2654435761 & 4294967295) || substr(uuid, 9)"
    values = ", ".join(stirred if column == "uuid" else column for column in columns)
    with connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(
            f"WITH RECURSIVE copy (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < ?)"  # noqa: S608 - the names are the schema's
            f" INSERT INTO {table} ({', '.join(columns)}) SELECT {values}"
            f" FROM (SELECT * FROM {table} GROUP BY enrollment_key), copy",
            (count,),
        )
