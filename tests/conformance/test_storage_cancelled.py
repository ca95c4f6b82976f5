"""A device may hang up at any moment: whatever line its request had reached, everybody else is served as before."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import asyncpg
import pytest

from conformance.storage_twins import AnyStorage, show, store, visible_state
from conformance.storage_values import NOON, MovedClock, command, device, key
from ostiary.domain.decision import Ask, ByKey, Change, Snapshot
from ostiary.errors import Unavailable
from ostiary.storage.postgres.storage import open_postgres
from postgres_server import PATIENCE_SECONDS

MOST_TURNS = 40
"""Of the event loop, after which a request is cut off: more than one takes on any engine."""
AT_ONCE = 6
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


async def cut_off(request: Coroutine[Any, Any, Any], turns: int) -> bool:
    """Let the request run for so many turns of the loop, and hang up; whether it was answered before."""
    task = asyncio.ensure_future(request)
    for _ in range(turns):
        # Half of them wait for the database, too.
        await asyncio.sleep(0.0002 if turns % 2 else 0)
    task.cancel()
    await asyncio.wait([task])
    return not task.cancelled() and task.exception() is None


async def enqueue(storage: AnyStorage, name: str) -> None:
    def rule(_: Snapshot) -> Change[None]:
        return Change(at=NOON, answer=None, enqueue=(command(name, to=1),))

    await storage.enrollments.decide(Ask(who=ByKey(key=key(1))), rule)


async def test_requests_that_are_cut_off_anywhere_hold_nobody_up(storage: AnyStorage) -> None:
    """design.md 4: what was answered is stored; what was cut off is stored whole or not at all; all others go on."""
    await store(storage, rows=(device(1),))
    answered: set[str] = set()
    for turns in range(MOST_TURNS):
        names = [f"cut off after {turns}, {number}" for number in range(AT_ONCE)]
        cut = [cut_off(enqueue(storage, name), turns + place) for place, name in enumerate(names)]
        stays = f"stays beside {turns}"
        *outcomes, _ = await asyncio.gather(*cut, enqueue(storage, stays))
        answered |= {name for name, was in zip(names, outcomes, strict=True) if was} | {stays}
        assert (await show(storage, Ask(who=ByKey(key=key(1))))).device is not None
    stored = {name for _, name in (await visible_state(storage))["commands"]}
    assert answered <= stored


@pytest.mark.parametrize("is_new", [True, False], ids=["while it connects", "while it works"])
async def test_no_connection_is_left_behind_by_who_hangs_up(
    postgres_url: str, *, is_new: bool
) -> None:
    """A pool that lost count would end in 503 for everybody; a forgotten connection would use the server's up."""
    watcher = await asyncpg.connect(postgres_url)
    url = f"{postgres_url}&pool_size=2"
    storage = open_postgres(url, clock=MovedClock())
    if not is_new:
        await store(storage, rows=(device(1),))
    for turns in range(MOST_TURNS):
        if is_new:
            await storage.close()
            storage = open_postgres(url, clock=MovedClock())
        cut = [cut_off(show(storage, Ask(who=ByKey(key=key(1)))), turns + n) for n in range(4)]
        await asyncio.gather(*cut)
        try:
            await storage.check()
        except Unavailable:
            pytest.fail(f"nobody is served any more after {turns} turns")
        assert storage._pool._open <= 2
        assert not storage._pool._waiting
    await storage.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await watcher.fetchval(OTHERS):  # noqa: ASYNC110 - the database rings no bell for this
            await asyncio.sleep(0.002)
    await watcher.close()
