"""A database that dies, hangs, or is not there: 503 for who asked, nothing acknowledged lost, and no restart needed."""

import asyncio
from typing import Any

import asyncpg
import pytest

from conformance.storage_twins import show, store, visible_state
from conformance.storage_values import MovedClock, command, device, key
from ostiary.domain.decision import Ask, ByKey, Change, QueueView
from ostiary.errors import Unavailable
from ostiary.ports.storage import StorageBusy, StorageFailed
from ostiary.storage import open_storage
from ostiary.storage.errors import UnusableDatabaseUrl
from ostiary.storage.postgres.address import decode_address
from ostiary.storage.postgres.storage import PostgresStorage, open_postgres
from postgres_server import PostgresServer


def opened(url: str, pool_size: int = 8, **changes: Any) -> PostgresStorage:
    return open_postgres(f"{url}&pool_size={pool_size}", clock=MovedClock(), **changes)


async def test_what_was_acknowledged_survives_the_death_of_the_server(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    """Killed in the middle of the work: who got an answer is stored, everybody else is told to come again."""
    async with opened(postgres_url) as storage:
        await store(storage, rows=(device(1),))
        acknowledged: list[str] = []
        refused: list[BaseException] = []

        async def enqueue(number: int) -> None:
            name = f"command {number}"
            change = Change(at=device(1).created_at, answer=None, enqueue=(command(name, to=1),))
            try:
                await storage.enrollments.decide(Ask(who=ByKey(key=key(1))), lambda _: change)
            except Unavailable as error:
                refused.append(error)
            else:
                acknowledged.append(name)
                if len(acknowledged) == 20:
                    postgres_server.kill()

        await asyncio.gather(*(enqueue(number) for number in range(120)))
        assert refused
        assert len(acknowledged) >= 20
        postgres_server.restart()
        stored = {name for _, name in (await visible_state(storage))["commands"]}
        assert set(acknowledged) <= stored


async def test_a_database_that_is_away_is_asked_again_each_time(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    async with opened(postgres_url) as storage:
        await store(storage, rows=(device(1),))
        postgres_server.kill()
        ask = Ask(who=ByKey(key=key(1)))
        for _ in range(3):
            with pytest.raises(StorageFailed):
                await show(storage, ask)
            with pytest.raises(StorageFailed):
                await storage.check()
        # Nobody is told of this wake for now; but it can be waited for, and is found by looking.
        await storage.wakes.wait(0.01)
        postgres_server.restart()
        assert (await show(storage, ask)).device is not None
        await storage.check()


async def test_a_database_that_hangs_is_given_up_in_time(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    """A device sees 503 after a bounded time, and is served as soon as the database goes on."""
    ask = Ask(who=ByKey(key=key(1)))
    async with opened(postgres_url, pool_size=2, timeout_seconds=0.2, wait_seconds=0.3) as storage:
        await store(storage, rows=(device(1),))
        async with postgres_server.paused():
            outcomes = await asyncio.gather(
                *(show(storage, ask) for _ in range(6)), return_exceptions=True
            )
        assert all(isinstance(outcome, (StorageFailed, StorageBusy)) for outcome in outcomes)
        assert (await show(storage, ask)).device is not None


async def test_a_row_that_somebody_holds_is_not_waited_for_for_ever(postgres_url: str) -> None:
    async with opened(postgres_url, timeout_seconds=0.3) as storage:
        await store(storage, rows=(device(1),))
        holder = await asyncpg.connect(postgres_url)
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM enrollment FOR UPDATE")
            with pytest.raises(StorageFailed):
                await store(storage, rows=(device(1, version=1),))
        await holder.close()
        await store(storage, rows=(device(1, version=1),))


async def test_what_is_asked_while_the_disk_is_slow_waits_in_a_bounded_queue(
    postgres_url: str,
) -> None:
    async with opened(postgres_url, pool_size=1, longest_queue=2) as storage:
        await storage.check()
        holds, release = asyncio.Event(), asyncio.Event()

        async def hold(_: object) -> None:
            holds.set()
            await release.wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(storage._pool.run(hold))
            await holds.wait()
            waiting = [group.create_task(storage.check()) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(StorageBusy):
                await storage.check()
            release.set()
            await asyncio.gather(*waiting)


async def test_who_waits_too_long_is_told_to_come_again(postgres_url: str) -> None:
    async with opened(postgres_url, pool_size=1, wait_seconds=0.01) as storage:
        release = asyncio.Event()

        async def hold(_: object) -> None:
            with pytest.raises(StorageBusy):
                await storage.check()
            release.set()

        await storage._pool.run(hold)
        assert release.is_set()
        await storage.check()


async def test_callers_who_go_away_do_not_use_connections_up(postgres_url: str) -> None:
    async with opened(postgres_url, pool_size=2) as storage:
        await store(storage, rows=(device(1),))
        for _ in range(5):
            tasks = [
                asyncio.ensure_future(storage._pool.rows("SELECT pg_sleep(60)")) for _ in "123456"
            ]
            await storage_is_used(storage)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert (await show(storage, Ask(who=ByKey(key=key(1))))).device is not None


async def storage_is_used(storage: PostgresStorage) -> None:
    """Give tasks that were just started the turns of the loop that they need to be under way."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert storage._pool._open == 2


async def test_a_database_that_is_not_there_is_unavailable() -> None:
    storage = open_postgres("postgresql://postgres@127.0.0.1:1/nothing", clock=MovedClock())
    with pytest.raises(StorageFailed):
        await storage.epochs.load_epochs()
    await storage.close()


async def test_a_closed_storage_says_so(postgres_url: str) -> None:
    storage = opened(postgres_url)
    await storage.close()
    with pytest.raises(StorageFailed):
        await storage.check()


async def test_behind_a_transaction_pooler_nothing_is_prepared_or_listened_to(
    postgres_url: str,
) -> None:
    async with opened(f"{postgres_url}&prepared=off") as storage:
        await store(storage, rows=(device(1),), enqueue=(command("one", to=1),))
        shown = await show(storage, Ask(who=ByKey(key=key(1)), queue=QueueView.WHOLE))
        assert [one.uuid for one in shown.queue] == ["one"]
        assert await storage.wakes.next_due_at() is None
        await storage.wakes.wait(0.01)
        assert await storage._pool.rows("SELECT name FROM pg_prepared_statements") == []
        assert await storage._pool.rows("SELECT pg_listening_channels()") == []


async def test_a_url_opens_the_engine_that_it_names(postgres_url: str) -> None:
    storage = open_storage(postgres_url, MovedClock())
    await storage.check()
    await storage.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://host/name?pool_size=many",
        "postgresql://host/name?pool_size=0",
        "postgresql://host/name?pool_size=1000",
        "postgresql://host/name?prepared=perhaps",
    ],
)
def test_a_url_that_makes_no_sense_is_refused_without_being_repeated(url: str) -> None:
    secret = url.replace("host", "user:pass-phrase@host")
    with pytest.raises(UnusableDatabaseUrl) as caught:
        decode_address(secret)
    assert "pass-phrase" not in str(caught.value)


def test_what_is_meant_for_the_driver_stays_in_the_url_and_out_of_sight() -> None:
    address = decode_address(
        "postgresql://u:pass-phrase@h/n?sslmode=require&pool_size=3&prepared=off"
    )
    assert (address.pool_size, address.is_direct) == (3, False)
    assert address.url == "postgresql://u:pass-phrase@h/n?sslmode=require"
    assert "pass-phrase" not in repr(address)
