"""A large copy of a small SQLite database, written straight into the closed file: enrolling so many would take hours.

Rows are copies of rows that the server wrote itself. Columns are read from the schema, so that a migration does not
break this.
"""

import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw

from bench.growth_names import ANSWERED, COPIED, NUMBER, UUID, is_name
from bench.house import Installation

_FILE = "ostiary.sqlite"


def grow(installation: Installation, folder: Path, others: int, answered: int) -> Installation:
    """A copy in the folder with so many other enrollments, and so many answered commands of each device."""
    data = folder / "data"
    shutil.copytree(installation.data, data)
    with closing(apsw.Connection(str(data / _FILE))) as connection:
        add_answered(connection, answered)
        add_others(connection, others)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.sync()  # what was just written is not to be written while a server is measured
    return replace(installation, data=data)


def mebibytes(installation: Installation) -> float:
    """How large the database is."""
    return (installation.data / _FILE).stat().st_size / 2**20


def add_others(connection: apsw.Connection, count: int) -> None:
    """Copy the enrollments with their bindings and the tokens in force until there are `count` more."""
    ((there,),) = connection.execute("SELECT count(*) FROM enrollment")
    connection.execute("PRAGMA foreign_keys = OFF")
    with connection:
        for table, which in COPIED:
            columns = _columns(connection, table)
            values = ", ".join(_stirred(one) if is_name(one) else one for one in columns)
            connection.execute(
                f"WITH RECURSIVE copy (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < ?)"  # noqa: S608 - the names are the schema's
                f" INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM (SELECT * FROM {table} {which}), copy",
                (max(1, count // there),),
            )


def add_answered(connection: apsw.Connection, count: int) -> None:
    """Copy one answered command of each device until it has `count` more."""
    columns = [one for one in _columns(connection, ANSWERED) if one != NUMBER]
    values = ", ".join(_stirred(one) if one == UUID else one for one in columns)
    connection.execute("PRAGMA foreign_keys = OFF")
    with connection:
        connection.execute(
            f"WITH RECURSIVE copy (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < ?)"  # noqa: S608 - the names are the schema's
            f" INSERT INTO {ANSWERED} ({', '.join(columns)}) SELECT {values}"
            f" FROM (SELECT * FROM {ANSWERED} GROUP BY enrollment_key), copy",
            (count,),
        )


def _columns(connection: apsw.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _stirred(column: str) -> str:
    # The number goes first and is stirred, so that the copies lie all over the indexes as real ones do.
    return f"printf('%08X', n * 2654435761 & 4294967295) || substr({column}, 9)"
