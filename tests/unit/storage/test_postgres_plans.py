"""At size, the planner serves each hot statement by an index, without our telling it to."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import product
from typing import TypeAlias

import asyncpg
import pytest

from conformance.storage_values import NOON, MovedClock
from ostiary.domain.decision import Ask, ByCertificate, ByKey, ByName, Change, QueueView, Snapshot
from ostiary.domain.token import DEFAULT_TENANT, TokenKind
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.storage.postgres import load, wakes, write_at_once, write_news
from ostiary.storage.postgres.pool import HOT, PLANS_LAST_SECONDS
from ostiary.storage.postgres.storage import open_postgres
from postgres_server import PostgresServer
from unit.storage.statements import statements

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
SIZE = 50_000
FILL = f"""
    INSERT INTO enrollment (key, tenant, id, type, state, standing, topic, proof, created_at,
                            authenticated_at, awaiting, has_session, token_updates, version,
                            push_record, serial_number)
    SELECT md5('e' || n), 'default', 'UDID-' || n, 'Device', 'enrolled', 'current', 'topic',
           'proven', now(), now(), false, false, 1, 1, md5('t' || n), 'SERIAL-' || n
      FROM generate_series(1, {SIZE}) n;
    INSERT INTO enrollment (key, tenant, id, type, parent_key, state, standing, topic, proof,
                            created_at, authenticated_at, awaiting, has_session, token_updates,
                            version)
    SELECT md5('u' || n), 'default', 'UDID-' || n || ':user', 'User', md5('e' || n), 'enrolled',
           'current', 'topic', 'proven', now(), now(), false, false, 1, 1
      FROM generate_series(1, {SIZE}, 5) n;
    INSERT INTO binding SELECT md5('f' || n), 'default', md5('e' || n), 'proven', now(), now()
      FROM generate_series(1, {SIZE}) n;
    INSERT INTO token (id, tenant, holder, kind, generation, digest, size, state, cause, source,
                       fingerprint, relationship, received_at, changed_at, value)
    SELECT md5(left(kind, 1) || n), 'default', 'UDID-' || n, kind, 1, '\\x00', 32, 'ok', 'Received.',
           'TokenUpdate', md5('f' || n), md5('e' || n), now(), now(), '\\x00'
      FROM generate_series(1, {SIZE}) n, unnest(ARRAY['identity', 'unlock']) kind;
    INSERT INTO token (id, tenant, holder, kind, generation, digest, size, state, cause, source,
                       fingerprint, relationship, received_at, changed_at, value)
    SELECT md5('t' || n), 'default', 'UDID-' || n, 'push', 1, '\\x00', 32, 'ok', 'Received.',
           'TokenUpdate', md5('f' || n), md5('e' || n), now(), now(), '\\x00'
      FROM generate_series(1, {SIZE}) n;
    INSERT INTO escrow (tenant, holder, kind, state, since, due_at)
    SELECT 'default', 'UDID-' || n, kind, 'settled', now(), now() + n * interval '1 minute'
      FROM generate_series(1, {SIZE}) n, unnest(ARRAY['recovery-lock', 'admin-password']) kind;
    INSERT INTO fact SELECT md5('e' || n), 'security', '{{}}', now() FROM generate_series(1, {SIZE}) n;
    INSERT INTO command (uuid, enrollment_key, request_type, priority, state, queued_at, source,
                         hand_outs, payload)
    SELECT 'c' || m, md5('e' || n), 'DeviceInformation', 10,
           CASE WHEN m % 5 = 0 THEN 'deferred' ELSE 'queued' END, now(), 'operator', 0, '\\x00'
      FROM generate_series(1, {SIZE}, 50) n, generate_series(1, 50) m;
    INSERT INTO command_closed (uuid, enrollment_key, request_type, state, queued_at, closed_at,
                                source, hand_outs, result)
    SELECT 'd' || m, md5('e' || n), 'DeviceInformation', 'done', now(), now(), 'operator', 1, ''
      FROM generate_series(1, {SIZE}, 50) n, generate_series(1, 50) m;
    INSERT INTO wake SELECT md5('e' || n), now() + n * interval '1 minute', 0, 0
      FROM generate_series(1, {SIZE}) n;
    INSERT INTO credential (fingerprint, tenant, purpose, issued_at, not_after, challenge_id,
                            certificate)
    SELECT md5('f' || n), 'default', 'enroll', now(), now(), md5('h' || n), '\\x00'
      FROM generate_series(1, {SIZE}) n;
    INSERT INTO invitation (id, tenant, code, valid_until, uses_left, created_at, created_by)
    SELECT md5('i' || n), 'default', md5('i' || n)::bytea, now(), 1, now(), 'operator'
      FROM generate_series(1, {SIZE}) n;
    INSERT INTO challenge (id, tenant, digest, purpose, access_rights, capabilities, valid_until,
                           created_at)
    SELECT md5('h' || n), 'default', md5('h' || n)::bytea, 'enroll', 1, '', now(), now()
      FROM generate_series(1, {SIZE}) n;
    INSERT INTO audit SELECT 'default', n, now(), 'a', 'v', 's', 'r', '\\x00'
      FROM generate_series(1, {SIZE}) n;
    INSERT INTO token_note (tenant, holder, kind, first_generation, last_generation)
    SELECT 'default', 'UDID-' || n, 'push', 2, 2
      FROM generate_series(1, {SIZE}) n;
    INSERT INTO identity_renewal (enrollment_key, tenant, phase, fingerprint, look_at, attempts,
                                  asked_at, is_canary, finished_at, outcome, version)
    SELECT md5('e' || n), 'default', CASE WHEN n % 50 = 0 THEN 'asked' ELSE 'scheduled' END,
           md5('f' || n), now() + n * interval '1 minute', 0,
           CASE WHEN n % 20 = 0 THEN now() - n * interval '1 minute' END, n % 1000 = 0,
           CASE WHEN n % 40 = 0 THEN now() - n * interval '1 minute' END, '', 1
      FROM generate_series(1, {SIZE}) n;
    INSERT INTO alert SELECT 'default', 'UDID-' || n, 'kind', '', 1, now(), now()
      FROM generate_series(1, {SIZE}) n;
