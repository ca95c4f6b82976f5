"""Which channels to push, on SQLite: claim, settle, and wait for more."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.push_schedule import FURTHEST, NOT_YET, PAUSED, UNREACHABLE
from ostiary.domain.push_target import PushTarget, SealedPush
from ostiary.domain.token import TokenState, TokenStep
from ostiary.ports.storage import DueWake, WakeStep
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.readers import Readers
from ostiary.storage.sqlite.rows import (
    Row,
    micros,
    micros_or_none,
    moment,
    moment_or_none,
)
from ostiary.storage.sqlite.write_tokens import step_records
from ostiary.storage.wake_steps import parts_without_repeats

DUE_WAKES: Final = """
    SELECT w.enrollment_key,
           CASE WHEN p.paused_since IS NOT NULL THEN 'paused'
                WHEN e.push_dead_since IS NULL AND t.id IS NOT NULL
                     AND 'pending' IN (e.state, coalesce(o.state, e.state)) THEN 'enrolling' END,
           e.state IN ('enrolled', 'renewing') AND e.push_dead_since IS NULL
           AND coalesce(o.state, e.state) IN ('enrolled', 'renewing')
           AND t.id IS NOT NULL AND p.paused_since IS NULL,
           w.due_at, w.attempt, w.failures,
           EXISTS (SELECT 1 FROM command c WHERE c.enrollment_key = w.enrollment_key),
           EXISTS (SELECT 1 FROM command c
                    WHERE c.enrollment_key = w.enrollment_key AND c.hand_outs = 0),
           e.tenant, e.id, e.topic, e.enrolled_at, e.last_seen_at, e.push_arrived_at,
           t.id, t.tenant, t.holder, t.value
      FROM wake w JOIN enrollment e ON e.key = w.enrollment_key
      LEFT JOIN enrollment o ON o.key = e.parent_key
      LEFT JOIN token t ON t.id = e.push_record
      LEFT JOIN push_certificate p ON p.topic = e.topic
     WHERE w.due_at <= ?
     ORDER BY w.due_at LIMIT ?
"""  # served by wake_due and primary keys
FAR_AHEAD: Final = "SELECT 1 FROM wake WHERE due_at > ? LIMIT 1"  # served by wake_due
BRING_BACK: Final = "UPDATE wake SET due_at = ? WHERE due_at > ?"  # served by wake_due
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
CLAIM_WAKES: Final = """
    UPDATE wake SET due_at = ?, claimed = 1
     WHERE enrollment_key IN (SELECT value FROM json_each(?))
"""  # served by the primary key; one statement for a batch takes a third of the time of one for each
LOOK_LATER: Final = """
    UPDATE wake SET due_at = ?, failures = max(failures, 1), claimed = 0
     WHERE enrollment_key IN (SELECT value FROM json_each(?))
"""  # served by the primary key
END_WAKES: Final = """
    DELETE FROM wake WHERE enrollment_key IN (SELECT value FROM json_each(?)) AND claimed = 1
"""  # served by the primary key
PUT_OFF_WAKES: Final = """
    UPDATE wake
       SET due_at = json_extract(s.value, '$[1]'), attempt = json_extract(s.value, '$[2]'),
           failures = json_extract(s.value, '$[3]'), claimed = 0
      FROM json_each(?) s
     WHERE enrollment_key = json_extract(s.value, '$[0]') AND claimed = 1
"""  # served by the primary key
NOTE_PUSHES: Final = """
    UPDATE enrollment SET pushed_at = json_extract(s.value, '$[1]'), version = version + 1
      FROM json_each(?) s
     WHERE enrollment.key = json_extract(s.value, '$[0]')
       AND (pushed_at IS NULL OR pushed_at < json_extract(s.value, '$[1]'))
"""  # served by the primary key
NOTE_DEAD_PUSH: Final = """
    UPDATE enrollment SET push_dead_since = ?1, push_dead_reason = ?2, version = version + 1
     WHERE key = ?3 AND push_record = ?4 AND push_dead_since IS NULL
       AND (?5 IS NULL OR push_arrived_at < ?5)
"""
"""Only the generation that was pushed to, and only if it did not come again since. (TU-20)"""
SILENT: Final = """
    SELECT e.key
      FROM enrollment e JOIN token t ON t.id = e.push_record
     WHERE e.parent_key IS NULL AND e.state IN ('enrolled', 'renewing')
       AND e.push_dead_since IS NULL
       AND coalesce(e.last_seen_at, e.enrolled_at, e.created_at) < ?1
       AND (e.pushed_at IS NULL OR e.pushed_at < ?1)
       AND NOT EXISTS (SELECT 1 FROM wake w WHERE w.enrollment_key = e.key)
     LIMIT ?2
