"""Work that outlives the call which began it, and that somebody nevertheless closes and hears."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Background:
    """Tasks of one owner. `close` cancels them; `settle` waits until none is left.

    A TaskGroup would tie them to the block that opened it; a server opened by a fixture has no such block.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.problems: list[BaseException] = []
        """What ended a task that was not cancelled."""

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let `work` run by itself."""
        task = asyncio.create_task(work)  # noqa: TID251 (kept, cancelled and heard by this class)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self.problems.append(problem)

    async def settle(self) -> None:
        """Wait until nothing is left running, whatever was started meanwhile."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self) -> None:
        """Cancel what is left and wait for it."""
        for task in self._tasks:
            task.cancel()
        await self.settle()