"""
MAY_SCAN = {
    "NEXT_DUE": "along wake_due until the first that can be pushed",
    "CERTIFICATES": "a handful of rows",
    "CERTIFICATE_OF_TOPIC": "a handful of rows",
    "SAVE_CERTIFICATE": "a handful of rows",
    "PAUSE_TOPIC": "a handful of rows",
    "PENDING_KEY": "a handful of rows",
    "DROP_PENDING_KEY": "a handful of rows",
    "PROGRAM_BY_DIGEST": "a handful of rows",
    "COUNT_ENROLLMENTS": "a figure for /metrics, over a connection for reports",
    "COUNT_TOKENS": "a figure for /metrics, over a connection for reports",
    "COUNT_LIVE": "a figure for /metrics, over a connection for reports",
    "COUNT_WAKES": "a figure for /metrics, over a connection for reports",
    "COUNT_ALERTS": "a figure for /metrics, over a connection for reports",
    "COUNT_DEAD": "a figure for /metrics, over a connection for reports",
    "WAKE_SILENT": "all devices, once an hour",
    "COUNT_COMMANDS": "a dry run of retention, over a connection for reports",
    "CROWDED_ALERTS": "all alerts, over a connection for reports",
    "COUNT_CANCELLED": "a dry run of retention, over a connection for reports",
    "OLD_COMMANDS": "along command_closed_by_number, to the limit",
    "OLD_CANCELLED": "along command_closed_cancelled, to the limit",
    "OLD_RELATIONSHIPS": "along enrollment_ended, which holds nothing else",
    "LIST_REVIEWS": "any few will do, of the oldest notes from one end of the primary key",
    "LIST_CANARIES": "along identity_renewal_canary, which holds nothing else",
    "LIST_ALERTS": "a report over a tenant's alerts",
    "LIST_LIVE": "a report over all channels",
    "OTHER_NODES": "those who are connected, at the start",
    "READ_ONE": "the first row that comes",
    "SERVED_BY_TOPIC": "a report over a tenant; the index enrollment_figures where it is smaller than the table",
}
MAY_SORT = {
    "LIST_REVIEWS": "five thousand notes at most",
    "CROWDED_ALERTS": "all alerts, over a connection for reports",
    "LOCK_ROWS": "a device and its user, in one order on all nodes",
    "LOCK_PUSHED": "one batch, in one order on all nodes",
    "FIND_ENROLLMENTS": "of one device, with its users",
    "LIST_BINDINGS": "of one device",
    "LIST_CLOSED": "of one device, over a connection for reports",
    "TOKEN_HISTORY": "of one device, over a connection for reports",
    "SURPLUS": "of one channel, for retention",
    "CLOSE_AS_CANCELLED": "of one device",
    "LIST_LIVE": "a report over all channels",
    "LIST_ALERTS": "a report over a tenant's alerts",
    "CERTIFICATES": "a handful of rows",
    "APPLIED_MIGRATIONS": "a handful of rows, at the start",
    "EPOCHS": "a handful of rows, at the start",
    "POLICIES": "a handful of rows",
    "FIND_CERTIFICATES": "a handful of rows",
    "FIND_PENDING": "a handful of rows",
}
"""What is sorted, and why that is little or rare."""
SMALL_TABLES = {
    "push_certificate", "pending_push_key", "api_token", "token_count", "enrollment_count",
    "retention_place", "migration", "key_epoch", "policy",
}  # fmt: skip


def may_scan(name: str) -> bool:
    """Whether it is known to read more than it gives; a statement is called `room.NAME`."""
    return name.rpartition(".")[2] in MAY_SCAN


def loads() -> dict[str, str]:
    """The statements that asks of different shapes make."""
    shapes = [
        load.Shape(
            who=who,
            is_user=is_user,
            is_wide=is_wide,
            queue=queue,
            reports=reports_,
            value_of=TokenKind.BOOTSTRAP,
            asks_topic=who is not ByKey,
        )
        for who, is_user in (
            (ByCertificate, False),
            (ByCertificate, True),
            (ByName, False),
            (ByKey, False),
        )
        for is_wide, queue, reports_ in product((False, True), QueueView, (False, True))
        if not (who is ByKey and is_wide)  # nobody asks for that
    ]
    return {repr(shape): load.compose(shape).text for shape in shapes}


def writes() -> dict[str, str]:
    """The statements that plain changes of different shapes make."""
    shapes = [
        write_at_once.Shape(
            saves_row=bool(number % 2),
            holds_device=bool(number & 2),
            steps=number % 3,
            records=number % 3,
            proofs=number % 2,
            sheets=number % 2,
            closes=number % 2,
            lifts=bool(number & 4),
            moves=number % 2,
            enqueues=number % 2,
            wakes=number % 2,
            drops=(number + 1) % 2,
        )
        for number in range(12)
    ]
    return {repr(shape): write_at_once.compose(shape) for shape in shapes}


STATEMENTS = {**statements("postgres"), **loads(), **writes()}


@pytest.fixture(scope="module")
def big_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of fifty thousand devices, analysed."""
    url = asyncio.run(_fill(postgres_server))
    yield url
    asyncio.run(postgres_server.drop_database(url))


