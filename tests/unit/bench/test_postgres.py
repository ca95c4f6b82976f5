"""The bench's own PostgreSQL: real, seen from outside, and as large as it is told to be."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from bench import postgres
from bench.growth_postgres import add_answered, add_others
from bench.processes import Family

SCHEMA = """
    CREATE TABLE enrollment (
        key text PRIMARY KEY, id text UNIQUE, push_record text, unlock_record text, bootstrap_record text, state text
    );
    CREATE TABLE binding (fingerprint text PRIMARY KEY, enrollment_key text REFERENCES enrollment (key));
    CREATE TABLE token (id text PRIMARY KEY, holder text, relationship text, value bytea);
    CREATE TABLE command_closed (
        number bigint GENERATED ALWAYS AS IDENTITY, enrollment_key text, uuid text UNIQUE
    );
    INSERT INTO enrollment VALUES ('key-0001-a', 'udid0001-a', 'rec-0001-a', NULL, NULL, 'enrolled');
    INSERT INTO binding VALUES ('fing0001-a', 'key-0001-a');
    INSERT INTO token VALUES ('rec-0001-a', 'udid0001-a', 'key-0001-a', ''),
                             ('rec-0000-a', 'udid0001-a', 'key-0001-a', '');
    INSERT INTO command_closed (enrollment_key, uuid) VALUES ('key-0001-a', 'uuid0001-a');
"""
WHOLE = """
    SELECT count(*) FROM enrollment e JOIN binding b ON b.enrollment_key = e.key
      JOIN token t ON t.id = e.push_record AND t.holder = e.id AND t.relationship = e.key
     WHERE e.state = 'enrolled'
"""


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.PostgresServer]:
    with TemporaryDirectory(prefix="ostiary-bench-") as folder:
        Path(folder).chmod(0o711)
        with postgres.running(Path(folder) / "db") as server:
            yield server


async def test_every_commit_is_on_the_disk(server: postgres.PostgresServer) -> None:
    """design.md 8: each write on disk before its answer."""
    said = await postgres.describe(server.url("postgres"))
    assert "fsync on, synchronous_commit on, full_page_writes on" in said


async def test_a_server_on_this_machine_is_found_by_its_url(
    server: postgres.PostgresServer,
) -> None:
    assert await postgres.find_server(server.url("postgres")) == server.process


async def test_what_a_connection_cost_still_counts_when_it_is_closed(
    server: postgres.PostgresServer,
) -> None:
    before = server.process.cpu_seconds()
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        # Stops when it has had a fifth of a second of processor time, however slow the machine is.
        pid: int = await connection.fetchval("SELECT pg_backend_pid()")
        backend = Family(pid)
        while backend.cpu_seconds() < 0.2:
            await connection.fetchval("SELECT count(*) FROM generate_series(1, 100000)")
    finally:
        await connection.close()
    assert server.process.cpu_seconds() - before > 0.15


async def test_a_large_database_hangs_together_as_one_that_a_server_filled(
    server: postgres.PostgresServer,
) -> None:
    url = await server.make_database("filled")
    await postgres.run_script(url, SCHEMA)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET session_replication_role = replica")
        await add_answered(connection, 7)
        await add_others(connection, 5)
        assert await connection.fetchval(WHOLE) == 6
        assert await connection.fetchval("SELECT count(*) FROM token") == 2 + 5
        rows = "SELECT enrollment_key, count(*) FROM command_closed GROUP BY enrollment_key"
        assert [tuple(row) for row in await connection.fetch(rows)] == [("key-0001-a", 8)]
    finally:
        await connection.close()
