"""Decisions on PostgreSQL: one statement to load, the rule, one statement to write; repeated if others were faster."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any, Final, TypeVar

import structlog

from ostiary.domain.decision import Ask, ByCertificate, Change, Snapshot
from ostiary.domain.enrollment import EnrollmentKey
from ostiary.domain.token import RecordId, TokenRecord
from ostiary.errors import Unavailable
from ostiary.ports.storage import StorageBusy
from ostiary.ports.trace import Trace
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.postgres.batches import Batches
from ostiary.storage.postgres.lanes import Lanes
from ostiary.storage.postgres.load import Loaded, load, load_record
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.seen import SeenBuffer
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.write import write_change, written_rows
from ostiary.storage.postgres.write_at_once import write_at_once

AnswerT = TypeVar("AnswerT")

_log = structlog.get_logger()

MOST_UNWRITTEN_SEEN: Final = 4096
"""Contacts kept in memory, and written with one statement."""
MOST_ATTEMPTS: Final = 5

LOCK_ROWS: Final = """
    SELECT key FROM enrollment WHERE key = ANY($1::text[])
     ORDER BY parent_key IS NOT NULL, key FOR NO KEY UPDATE
"""  # served by the primary key; devices before their users, as everywhere, so that no two wait for each other


class PostgresEnrollments:
    """Decides on one pool; keeps last-seen in memory for at most `seen_within_seconds`."""

    def __init__(
        self,
        pool: Pool,
        *,
        trace: Trace,
        wake_written: Callable[[], object],
        seen_within_seconds: float,
        longest_queue: int,
        wait_seconds: float,
    ) -> None:
        self._pool = pool
        self._lanes = Lanes()
        self._wait_seconds = wait_seconds
        self._insisting = asyncio.Semaphore(max(1, pool.size // 2))
        self._batches = Batches(pool, longest_queue=longest_queue)
        self._trace = trace
        self._wake_written = wake_written
        self._seen = SeenBuffer()
        self._seen_within_seconds = seen_within_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._flush: asyncio.Future[None] | None = None

    async def decide(
        self, ask: Ask, rule: Callable[[Snapshot], Change[AnswerT]]
    ) -> Change[AnswerT]:
        """As the port says; a decision that others overtook is made again, from the second time on with its rows locked.

        Raises:
            ChangeDoesNotFit: not on fresh state either.
        """
        change = await self._decide(ask, rule)
        if change.writes:
            self._trace("committed")
        if change.wakes:
            self._wake_written()
        return change

    async def load_record(self, record_id: RecordId) -> TokenRecord | None:
        return await self._pool.run(lambda session: load_record(session, record_id))

    async def flush_seen(self) -> None:
        """Write the contacts that are still in memory."""
        if len(self._seen):
            await self._pool.run(self._seen.write)

    async def close(self) -> None:
        """Write what is still to be written."""
        if self._timer is not None:
            self._timer.cancel()
        if self._flush is not None:
            await asyncio.wait([self._flush])
        await self._batches.close()
        await self.flush_seen()

    async def _decide(
        self, ask: Ask, rule: Callable[[Snapshot], Change[AnswerT]]
    ) -> Change[AnswerT]:
        """Together with whoever else is here; if others were faster, once more alone."""
        if not isinstance(ask.who, ByCertificate):
            return await self._decide_in_turn(ask, rule)
        async with self._lanes.turn(ask.who.fingerprint):
            return await self._decide_in_turn(ask, rule)

    async def _decide_in_turn(
        self, ask: Ask, rule: Callable[[Snapshot], Change[AnswerT]]
    ) -> Change[AnswerT]:
        overtaken: list[EnrollmentKey] = []
        try:
            return await self._attempt(self._batches, ask, rule, overtaken)
        except ChangeDoesNotFit:
            async with self._room_to_insist():
                return await self._pool.run(
                    lambda session: self._insist(session, ask, rule, overtaken)
                )

    @asynccontextmanager
    async def _room_to_insist(self) -> AsyncIterator[None]:
        """Rows that somebody holds may take seconds: whoever waits for them never gets all the connections there are.

        Raises:
            StorageBusy: too many wait for such rows.
        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._insisting.acquire()
        except TimeoutError:
            raise StorageBusy("waited too long") from None
        try:
            yield
        finally:
            self._insisting.release()

    async def _insist(
        self,
        session: Session,
        ask: Ask,
        rule: Callable[[Snapshot], Change[AnswerT]],
        overtaken: list[EnrollmentKey],
    ) -> Change[AnswerT]:
        """Decide with the rows locked that the last attempt was shown."""
        for _ in range(MOST_ATTEMPTS - 2):
            try:
                async with session.transaction():
                    return await self._attempt_locked(session, ask, rule, overtaken)
            except ChangeDoesNotFit:
                continue
        async with session.transaction():
            return await self._attempt_locked(session, ask, rule, overtaken)

    async def _attempt_locked(
        self,
        session: Session,
        ask: Ask,
        rule: Callable[[Snapshot], Change[AnswerT]],
        overtaken: list[EnrollmentKey],
    ) -> Change[AnswerT]:
        await session.rows(LOCK_ROWS, overtaken)
        return await self._attempt(session, ask, rule, overtaken)

    async def _attempt(
        self,
        source: Session | Batches,
        ask: Ask,
        rule: Callable[[Snapshot], Change[AnswerT]],
        shown: list[EnrollmentKey],
    ) -> Change[AnswerT]:
        loaded = await load(source, ask, self._seen)
        shown[:] = sorted(loaded.turns)
        self._trace("loaded")
        change = rule(loaded.snapshot)
        self._trace("ruled")
        if not change.writes:
            self._note_seen(change, ())
            return change
        self._trace("committing")
        await self._write(source, change, loaded)
        self._note_seen(change, written_rows(change, loaded.snapshot))
        return change

    async def _write(self, source: Session | Batches, change: Change[Any], loaded: Loaded) -> None:
        """With one statement where that can be; else part by part."""
        write = write_at_once(change, loaded)
        if write is not None:
            ((taken, _),) = await source.rows(write.statement, *write.values)
            if not taken:
                raise ChangeDoesNotFit("the row has moved on")
        elif isinstance(source, Session):
            await write_change(source, change, loaded)
        else:
            await self._pool.run(lambda session: _write_by_parts(session, change, loaded))

    def _note_seen(self, change: Change[Any], written: Collection[EnrollmentKey]) -> None:
        if change.seen is None or change.seen in written:
            return
        self._seen.add(change.seen, change.at)
        if len(self._seen) >= MOST_UNWRITTEN_SEEN:
            self._start_flush()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(
                self._seen_within_seconds, self._start_flush, context=Context()
            )

    def _start_flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flush is None or self._flush.done():
            self._flush = asyncio.ensure_future(self._flush_quietly())

    async def _flush_quietly(self) -> None:
        """Nobody waits for this; what could not be written is still in memory."""
        try:
            await self.flush_seen()
        except Unavailable:
            _log.warning("last_seen_not_written", channels=len(self._seen))


async def _write_by_parts(session: Session, change: Change[Any], loaded: Loaded) -> None:
    async with session.transaction():
        await write_change(session, change, loaded)
