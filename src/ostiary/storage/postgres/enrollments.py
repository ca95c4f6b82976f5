"""Decisions on PostgreSQL: one statement to load, the rule, one transaction to write; repeated if others were faster."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar

import structlog

from ostiary.domain.decision import Ask, Change, Snapshot
from ostiary.domain.enrollment import EnrollmentKey
from ostiary.domain.token import RecordId, TokenRecord
from ostiary.errors import Unavailable
from ostiary.ports.trace import Trace
from ostiary.storage.errors import ChangeDoesNotFit
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
    ) -> None:
        self._pool = pool
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
        change = await self._pool.run(lambda session: self._decide(session, ask, rule))
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
        await self.flush_seen()

    async def _decide(
        self, session: Session, ask: Ask, rule: Callable[[Snapshot], Change[AnswerT]]
    ) -> Change[AnswerT]:
        overtaken: list[EnrollmentKey] = []
        for attempt in range(MOST_ATTEMPTS):
            try:
                if attempt == 0:
                    return await self._attempt(session, ask, rule, overtaken)
                async with session.transaction():
                    await session.rows(LOCK_ROWS, overtaken)
                    return await self._attempt(session, ask, rule, overtaken)
            except ChangeDoesNotFit:
                if attempt == MOST_ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self,
        session: Session,
        ask: Ask,
        rule: Callable[[Snapshot], Change[AnswerT]],
        shown: list[EnrollmentKey],
    ) -> Change[AnswerT]:
        loaded = await load(session, ask, self._seen)
        shown[:] = sorted(loaded.turns)
        self._trace("loaded")
        change = rule(loaded.snapshot)
        self._trace("ruled")
        if not change.writes:
            self._note_seen(change, ())
            return change
        self._trace("committing")
        await _write(session, change, loaded)
        self._note_seen(change, written_rows(change, loaded.snapshot))
        return change

    def _note_seen(self, change: Change[Any], written: Collection[EnrollmentKey]) -> None:
        if change.seen is None or change.seen in written:
            return
        self._seen.add(change.seen, change.at)
        if len(self._seen) >= MOST_UNWRITTEN_SEEN:
            self._start_flush()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seen_within_seconds, self._start_flush)

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


async def _write(session: Session, change: Change[Any], loaded: Loaded) -> None:
    """With one statement where that can be; else part by part."""
    write = write_at_once(change, loaded)
    if write is not None:
        ((taken,),) = await session.rows(write.statement, *write.values)
        if not taken:
            raise ChangeDoesNotFit("the row has moved on")
    elif session.is_in_transaction:
        await write_change(session, change, loaded)
    else:
        async with session.transaction():
            await write_change(session, change, loaded)