async def _fill(server: PostgresServer) -> str:
    url = await server.make_database()
    async with connected(url) as connection:
        await connection.execute(FILL, timeout=120)
        await connection.execute("VACUUM ANALYZE", timeout=120)
    return url


@asynccontextmanager
async def connected(url: str, settings: dict[str, str] | None = None) -> AsyncIterator[Connection]:
    """A connection as the server gives it, or with settings of ours."""
    connection = await asyncpg.connect(url, server_settings=settings or {})
    try:
        yield connection
    finally:
        await connection.close()


async def plan(connection: Connection, statement: str) -> list[str]:
    """How the statement would be run, whatever its values."""
    count = max((int(number) for number in re.findall(r"\$(\d+)", statement)), default=0)
    values = f"({', '.join(['NULL'] * count)})" if count else ""
    await connection.execute(
        f"SET plan_cache_mode = force_generic_plan; PREPARE one AS {statement}"
    )
    try:
        return [line for (line,) in await connection.fetch(f"EXPLAIN EXECUTE one{values}")]
    finally:
        await connection.execute("DEALLOCATE one")


async def walks(connection: Connection, these: dict[str, str]) -> dict[str, list[str]]:
    """The plans of those statements that read a whole table, or a whole index."""
    plans = {name: await plan(connection, statement) for name, statement in these.items()}
    return {name: lines for name, lines in plans.items() if list(_scanned(lines))}


