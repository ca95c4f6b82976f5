"""A large copy of a small PostgreSQL database, made by the server itself: enrolling so many would take hours.

Rows are copies of rows that our server wrote itself. Columns are read from the schema, so that a migration does not
break this.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from bench.growth_names import ANSWERED, COPIED, UUID, is_name
from bench.house import Installation
from bench.postgres import PostgresServer

COLUMNS = """
    SELECT column_name FROM information_schema.columns
     WHERE table_schema = 'public' AND table_name = $1 AND is_identity = 'NO' AND is_generated = 'NEVER'
     ORDER BY ordinal_position
"""


async def grow(
    installation: Installation, server: PostgresServer, folder: Path, others: int, answered: int
) -> Installation:
    """A copy with so many other enrollments, and so many answered commands of each device."""
    data = folder / "data"
    shutil.copytree(installation.data, data)
    name = urlsplit(installation.database_url or "").path.lstrip("/")
    url = await server.make_database(f"{name}_grown", template=name)
    connection = await asyncpg.connect(url)
    try:
        # No order among tables that refer to one another.
        await connection.execute("SET session_replication_role = replica")
        await add_answered(connection, answered)
        await add_others(connection, others)
        # As the server does by itself within a minute or two; not while it is measured.
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
    return replace(installation, data=data, database_url=url)


async def mebibytes(installation: Installation) -> float:
    """How large the database is."""
    connection = await asyncpg.connect(installation.database_url)
    try:
        size: int = await connection.fetchval("SELECT pg_database_size(current_database())")
        return size / 2**20
    finally:
        await connection.close()


async def add_others(connection: "asyncpg.Connection[Any]", count: int) -> None:
    """Copy the enrollments with their bindings and the tokens in force until there are `count` more."""
    there: int = await connection.fetchval("SELECT count(*) FROM enrollment")
    for table, which in COPIED:
        columns = await _columns(connection, table)
        values = ", ".join(_stirred(one) if is_name(one) else one for one in columns)
        await connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values}"  # noqa: S608 - the names are the schema's
            f" FROM (SELECT * FROM {table} {which}) AS one, generate_series(1::bigint, $1) AS copy (n)",
            max(1, count // there),
            timeout=None,
        )


async def add_answered(connection: "asyncpg.Connection[Any]", count: int) -> None:
    """Copy one answered command of each device until it has `count` more."""
    columns = await _columns(connection, ANSWERED)
    values = ", ".join(_stirred(one) if one == UUID else one for one in columns)
    await connection.execute(
        f"INSERT INTO {ANSWERED} ({', '.join(columns)}) SELECT {values}"  # noqa: S608 - the names are the schema's
        f" FROM (SELECT DISTINCT ON (enrollment_key) * FROM {ANSWERED} ORDER BY enrollment_key) AS one,"
        f" generate_series(1::bigint, $1) AS copy (n)",
        count,
        timeout=None,
    )


async def _columns(connection: "asyncpg.Connection[Any]", table: str) -> list[str]:
    return [row[0] for row in await connection.fetch(COLUMNS, table)]


def _stirred(column: str) -> str:
    # The number goes first and is stirred, so that the copies lie all over the indexes as real ones do.
    return f"upper(lpad(to_hex(n * 2654435761 & 4294967295), 8, '0')) || substr({column}, 9)"
