"""Several servers for one database, servers that only read, and nodes that were away: who may write, and when."""

import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import quote

import asyncpg
import pytest

from conformance.storage_twins import show, store, visible_state
from conformance.storage_values import NOON, MovedClock, after, device, key, pointer, record
from ostiary.domain.decision import Ask, ByKey, Wake
from ostiary.ports.storage import DueWake, StorageFailed, WakeStep
from ostiary.storage.errors import UnusableDatabaseUrl
from ostiary.storage.postgres.address import decode_address
from ostiary.storage.postgres.pool import HOT, open_session
from ostiary.storage.postgres.storage import PostgresStorage, open_postgres
from postgres_server import PostgresServer

ONE = Ask(who=ByKey(key=key(1)))


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        (
            "postgresql://u:p@one:5432,two:5433/n?sslmode=require",
            (
                "postgresql://u:p@one:5432/n?sslmode=require",
                "postgresql://u:p@two:5433/n?sslmode=require",
            ),
        ),
        ("postgresql://[::1]:5,[::2]/n", ("postgresql://[::1]:5/n", "postgresql://[::2]/n")),
        (
            "postgresql://u@/n?host=/a,b&port=1,2",
            ("postgresql://u@/n?host=%2Fa&port=1", "postgresql://u@/n?host=b&port=2"),
        ),
        (
            "postgresql://u@/n?host=/a,/b&port=1",
            ("postgresql://u@/n?host=%2Fa&port=1", "postgresql://u@/n?host=%2Fb&port=1"),
        ),
        ("postgres:///n", ("postgres:///n",)),
    ],
)
def test_several_hosts_are_tried_one_by_one(url: str, urls: tuple[str, ...]) -> None:
    """As libpq writes them; the driver has one time limit for all, which a machine that is off would use up."""
    assert decode_address(url).urls == urls


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@/n?host=/a,/b&port=1,2,3",
        "postgresql://one,two/n?target_session_attrs=standby",
        "postgresql://one/n?target_session_attrs=read-only",
    ],
)
def test_hosts_without_their_ports_and_servers_that_only_read_make_no_sense(url: str) -> None:
    with pytest.raises(UnusableDatabaseUrl):
        decode_address(url)


async def test_a_server_that_says_nothing_is_passed_by_and_not_asked_first_again(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    """A machine that lost its power refuses nobody; the next connection does not wait for it once more."""
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = quote(f"127.0.0.1,{postgres_server.folder}", safe="")
        ports = f"{silent.getsockname()[1]},5432"
        address = decode_address(
            f"postgresql://postgres@/{name}?host={hosts}&port={ports}&sslmode=disable"
        )
        first = await open_session(address, HOT, timeout_seconds=0.5)
        assert await first.rows("SELECT 1")
        assert quote(str(postgres_server.folder), safe="") in address.urls[0]
        first.end()


async def test_a_server_that_only_reads_is_a_database_that_is_away(postgres_url: str) -> None:
    """As during a switch-over; 503, and as soon as it takes writes again everything goes on by itself. (25006)"""
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    async with open_postgres(postgres_url, clock=MovedClock()) as storage:
        await store(storage, rows=(device(1),))
    operator = await asyncpg.connect(postgres_url)
    await operator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        async with open_postgres(postgres_url, clock=MovedClock()) as storage:
            for _ in range(2):
                with pytest.raises(StorageFailed):
                    await store(storage, rows=(device(1, version=1),))
            await operator.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            await store(storage, rows=(device(1, version=1),))
    finally:
        await operator.execute("SET default_transaction_read_only = off")
        await operator.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await operator.close()


async def test_rows_of_a_node_that_stopped_in_a_transaction_are_free_after_a_bounded_time(
    postgres_url: str,
) -> None:
    """The server ends a transaction in which nothing is said; ten seconds in service, a tenth of one here."""
    assert HOT["idle_in_transaction_session_timeout"] == "10s"
    async with open_postgres(postgres_url, clock=MovedClock()) as storage:
        await store(storage, rows=(device(1),))
        settings = HOT | {"idle_in_transaction_session_timeout": "100ms"}
        stopped = await open_session(decode_address(postgres_url), settings, timeout_seconds=15)
        await stopped.script("BEGIN")
        await stopped.rows("SELECT 1 FROM enrollment FOR UPDATE")
        await store(storage, rows=(device(1, version=1),))  # waits for the row, and has it
        with pytest.raises(StorageFailed):  # what it still wanted to write comes to nothing
            await stopped.script("UPDATE enrollment SET version = 99; COMMIT")
        assert (await show(storage, ONE)).device == device(1, version=2)


@pytest.fixture
async def nodes(postgres_url: str) -> AsyncIterator[tuple[PostgresStorage, PostgresStorage]]:
    """Two nodes, and one channel that is to be woken."""
    async with (
        open_postgres(postgres_url, clock=MovedClock()) as one,
        open_postgres(postgres_url, clock=MovedClock()) as other,
    ):
        wake = Wake(enrollment_key=key(1), due_at=NOON)
        await store(
            one,
            rows=(device(1, push=pointer(1)),),
            records=(record(1, holder=1),),
            wakes=(wake,),
        )
        yield one, other


def step(due: DueWake, **changes: object) -> WakeStep:
    fields = {
        "enrollment_key": due.enrollment.key,
        "record_id": due.push_record.id,
        "at": after(minutes=9),
        "attempt": 1,
        "accepted": True,
        "next_due_at": None,
    }
    return WakeStep(**{**fields, **changes})  # type: ignore[arg-type]  # a table of keywords


@pytest.mark.parametrize("later", [None, after(days=1)])
async def test_a_node_that_slept_through_its_lease_does_not_settle_what_another_has_claimed(
    nodes: tuple[PostgresStorage, PostgresStorage], later: object
) -> None:
    """The other one may die yet: then the channel must be due once more."""
    slept, other = nodes
    lease = timedelta(minutes=2)
    (late,) = await slept.wakes.claim(NOON, limit=9, lease=lease)
    assert not await other.wakes.claim(after(minutes=1), limit=9, lease=lease)
    (taken,) = await other.wakes.claim(after(minutes=3), limit=9, lease=lease)
    await slept.wakes.settle([step(late, next_due_at=later)])
    wake = (await visible_state(other))["wakes"][key(1)]
    assert wake.due_at == after(minutes=5)  # the other's lease
    await other.wakes.settle([step(taken)])
    assert (await visible_state(other))["wakes"] == {}


async def test_a_late_node_may_still_settle_what_nobody_has_claimed_since(
    nodes: tuple[PostgresStorage, PostgresStorage],
) -> None:
    slept, other = nodes
    (late,) = await slept.wakes.claim(NOON, limit=9, lease=timedelta(minutes=2))
    await slept.wakes.settle([step(late)])
    assert (await visible_state(other))["wakes"] == {}
