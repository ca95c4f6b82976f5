"""Whether a large database slows anybody down: the same devices, among many others and with a long history.

The others are written straight into the closed database, as copies of rows that the server wrote itself; enrolling
them would take hours. Columns are read from the schema, so that a migration does not break this.
"""

import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench import house, scenarios
from bench.figures import Figures
from bench.scenarios import Size, Stage

CONNECTIONS = 16
LAPS = 5
_COPIED = ("enrollment", "binding", "token")
_NAMES = {"id", "key", "enrollment_key", "fingerprint", "holder", "relationship"}
"""Columns whose values must be other ones in a copy; equal values become equal copies."""
_NAMES_OF_RECORDS = {"push_record", "unlock_record", "bootstrap_record"}


async def measure(data: Path, stage: Stage, size: Size, others: int, answered: int) -> str:
    """The table of the same requests to a small and to a large database, both served at once, in turns."""
    large = data.parent / "large" / "data"
    shutil.copytree(data, large)
    began = time.monotonic()
    with closing(sqlite3.connect(large / "ostiary.sqlite")) as connection:
        add_others(connection, others)
        add_answered(connection, answered)
    os.sync()  # what was just written is not to be written while a server is measured
    filled = time.monotonic() - began
    mebibytes = (large / "ostiary.sqlite").stat().st_size / 2**20
    said = (
        f"Growth: {others:,} other enrollments and {answered:,} answered commands a device "
        f"({mebibytes:,.0f} MiB, written in {filled:.0f} s); medians of {LAPS} laps."
    )
    with house.serving(data) as alone, house.serving(large) as grown:
        stages = (replace(stage, server=alone), replace(stage, server=grown))
        for one in stages:  # so that certificates are known
            await scenarios.idle(one, {CONNECTIONS: 2 * len(stage.devices)})
        laps = [[await _lap(one, size) for one in stages] for _ in range(LAPS)]
    return f"{said}\n\n{_render(laps)}"


async def _lap(stage: Stage, size: Size) -> list[Figures]:
    writes = {CONNECTIONS: size.writes[CONNECTIONS] // 2}
    return [
        *await scenarios.idle(stage, {CONNECTIONS: size.idle[CONNECTIONS] // 2}),
        *await scenarios.token_update(stage, writes),
        *await scenarios.command(stage, writes),
        *await scenarios.enroll(
            replace(stage, devices=[]), {CONNECTIONS: size.enrolling[CONNECTIONS] // 2}
        ),
    ]


def _render(laps: list[list[list[Figures]]]) -> str:
    """For each scenario both medians, and the median of what the large database adds in one lap."""
    lines = [
        "| scenario | CPU ms alone | grown | growth | p99 ms alone | grown |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for at, first in enumerate(laps[0][0]):
        alone = [lap[0][at] for lap in laps]
        grown = [lap[1][at] for lap in laps]
        added = median(
            after.cpu_ms / before.cpu_ms - 1 for before, after in zip(alone, grown, strict=True)
        )
        lines.append(
            f"| {first.scenario} | {median(one.cpu_ms for one in alone):.3f}"
            f" | {median(one.cpu_ms for one in grown):.3f} | {added:+.0%}"
            f" | {median(one.p99_ms for one in alone):.1f}"
            f" | {median(one.p99_ms for one in grown):.1f} |"
        )
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
