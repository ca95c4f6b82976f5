"""One at a time for each certificate, and a flood of one device's that is its own trouble."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from conformance.storage_twins import show, store
from conformance.storage_values import (
    MovedClock,
    after,
    binding,
    by_certificate,
    channel,
    device,
    key,
)
from ostiary.domain.decision import Ask, ByKey, Change, Snapshot
from ostiary.errors import Unavailable
from ostiary.ports.storage import StorageBusy
from ostiary.storage.postgres.lanes import Lanes
from ostiary.storage.postgres.storage import PostgresStorage, open_postgres

DEVICES = 12
HOLD = "SELECT 1 FROM enrollment WHERE key = ANY($1::text[]) FOR UPDATE"


@pytest.fixture
async def storage(postgres_url: str) -> AsyncIterator[PostgresStorage]:
    async with open_postgres(f"{postgres_url}&pool_size=4", clock=MovedClock()) as opened:
        rows = tuple(device(number) for number in range(1, DEVICES + 1))
        bindings = tuple(binding(number, to=number) for number in range(1, DEVICES + 1))
        await store(opened, rows=rows, bind=bindings)
        yield opened


async def says_something(storage: PostgresStorage, number: int) -> None:
    def rule(seen: Snapshot) -> Change[None]:
        assert seen.device is not None
        row = replace(seen.device, token_updates=seen.device.token_updates + 1)
        return Change(at=after(minutes=1), answer=None, rows=(row,))

    await storage.enrollments.decide(Ask(who=by_certificate(number, channel(number))), rule)


async def outcomes(*awaited: Any) -> list[Any]:
    return await asyncio.gather(*awaited, return_exceptions=True)


async def test_a_device_that_says_many_things_at_once_is_answered_each_in_its_turn(
    storage: PostgresStorage,
) -> None:
    await asyncio.gather(*(says_something(storage, 1) for _ in range(40)))
    seen = await show(storage, Ask(who=ByKey(key=key(1))))
    assert seen.device is not None
    assert seen.device.token_updates == device(1).token_updates + 40
    assert not len(storage.enrollments._lanes)


async def test_a_flood_of_one_device_is_turned_away_and_nobody_else_is(
    storage: PostgresStorage,
) -> None:
    flood = [says_something(storage, 1) for _ in range(300)]
    others = [says_something(storage, number) for number in range(2, DEVICES + 1)]
    told = await outcomes(*flood, *others)
    assert {type(one) for one in told[:300]} == {type(None), StorageBusy}
    assert told[300:] == [None] * len(others)


async def test_rows_that_somebody_holds_leave_connections_for_the_others(
    storage: PostgresStorage, postgres_url: str
) -> None:
    """A node that was stopped in the middle of a batch holds its rows for seconds."""
    held = [key(number) for number in range(1, 9)]
    holder = await asyncpg.connect(postgres_url)
    try:
        async with asyncio.TaskGroup() as group, holder.transaction():
            await holder.fetch(HOLD, held)
            stuck = [
                group.create_task(outcomes(says_something(storage, number)))
                for number in range(1, 9)
            ]
            while storage.enrollments._insisting._value:
                await holder.fetchval("SELECT 1")
            for _ in range(5):
                await asyncio.gather(*(says_something(storage, number) for number in (9, 10, 11)))
    finally:
        await holder.close()
    told = [outcome for task in stuck for outcome in task.result()]
    assert all(one is None or isinstance(one, Unavailable | Exception) for one in told)
    seen = await show(storage, Ask(who=ByKey(key=key(9))))
    assert seen.device is not None
    assert seen.device.token_updates == device(9).token_updates + 5


async def test_who_leaves_a_lane_gives_the_turn_to_the_next() -> None:
    lanes = Lanes()
    order: list[str] = []
    entered, go = asyncio.Event(), asyncio.Event()

    async def work(name: str) -> None:
        async with lanes.turn("one certificate"):
            entered.set()
            await go.wait()
            order.append(name)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work(name)) for name in ("first", "second", "third")]
        await entered.wait()
        tasks[1].cancel()
        tasks[0].cancel()
        go.set()
    assert order == ["third"]
    assert not len(lanes)


async def test_a_turn_that_came_in_the_moment_of_leaving_is_passed_on() -> None:
    lanes = Lanes()
    async with asyncio.TaskGroup() as group:
        first = lanes.turn("name")
        await first.__aenter__()

        async def wait() -> str:
            async with lanes.turn("name"):
                return "had its turn"

        second, third = group.create_task(wait()), group.create_task(wait())
        await asyncio.sleep(0)
        await first.__aexit__(None, None, None)
        second.cancel()
    assert (second.cancelled(), third.result()) == (True, "had its turn")
    assert not len(lanes)


async def test_a_lane_is_no_longer_than_its_bound() -> None:
    lanes = Lanes(longest=1)

    async def wait() -> str:
        try:
            async with lanes.turn("name"):
                return "came in"
        except StorageBusy:
            return "turned away"

    async with asyncio.TaskGroup() as group, lanes.turn("name"):
        waiting = [group.create_task(wait()) for _ in range(3)]
        await asyncio.sleep(0)
        assert [task.done() for task in waiting] == [False, True, True]
    assert [task.result() for task in waiting] == ["came in", "turned away", "turned away"]
