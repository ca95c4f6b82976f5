"""Migrations run once, in order, one node at a time, and never on a database that is not ours to touch."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from conformance.storage_values import NOON, MovedClock
from ostiary.ports.storage import StorageFailed
from ostiary.storage.errors import SchemaAltered, SchemaTooNew
from ostiary.storage.postgres import escrow_rows, rows
from ostiary.storage.postgres.address import decode_address
from ostiary.storage.postgres.pool import HOT, open_session
from ostiary.storage.postgres.schema import Migration, OtherNodesRun, migrate, shipped_migrations
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.storage import open_postgres
from ostiary.storage.sqlite import escrow_rows as sqlite_escrow_rows
from ostiary.storage.sqlite import rows as sqlite_rows
from postgres_server import PostgresServer

FIRST = Migration(name="0001_before_one.sql", script="CREATE TABLE one (a text);")
SECOND = Migration(name="0002_after_two.sql", script="CREATE TABLE two (b text);")
THIRD = Migration(name="0003_before_three.sql", script="CREATE TABLE three (c text);")
BROKEN = Migration(name="0002_after_two.sql", script="CREATE TABLE two (b text); CREATE NONSENSE;")


@pytest.fixture
async def bare_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The URL of a database without a schema."""
    url = await postgres_server.make_database("template0")
    yield url
    await postgres_server.drop_database(url)


@pytest.fixture
async def session(bare_url: str) -> AsyncIterator[Session]:
    opened = await open_session(decode_address(bare_url), HOT, timeout_seconds=15)
    yield opened
    await opened.connection.close()


async def tables(session: Session) -> set[str]:
    found = await session.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in found}


async def test_a_fresh_database_goes_through_every_step_once(session: Session) -> None:
    assert await migrate(session, NOON, (FIRST, SECOND)) == (FIRST.name, SECOND.name)
    assert await migrate(session, NOON, (FIRST, SECOND)) == ()
    assert await tables(session) == {"migration", "one", "two"}


async def test_an_older_database_goes_through_what_is_new(session: Session) -> None:
    await migrate(session, NOON, (FIRST,))
    await session.run("INSERT INTO one VALUES ('kept')")
    assert await migrate(session, NOON, (FIRST, SECOND)) == (SECOND.name,)
    ((kept,),) = await session.rows("SELECT a FROM one")
    assert kept == "kept"


async def test_a_database_past_a_step_that_ends_our_version_is_not_touched(
    session: Session,
) -> None:
    await migrate(session, NOON, (FIRST, SECOND))
    with pytest.raises(SchemaTooNew, match="0002_after_two"):
        await migrate(session, NOON, (FIRST,))


async def test_on_a_step_that_prepares_the_next_version_this_one_still_runs(
    session: Session,
) -> None:
    """That is what `before` means: nodes are replaced one by one. (style.md principle 7)"""
    await migrate(session, NOON, (FIRST, THIRD))
    assert await migrate(session, NOON, (FIRST,)) == ()


async def test_a_step_whose_text_changed_is_not_taken_for_the_same(session: Session) -> None:
    await migrate(session, NOON, (FIRST,))
    edited = Migration(name=FIRST.name, script=FIRST.script + "-- edited")
    with pytest.raises(SchemaAltered, match="0001_before_one"):
        await migrate(session, NOON, (edited, SECOND))
    assert await tables(session) == {"migration", "one"}


async def test_a_step_that_fails_leaves_nothing_of_any(bare_url: str) -> None:
    """All pending steps are one transaction."""
    async with open_postgres(bare_url, clock=MovedClock(), migrations=(FIRST, BROKEN)) as storage:
        with pytest.raises(StorageFailed):
            await storage.check()
    async with asyncpg.create_pool(bare_url, min_size=1, max_size=1) as pool:
        assert await pool.fetch("SELECT FROM pg_tables WHERE schemaname = 'public'") == []


async def test_a_step_that_ends_the_old_version_waits_until_no_other_node_runs(
    session: Session, bare_url: str
) -> None:
    async with open_postgres(bare_url, clock=MovedClock(), migrations=(FIRST,)) as old:
        with pytest.raises(StorageFailed):  # no table of ours; but it is connected
            await old.check()
        await migrate(session, NOON, (FIRST,))
        holder = await open_session(decode_address(bare_url), HOT, timeout_seconds=15)
        assert await migrate(session, NOON, (FIRST, SECOND)) == ()
        with pytest.raises(OtherNodesRun, match="0003_before_three"):
            await migrate(session, NOON, (FIRST, SECOND, THIRD))
        await holder.connection.close()
    assert await settled(session, (FIRST, SECOND, THIRD)) == (SECOND.name, THIRD.name)


async def settled(session: Session, migrations: Sequence[Migration]) -> tuple[str, ...]:
    """Migrate once the connections that were closed are gone from the server too."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await migrate(session, NOON, migrations)
            except OtherNodesRun:
                await asyncio.sleep(0)


async def test_opening_a_newer_database_names_the_step(bare_url: str) -> None:
    future = Migration(name="9999_after_the_future.sql", script="SELECT 1;")
    steps = (*shipped_migrations(), future)
    async with open_postgres(bare_url, clock=MovedClock(), migrations=steps) as storage:
        await storage.check()
    async with open_postgres(bare_url, clock=MovedClock()) as older:
        with pytest.raises(SchemaTooNew, match="9999_after_the_future"):
            await older.check()


async def test_nodes_may_start_at_once_on_an_empty_database(bare_url: str) -> None:
    nodes = [open_postgres(bare_url, clock=MovedClock()) for _ in range(4)]
    await asyncio.gather(*(node.check() for node in nodes))
    for node in nodes:
        await node.close()


def test_shipped_steps_are_numbered_without_a_gap_and_say_when_they_run() -> None:
    names = [step.name for step in shipped_migrations()]
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    assert all(re.fullmatch(r"\d{4}_(before|after)_[a-z0-9_]+\.sql", name) for name in names)


@pytest.mark.parametrize(
    "columns",
    [
        "ENROLLMENT_COLUMNS",
        "BINDING_COLUMNS",
        "TOKEN_COLUMNS",
        "COMMAND_COLUMNS",
        "CREDENTIAL_COLUMNS",
    ],
)
def test_both_databases_keep_the_same_columns_of_what_a_decision_sees(columns: str) -> None:
    assert set(getattr(rows, columns)) == set(getattr(sqlite_rows, columns))


@pytest.mark.parametrize("columns", ["ESCROW_COLUMNS", "FACT_COLUMNS"])
def test_both_databases_keep_the_same_columns_of_escrows_and_sheets(columns: str) -> None:
    assert getattr(escrow_rows, columns) == getattr(sqlite_escrow_rows, columns)