"""  # looks through all enrollments, in a reader's thread
WAKE_SILENT: Final = """
    INSERT INTO wake (enrollment_key, due_at, attempt, failures)
    SELECT value, ?, 0, 1 FROM json_each(?) WHERE true
    ON CONFLICT (enrollment_key) DO NOTHING
"""

_CAN_BE_PUSHED: Final = 2
_LATER: Final = (("paused", PAUSED), ("enrolling", NOT_YET), (None, UNREACHABLE))


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
            for part in parts_without_repeats(steps):
                _settle(transaction, part)

        if steps:
            await self._engine.run(work)

    async def wake_silent(self, now: datetime, *, silent_since: datetime, limit: int) -> int:
        found = await self._readers.run(
            lambda read: read(SILENT, (micros(silent_since), limit)).fetchall()
        )
        if not found:
            return 0
        values = (micros(now), _keys(key for (key,) in found))
        return await self._engine.run(lambda transaction: transaction.write(WAKE_SILENT, values))

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
    _bring_back(transaction, now)
    claimed: list[DueWake] = []
    while len(claimed) < limit and lease > timedelta(0):
        rows = transaction.read(DUE_WAKES, (micros(now), limit - len(claimed))).fetchall()
        if not rows:
            break
        pushable = [row for row in rows if row[_CAN_BE_PUSHED]]
        _put_off(transaction, CLAIM_WAKES, now + lease, pushable)
        if len(pushable) < len(rows):
            for why, later in _LATER:
                passed_by = [row for row in rows if not row[_CAN_BE_PUSHED] and row[1] == why]
                _put_off(transaction, LOOK_LATER, now + later, passed_by)
        claimed += [_due(row) for row in pushable]
    return tuple(claimed)


def _bring_back(transaction: Transaction, now: datetime) -> None:
    """Let fall due what a clock planned that has been set back since."""
    furthest = micros(now + FURTHEST)
    if transaction.read(FAR_AHEAD, (furthest,)).fetchone() is not None:
        transaction.write(BRING_BACK, (micros(now), furthest))


def _put_off(
    transaction: Transaction, statement: str, until: datetime, rows: Sequence[Row]
) -> None:
    if rows:
        transaction.write(statement, (micros(until), _keys(row[0] for row in rows)))


def _keys(keys: Iterable[str]) -> str:
    return json.dumps(list(keys))


def _due(row: Row) -> DueWake:
    (
        key, _, _, due_at, attempt, failures, has_work, has_new_work,
        tenant, id_, topic, enrolled_at, last_seen_at, arrived_at,
        record_id, record_tenant, holder, value,
    ) = row  # fmt: skip
    return DueWake(
        enrollment=PushTarget(
            key=key,
            tenant=tenant,
            id=id_,
            topic=topic,
            enrolled_at=moment_or_none(enrolled_at),
            last_seen_at=moment_or_none(last_seen_at),
            arrived_at=moment_or_none(arrived_at),
        ),
        due_at=moment(due_at),
        attempt=attempt,
        failures=failures,
        has_work=bool(has_work),
        has_new_work=bool(has_new_work),
        push_record=SealedPush(id=record_id, tenant=record_tenant, holder=holder, value=value),
    )


def _settle(transaction: Transaction, steps: Sequence[WakeStep]) -> None:
    """Each channel is named once."""
    ended = [step.enrollment_key for step in steps if step.next_due_at is None]
    if ended:
        transaction.write(END_WAKES, (_keys(ended),))
    put_off = [
        (step.enrollment_key, micros(step.next_due_at), step.attempt, step.failures)
        for step in steps
        if step.next_due_at is not None
    ]
    if put_off:
        transaction.write(PUT_OFF_WAKES, (json.dumps(put_off),))
    accepted = [(step.enrollment_key, micros(step.at)) for step in steps if step.accepted]
    if accepted:
        transaction.write(NOTE_PUSHES, (json.dumps(accepted),))
    for step in steps:
        if step.dead_reason is not None:
            _note_dead(transaction, step, step.dead_reason)


def _note_dead(transaction: Transaction, step: WakeStep, reason: str) -> None:
    before = micros_or_none(step.dead_before)
    values = (micros(step.at), reason, step.enrollment_key, step.record_id, before)
    if transaction.write(NOTE_DEAD_PUSH, values) == 1:
        dead = TokenStep(record_id=step.record_id, state=TokenState.DEAD, cause=reason)
        step_records(transaction, dead, at=step.at)
