"""Nobody waits for ever behind those who hung up, or for a batch that came to no end of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from ostiary.ports.storage import StorageFailed
from ostiary.storage.postgres.batches import LARGEST_BATCH, Batches
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.session import Row, Session

STATEMENT = "any"
PATIENCE_SECONDS = 20.0


class HeldPool:
    """A pool whose statements give back what they were given, once they may."""

    def __init__(self) -> None:
        self.may_go = asyncio.Event()
        self.batches = 0
        self.answers: Callable[[Sequence[Sequence[Any]]], list[Row]] = list

    async def run(self, work: Callable[[Session], Awaitable[Any]]) -> Any:
        self.batches += 1
        await self.may_go.wait()
        return await work(cast(Session, self))

    async def many(self, statement: str, values: Sequence[Sequence[Any]]) -> list[Row]:
        del statement
        return self.answers(values)


@pytest.fixture
def pool() -> HeldPool:
    return HeldPool()


@pytest.fixture
def batches(pool: HeldPool) -> Batches:
    return Batches(cast(Pool, pool), longest_queue=10 * LARGEST_BATCH)


async def test_who_waits_behind_a_whole_batch_that_hung_up_is_served(
    pool: HeldPool, batches: Batches
) -> None:
    """A device's request is not lost because others went away, even if nobody comes after it."""
    loop = asyncio.get_running_loop()
    under_way = loop.create_task(_ask(batches, "under way"))
    while not pool.batches:  # noqa: ASYNC110 - a turn or two of the loop
        await asyncio.sleep(0)
    gone = [loop.create_task(_ask(batches, "gone")) for _ in range(LARGEST_BATCH)]
    last = loop.create_task(_ask(batches, "last"))
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    await asyncio.wait(gone)
    pool.may_go.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await last == [("last", 0)]
        await under_way


async def test_a_batch_whose_answer_makes_no_sense_is_told_to_everybody_in_it(
    pool: HeldPool, batches: Batches
) -> None:
    pool.may_go.set()
    pool.answers = lambda values: [("nobody's", len(values))]
    async with asyncio.timeout(PATIENCE_SECONDS):
        outcomes = await asyncio.gather(
            *(_ask(batches, f"{number}") for number in range(3)), return_exceptions=True
        )
    assert {type(outcome) for outcome in outcomes} == {StorageFailed}


async def test_a_batch_that_is_cut_off_is_told_to_everybody_in_it(
    pool: HeldPool, batches: Batches
) -> None:
    loop = asyncio.get_running_loop()
    asking = [loop.create_task(_ask(batches, f"{number}")) for number in range(3)]
    while not pool.batches:  # noqa: ASYNC110 - a turn or two of the loop
        await asyncio.sleep(0)
    for task in batches._tasks:
        task.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StorageFailed}


async def _ask(batches: Batches, name: str) -> Sequence[Row]:
    return await batches.rows(STATEMENT, name, 0)
