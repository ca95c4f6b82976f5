"""One at a time for each certificate: who says a hundred things at once waits for himself, and nobody waits for him.

Decisions on one row follow one another anyway (decision 0012). If those of one device came at them all at once, all but one would
find the turn taken and stand in line with a connection each, and everybody else's batches behind them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ostiary.ports.storage import StorageBusy

LONGEST_LANE: Final = 64


class Lanes:
    """Names that somebody is at work under, and who waits for each."""

    def __init__(self, longest: int = LONGEST_LANE) -> None:
        self._longest = longest
        self._waiting_by_name: dict[str, deque[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return len(self._waiting_by_name)

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait until nobody else is at work under this name.

        Raises:
            StorageBusy: too many wait for it already.
        """
        waiting = self._waiting_by_name.get(name)
        if waiting is None:
            self._waiting_by_name[name] = deque()
        else:
            await self._wait(name, waiting)
        try:
            yield
        finally:
            self._pass_on(name)

    async def _wait(self, name: str, waiting: deque[asyncio.Future[None]]) -> None:
        if len(waiting) >= self._longest:
            raise StorageBusy("too many messages of one device at once", waiting=len(waiting))
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._pass_on(name)  # the turn came in the very moment in which we left
            raise

    def _pass_on(self, name: str) -> None:
        waiting = self._waiting_by_name[name]
        while waiting:
            following = waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        del self._waiting_by_name[name]
