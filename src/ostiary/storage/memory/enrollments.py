"""Decisions in memory: load, rule, write on a copy, and the copy becomes the truth."""

from collections.abc import Callable
from typing import TypeVar

from ostiary.domain.decision import Ask, Change, Snapshot
from ostiary.domain.token import RecordId, TokenRecord
from ostiary.storage.memory.load import load
from ostiary.storage.memory.store import Store
from ostiary.storage.memory.write import note_seen, write_change

AnswerT = TypeVar("AnswerT")


class MemoryEnrollments:
    """Decides on dictionaries; never waits."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def decide(
        self, ask: Ask, rule: Callable[[Snapshot], Change[AnswerT]]
    ) -> Change[AnswerT]:
        snapshot = load(self._store.tables, ask)
        change = rule(snapshot)
        with self._store.writing() as tables:
            write_change(tables, change, snapshot)
            if change.seen is not None:
                note_seen(tables, change.seen, change.at)
        if change.wakes:
            self._store.wake_written.set()
        return change

    async def load_record(self, record_id: RecordId) -> TokenRecord | None:
        return self._store.tables.records.get(record_id)