def _scanned(lines: list[str]) -> Iterator[str]:
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        found = re.search(r"(Seq|Index|Index Only) Scan (?:using \w+ )?on (\w+)", line)
        if found and found[2] not in SMALL_TABLES and not _narrows(following):
            yield line


def _narrows(condition: str) -> bool:
    """Whether an index is asked for more than a tenant: most installations have one, and all rows are its rows."""
    asked = re.findall(r"(\w+)\)?(?:::\w+)? (?:[<>=]+|~|IS)", condition)
    return "Index Cond" in condition and asked != ["tenant"]


async def test_no_statement_walks_through_a_table(big_url: str) -> None:
    async with connected(big_url) as connection:
        walked = await walks(connection, STATEMENTS)
    assert not {name: lines for name, lines in walked.items() if not may_scan(name)}


async def test_no_statement_sorts_what_could_be_many(big_url: str) -> None:
    async with connected(big_url) as connection:
        plans = {name: await plan(connection, text) for name, text in STATEMENTS.items()}
    sorts = {
        name: lines
        for name, lines in plans.items()
        if name.rpartition(".")[2] not in MAY_SORT and any("Sort Key" in line for line in lines)
    }
    assert not sorts


async def test_what_is_taken_in_order_is_not_sorted(big_url: str) -> None:
    """A queue of a thousand commands costs no more than one of two, a burst of wakes no more than a few."""
    idle = load.compose(
        load.Shape(
            who=ByCertificate,
            is_user=False,
            is_wide=False,
            queue=QueueView.WHOLE,
            reports=False,
            value_of=None,
            asks_topic=False,
        )
    )
    async with connected(big_url) as connection:
        for statement in (idle.text, wakes.CLAIM_WAKES, wakes.NEXT_DUE, write_news.LAST_AUDIT):
            lines = await plan(connection, statement)
            assert not [line for line in lines if "Sort" in line], lines


async def test_tables_that_were_empty_when_they_were_analysed_have_good_plans_too(
    postgres_server: PostgresServer,
) -> None:
    """A queue fills in a moment; the server analyses it a minute later. What counts is its size when a plan is made."""
    hot = {
        name: statement
        for name, statement in STATEMENTS.items()
        if not may_scan(name) and not name.startswith("reports.")
    }
    url = await postgres_server.make_database()
    async with connected(url, HOT) as connection:
        await connection.execute("VACUUM ANALYZE")
        await connection.execute(FILL, timeout=120)
        walked = await walks(connection, hot)
    await postgres_server.drop_database(url)
    assert not walked


async def test_plans_are_made_anew_after_a_while(postgres_url: str) -> None:
    async with open_postgres(f"{postgres_url}&pool_size=1", clock=MovedClock()) as storage:
        await storage.check()
        (session,) = storage._pool._idle
        assert not session.plans_are_older_than(PLANS_LAST_SECONDS)
        session._planned_at -= PLANS_LAST_SECONDS + 1
        assert session.plans_are_older_than(PLANS_LAST_SECONDS)
        await storage.check()
        assert not session.plans_are_older_than(PLANS_LAST_SECONDS)


async def test_a_row_saved_in_place_touches_no_index(big_url: str) -> None:
    """A TokenUpdate writes one page of the table: HOT, as PostgreSQL calls it."""
    async with open_postgres(big_url, clock=MovedClock()) as storage:
        ask = Ask(who=ByName(tenant=DEFAULT_TENANT, enrollment_id=EnrollmentId("UDID-7")))

        def save(snapshot: Snapshot) -> Change[None]:
            assert snapshot.device is not None
            return Change(at=NOON, answer=None, rows=(replace(snapshot.device, awaiting=True),))

        await storage.enrollments.decide(ask, save)
    async with connected(big_url) as connection:
        updated = await connection.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'enrollment'"
        )
    assert updated is not None
    assert updated["n_tup_upd"] == updated["n_tup_hot_upd"] == 1
