"""Retention on several nodes of PostgreSQL: one works at a time, and nothing is counted twice."""

import asyncio
from datetime import timedelta

from conformance.storage_twins import store
from conformance.storage_values import NOON, MovedClock, after, closed, device, record
from ostiary.domain.retention import Aged
from ostiary.storage.postgres.storage import open_postgres

LEASE = timedelta(minutes=3)


async def test_one_node_has_the_turn_until_its_lease_ends(postgres_url: str) -> None:
    clock = MovedClock()
    async with (
        open_postgres(postgres_url, clock=clock) as one,
        open_postgres(postgres_url, clock=clock) as other,
    ):
        assert await one.retention.take_turn(NOON, lease=LEASE)
        assert not await other.retention.take_turn(NOON, lease=LEASE)
        assert await one.retention.take_turn(after(minutes=2), lease=LEASE)
        assert not await other.retention.take_turn(after(minutes=4), lease=LEASE)
        assert await other.retention.take_turn(after(minutes=5), lease=LEASE)
        assert not await one.retention.take_turn(after(minutes=5), lease=LEASE)


async def test_a_turn_that_a_clock_a_year_ahead_took_is_nobodys(postgres_url: str) -> None:
    """Else no other node forgets anything for a year. (users.md 5.2, promise 10)"""
    clock = MovedClock()
    async with (
        open_postgres(postgres_url, clock=clock) as wrong,
        open_postgres(postgres_url, clock=clock) as right,
    ):
        assert await wrong.retention.take_turn(after(days=365), lease=LEASE)
        assert await right.retention.take_turn(NOON, lease=LEASE)
        assert not await wrong.retention.take_turn(after(minutes=1), lease=LEASE)


async def test_two_nodes_that_work_at_once_remove_nothing_twice_and_miss_nothing(
    postgres_url: str,
) -> None:
    """A lease may end while its node still works: a clock jumped, or the node hung."""
    clock = MovedClock()
    async with (
        open_postgres(postgres_url, clock=clock) as one,
        open_postgres(postgres_url, clock=clock) as other,
    ):
        await store(one, rows=(device(1),), close=tuple(closed(f"c-{n}", 1) for n in range(200)))
        await store(one, records=tuple(record(n, n % 7) for n in range(1, 200)))

        async def forget(node: object) -> None:
            retention = node.retention  # type: ignore[attr-defined]  # either of the two
            while await retention.drop_aged(Aged.ENDED_COMMANDS, after(days=1), limit=7):
                await retention.fold_counts(limit=11)

        async with asyncio.TaskGroup() as group:
            for node in (one, other, one, other):
                group.create_task(forget(node))
        assert await one.retention.count_aged(Aged.ENDED_COMMANDS, after(days=1)) == 0
        counts = await one.reports.count()
        assert counts.tokens == {("push", "ok"): 199}
        assert counts.enrollments == {("Device", "enrolled"): 1}


async def test_folding_leaves_one_row_for_each_kind_and_state(postgres_url: str) -> None:
    """What /metrics reads does not grow with the ledger. (design.md 4)"""
    async with open_postgres(postgres_url, clock=MovedClock()) as storage:
        await store(storage, records=tuple(record(n, n) for n in range(1, 300)))
        assert len(await storage._pool.rows("SELECT FROM token_count")) == 299
        while await storage.retention.fold_counts(limit=100) > 1:
            pass
        assert len(await storage._pool.rows("SELECT FROM token_count")) == 1
        assert (await storage.reports.count()).tokens == {("push", "ok"): 299}
