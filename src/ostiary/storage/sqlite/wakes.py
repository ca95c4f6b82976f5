"""Which channels to push, on SQLite: claim, settle, and wait for more."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.token import TokenState, TokenStep
from ostiary.ports.storage import DueWake, WakeStep
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.readers import Readers
from ostiary.storage.sqlite.rows import (
    ENROLLMENT_WIDTH,
    TOKEN_WIDTH,
    enrollment_from,
    micros,
    micros_or_none,
    moment,
    token_from,
    with_columns,
)
from ostiary.storage.sqlite.write_tokens import step_record

DUE_WAKES: Final = with_columns("""
    SELECT $enrollment, $token, w.attempt, w.failures,
           e.state IN ('enrolled', 'renewing') AND e.push_dead_since IS NULL
           AND coalesce(o.state, e.state) IN ('enrolled', 'renewing')
           AND t.id IS NOT NULL AND p.paused_since IS NULL
      FROM wake w JOIN enrollment e ON e.key = w.enrollment_key
      LEFT JOIN enrollment o ON o.key = e.parent_key
      LEFT JOIN token t ON t.id = e.push_record
      LEFT JOIN push_certificate p ON p.topic = e.topic
     WHERE w.due_at <= ?
     ORDER BY w.due_at LIMIT ?
""")  # served by wake_due and primary keys
NEXT_DUE: Final = """
    SELECT w.due_at
      FROM wake w JOIN enrollment e ON e.key = w.enrollment_key
      JOIN token t ON t.id = e.push_record
      LEFT JOIN enrollment o ON o.key = e.parent_key
      LEFT JOIN push_certificate p ON p.topic = e.topic
     WHERE e.state IN ('enrolled', 'renewing') AND e.push_dead_since IS NULL
       AND coalesce(o.state, e.state) IN ('enrolled', 'renewing')
       AND p.paused_since IS NULL
     ORDER BY w.due_at LIMIT 1
"""  # served by wake_due; may pass by all of a paused topic's, so it is asked in a reader's thread
CLAIM_WAKE: Final = "UPDATE wake SET due_at = ?, claimed = 1 WHERE enrollment_key = ?"
END_WAKE: Final = "DELETE FROM wake WHERE enrollment_key = ? AND claimed = 1"
PUT_OFF_WAKE: Final = """
    UPDATE wake SET due_at = ?, attempt = ?, failures = ?, claimed = 0
     WHERE enrollment_key = ? AND claimed = 1
"""
NOTE_PUSH: Final = """
    UPDATE enrollment SET pushed_at = ?1, version = version + 1
     WHERE key = ?2 AND (pushed_at IS NULL OR pushed_at < ?1)
"""
NOTE_DEAD_PUSH: Final = """
    UPDATE enrollment SET push_dead_since = ?1, push_dead_reason = ?2, version = version + 1
     WHERE key = ?3 AND push_record = ?4 AND push_dead_since IS NULL
       AND (?5 IS NULL OR push_arrived_at < ?5)
"""
"""Only the generation that was pushed to, and only if it did not come again since. (TU-20)"""


class SqliteWakes:
    """The pushes that are due on one engine."""

    def __init__(self, engine: Engine, readers: Readers, written: asyncio.Event) -> None:
        self._engine = engine
        self._readers = readers
        self._written = written

    async def claim(self, now: datetime, *, limit: int, lease: timedelta) -> tuple[DueWake, ...]:
        return await self._engine.run(lambda transaction: _claim(transaction, now, limit, lease))

    async def settle(self, steps: Sequence[WakeStep]) -> None:
        def work(transaction: Transaction) -> None:
            for step in steps:
                _settle(transaction, step)

        if steps:
            await self._engine.run(work)

    async def next_due_at(self) -> datetime | None:
        row = await self._readers.run(lambda read: read(NEXT_DUE, ()).fetchone())
        return None if row is None else moment(row[0])

    async def wait(self, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._written.wait()
        except TimeoutError:
            return
        self._written.clear()


def _claim(
    transaction: Transaction, now: datetime, limit: int, lease: timedelta
) -> tuple[DueWake, ...]:
    """Put off everything due, `limit` at a time, until that many can be pushed or nothing is due any more.

    What cannot be pushed is put off as well, or thousands of a paused topic would stand before the rest at each claim.
    """
    claimed: list[DueWake] = []
    until = micros(now + lease)
    while len(claimed) < limit:
        rows = transaction.read(DUE_WAKES, (micros(now), limit - len(claimed))).fetchall()
        if not rows or lease <= timedelta(0):
            break
        for row in rows:
            enrollment = enrollment_from(row[:ENROLLMENT_WIDTH])
            transaction.write(CLAIM_WAKE, (until, enrollment.key))
            *_, attempt, failures, can_be_pushed = row
            if can_be_pushed:
                record = token_from(row[ENROLLMENT_WIDTH : ENROLLMENT_WIDTH + TOKEN_WIDTH])
                claimed.append(
                    DueWake(
                        enrollment=enrollment,
                        attempt=attempt,
                        failures=failures,
                        push_record=record,
                    )
                )
    return tuple(claimed)


def _settle(transaction: Transaction, step: WakeStep) -> None:
    key, at = step.enrollment_key, micros(step.at)
    if step.next_due_at is None:
        transaction.write(END_WAKE, (key,))
    else:
        transaction.write(
            PUT_OFF_WAKE, (micros(step.next_due_at), step.attempt, step.failures, key)
        )
    if step.accepted:
        transaction.write(NOTE_PUSH, (at, key))
    if step.dead_reason is not None:
        _note_dead(transaction, step, step.dead_reason)


def _note_dead(transaction: Transaction, step: WakeStep, reason: str) -> None:
    before = micros_or_none(step.dead_before)
    values = (micros(step.at), reason, step.enrollment_key, step.record_id, before)
    if transaction.write(NOTE_DEAD_PUSH, values).rowcount == 1:
        dead = TokenStep(record_id=step.record_id, state=TokenState.DEAD, cause=reason)
        step_record(transaction, dead, step.at)
