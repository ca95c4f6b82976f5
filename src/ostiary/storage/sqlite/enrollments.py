"""Decisions on SQLite: load, rule and write in one go on the event loop."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from datetime import datetime
from typing import Final, TypeVar

from ostiary.domain.decision import Ask, Change, Snapshot
from ostiary.domain.enrollment import EnrollmentKey
from ostiary.domain.token import RecordId, TokenRecord
from ostiary.ports.trace import Trace
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.load import load, load_record
from ostiary.storage.sqlite.seen import SeenBuffer
from ostiary.storage.sqlite.write import write_change

AnswerT = TypeVar("AnswerT")

MOST_UNWRITTEN_SEEN: Final = 65_536
"""Contacts kept in memory: some ten megabytes."""
SEEN_AT_ONCE: Final = 128
"""Contacts written in one breath of the loop, a millisecond; then whoever waits has a turn."""
_BREATH_SECONDS: Final = 0.005


class SqliteEnrollments:
    """Decides on one engine; keeps last-seen in memory for at most `seen_within_seconds`."""

    def __init__(
        self,
        engine: Engine,
        *,
        trace: Trace,
        wake_written: Callable[[], object],
        seen_within_seconds: float,
    ) -> None:
        self._engine = engine
        self._trace = trace
        self._wake_written = wake_written
        self._seen = SeenBuffer()
        self._seen_within_seconds = seen_within_seconds
        self._flush_is_due = False
        self._is_flushing = False
        engine.before_close = lambda transaction: self._seen.write(transaction, len(self._seen))

    async def decide(
        self, ask: Ask, rule: Callable[[Snapshot], Change[AnswerT]]
    ) -> Change[AnswerT]:
        trace, seen = self._trace, self._seen

        def decide_now(transaction: Transaction) -> Change[AnswerT]:
            snapshot = load(transaction, ask, seen)
            trace("loaded")
            change = rule(snapshot)
            trace("ruled")
            if change.writes:
                write_change(transaction, change, snapshot)
                trace("written")
                if change.wakes:
                    transaction.after_commit = self._wake_written
            if change.seen is not None and change.seen not in {row.key for row in change.rows}:
                self._note_seen(change.seen, change.at)
            return change

        return await self._engine.run(decide_now)

    async def load_record(self, record_id: RecordId) -> TokenRecord | None:
        return await self._engine.run(lambda transaction: load_record(transaction, record_id))

    def _note_seen(self, key: EnrollmentKey, at: datetime) -> None:
        self._seen.add(key, at)
        if len(self._seen) >= MOST_UNWRITTEN_SEEN:
            self._flush_seen()
        elif not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_later(
                self._seen_within_seconds, self._flush_seen_in_time, context=Context()
            )

    def _flush_seen_in_time(self) -> None:
        self._flush_is_due = False
        self._flush_seen()

    def _flush_seen(self) -> None:
        """Write all that is in memory now, a little at a time."""
        if not self._is_flushing:
            self._is_flushing = True
            self._flush_some(len(self._seen))

    def _flush_some(self, left: int) -> None:
        if left <= 0:
            self._is_flushing = False
            return

        some = min(left, SEEN_AT_ONCE)
        self._engine.post(lambda transaction: self._seen.write(transaction, some))
        asyncio.get_running_loop().call_later(_BREATH_SECONDS, self._flush_some, left - some)
