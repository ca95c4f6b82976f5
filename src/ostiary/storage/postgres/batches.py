"""Requests that ask the same at the same time ask together: one way to the database and back, and one commit, for all.

A statement's way costs several times what running it costs, on both sides, and a commit more than either. So
statements of one text that were asked in the same turn of the loop, or while such a batch was under way, are sent
as one pipeline, which PostgreSQL runs as one transaction. What fails for one is then asked for each by itself.
"""

import asyncio
import copy
from collections import deque
from collections.abc import Iterator, Sequence
from contextvars import Context
from typing import Any, Final, Protocol

from ostiary.errors import OstiaryError
from ostiary.ports.storage import StorageBusy, StorageFailed
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.session import Row

ALONE: Final = 0
"""The place of a statement that is asked by itself; in a batch, each has another."""
LARGEST_BATCH: Final = 64
SLOW_SECONDS: Final = 0.05
"""A batch that takes longer waits for a row that somebody holds; those who come later need not wait with it."""
MOST_UNDER_WAY: Final = 4
_BAD_VALUE: Final = "22"
"""The class of SQLSTATEs that are about one value."""


class RowSource(Protocol):
    """Somebody who runs a statement and gives its rows: one session, or a batch with others."""

    async def rows(self, statement: str, *values: Any) -> Sequence[Row]: ...


class _Asked:
    """One request's values, and what will become of them."""

    __slots__ = ("answer", "values")

    def __init__(self, values: tuple[Any, ...], answer: asyncio.Future[Sequence[Row]]) -> None:
        self.values = values
        self.answer = answer


class _Line:
    """Who waits with one statement."""

    __slots__ = ("is_due", "slow", "under_way", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Asked] = deque()
        self.under_way = 0
        self.slow = 0
        """How many of those under way nobody waits for any more."""
        self.is_due = False


class _Patience:
    """Whether a batch under way has become slow."""

    __slots__ = ("is_over",)

    def __init__(self) -> None:
        self.is_over = False


class Batches:
    """Runs statements of many requests together, on connections of one pool."""

    def __init__(self, pool: Pool, *, longest_queue: int) -> None:
        self._pool = pool
        self._longest_queue = longest_queue
        self._waiting = 0
        self._lines: dict[str, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def rows(self, statement: str, *values: Any) -> Sequence[Row]:
        """The rows that the statement gives for these values.

        Its last value is its place in a batch, which we choose, and its last column tells that place again.

        Raises:
            ChangeDoesNotFit: for these values; nothing is stored of what it would have written.
            StorageBusy: too many wait already.
            StorageFailed: as `Pool.run`; whether it was written is then not known.
        """
        if self._waiting >= self._longest_queue:
            raise StorageBusy(waiting=self._waiting)
        loop = asyncio.get_running_loop()
        asked = _Asked(values, loop.create_future())
        line = self._lines.get(statement)
        if line is None:
            line = self._lines[statement] = _Line()
        line.waiting.append(asked)
        self._waiting += 1
        self._plan(statement, line)
        return await asked.answer

    async def close(self) -> None:
        """Let what is under way end."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    def _plan(self, statement: str, line: _Line) -> None:
        """Send at the end of this turn of the loop, so that whoever else is just being read comes along."""
        is_free = line.under_way == line.slow and line.under_way < MOST_UNDER_WAY
        if is_free and not line.is_due:
            line.is_due = True
            asyncio.get_running_loop().call_soon(self._start, statement, line, context=Context())

    def _start(self, statement: str, line: _Line) -> None:
        line.is_due = False
        batch = list(self._next(line))
        if not batch:
            return
        line.under_way += 1
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._send(statement, batch))
        self._tasks.add(task)
        patience = _Patience()
        timer = loop.call_later(SLOW_SECONDS, self._pass_by, patience, statement, line)

        def end(done: asyncio.Task[None]) -> None:
            timer.cancel()
            self._tasks.discard(done)
            line.under_way -= 1
            line.slow -= patience.is_over
            if line.waiting:
                self._plan(statement, line)

        task.add_done_callback(end)

    def _next(self, line: _Line) -> Iterator[_Asked]:
        """Who goes along; whoever gave up waiting is left behind."""
        taken = 0
        while line.waiting and taken < LARGEST_BATCH:
            asked = line.waiting.popleft()
            self._waiting -= 1
            if not asked.answer.done():
                taken += 1
                yield asked

    def _pass_by(self, patience: _Patience, statement: str, line: _Line) -> None:
        patience.is_over = True
        line.slow += 1
        if line.waiting:
            self._plan(statement, line)

    async def _send(self, statement: str, batch: list[_Asked]) -> None:
        try:
            await self._ask(statement, batch)
        finally:
            # However it ended, cut off or by a fault of ours: nobody waits for it any more.
            for asked in batch:
                _fail(asked, StorageFailed("what was asked together came to no answer"))

    async def _ask(self, statement: str, batch: list[_Asked]) -> None:
        # Rows are locked in one order everywhere, so that two batches do not wait for each other.
        batch.sort(key=lambda asked: str(asked.values[0]))
        placed = [(*asked.values[:-1], place) for place, asked in enumerate(batch)]
        try:
            rows = await self._pool.run(lambda session: session.many(statement, placed))
        except Exception as error:  # noqa: BLE001 - it is told to everybody who asked
            if len(batch) > 1 and _is_about_one(error):
                await asyncio.gather(*(self._send(statement, [asked]) for asked in batch))
                return
            for asked in batch:
                _fail(asked, error)
            return
        found: list[list[Row]] = [[] for _ in batch]
        for row in rows:
            found[row[-1]].append(row)
        for asked, answer in zip(batch, found, strict=True):
            if not asked.answer.done():
                asked.answer.set_result(answer)


def _is_about_one(error: Exception) -> bool:
    """Whether the others of the batch may well succeed without it: nothing of the batch was stored."""
    if isinstance(error, ChangeDoesNotFit):
        return True
    state = error.facts.get("sqlstate") if isinstance(error, OstiaryError) else None
    return str(state or "").startswith(_BAD_VALUE)


def _fail(asked: _Asked, error: Exception) -> None:
    if not asked.answer.done():
        own = copy.copy(error)  # each of its own, for whoever raises it adds to its traceback
        own.__cause__ = error
        asked.answer.set_exception(own)
