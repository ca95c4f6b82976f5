"""Which channels to push, on PostgreSQL: claim, settle, and wait for more."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.token import TokenState, TokenStep
from ostiary.ports.storage import DueWake, WakeStep
from ostiary.storage.postgres.bell import Bell
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.rows import (
    ENROLLMENT_COLUMNS,
    TOKEN_COLUMNS,
    Row,
    enrollment_from,
    token_from,
    with_columns,
)
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.write_tokens import step_record

_SERVED: Final = """
    e.state IN ('enrolled', 'renewing') AND e.push_dead_since IS NULL
    AND coalesce(o.state, e.state) IN ('enrolled', 'renewing') AND p.paused_since IS NULL
"""
CLAIM_WAKES: Final = with_columns(f"""
    WITH due AS (
        SELECT w.enrollment_key, w.due_at FROM wake w WHERE w.due_at <= $1
         ORDER BY w.due_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE wake w SET due_at = $3, claimed = true
         WHERE w.enrollment_key = ANY(ARRAY(SELECT enrollment_key FROM due))
        RETURNING w.enrollment_key, w.attempt, w.failures
    )
    SELECT $enrollment, $token, due.due_at, n.attempt, n.failures, t.id IS NOT NULL AND {_SERVED}
      FROM claimed n JOIN due ON due.enrollment_key = n.enrollment_key
      JOIN enrollment e ON e.key = n.enrollment_key
      LEFT JOIN enrollment o ON o.key = e.parent_key
      LEFT JOIN token t ON t.id = e.push_record
      LEFT JOIN push_certificate p ON p.topic = e.topic
""")  # noqa: S608 - made of constants; served by wake_due and primary keys
NEXT_DUE: Final = f"""
    SELECT w.due_at
      FROM wake w CROSS JOIN LATERAL (
           SELECT FROM enrollment e
             JOIN token t ON t.id = e.push_record
             LEFT JOIN enrollment o ON o.key = e.parent_key
             LEFT JOIN push_certificate p ON p.topic = e.topic
            WHERE e.key = w.enrollment_key AND {_SERVED}
           OFFSET 0  -- keeps the planner from starting with the enrollments: it believes that few pass
      ) pushable
     ORDER BY w.due_at LIMIT 1
"""  # noqa: S608 - made of constants; served by wake_due; may pass by all of a paused topic's
LOCK_PUSHED: Final = """
    SELECT key FROM enrollment WHERE key = ANY($1::text[])
     ORDER BY parent_key IS NOT NULL, key FOR NO KEY UPDATE
"""  # served by the primary key; in one order on all nodes, so that no two wait for each other
END_WAKES: Final = "DELETE FROM wake WHERE enrollment_key = ANY($1::text[]) AND claimed"
PUT_OFF_WAKES: Final = """
    UPDATE wake w SET due_at = s.due_at, attempt = s.attempt, failures = s.failures, claimed = false
      FROM unnest($1::text[], $2::timestamptz[], $3::integer[], $4::integer[])
           s (key, due_at, attempt, failures)
     WHERE w.enrollment_key = s.key AND w.claimed
"""  # served by the primary key
NOTE_PUSHES: Final = """
    UPDATE enrollment e SET pushed_at = s.at, version = e.version + 1, turn = e.turn + 1
      FROM unnest($1::text[], $2::timestamptz[]) s (key, at)
     WHERE e.key = s.key AND (e.pushed_at IS NULL OR e.pushed_at < s.at)
"""  # served by the primary key
NOTE_DEAD_PUSH: Final = """
    UPDATE enrollment SET push_dead_since = $1, push_dead_reason = $2,
                          version = version + 1, turn = turn + 1
     WHERE key = $3 AND push_record = $4 AND push_dead_since IS NULL
       AND ($5::timestamptz IS NULL OR push_arrived_at < $5::timestamptz)
"""
"""Only the generation that was pushed to, and only if it did not come again since. (TU-20)"""

_ENROLLMENT: Final = slice(len(ENROLLMENT_COLUMNS))
_DUE_AT: Final = len(ENROLLMENT_COLUMNS) + len(TOKEN_COLUMNS)
_TOKEN: Final = slice(len(ENROLLMENT_COLUMNS), _DUE_AT)


class PostgresWakes:
    """The pushes that are due, shared by all nodes."""

    def __init__(self, pool: Pool, bell: Bell) -> None:
        self._pool = pool
        self._bell = bell

    async def claim(self, now: datetime, *, limit: int, lease: timedelta) -> tuple[DueWake, ...]:
        """Put off everything due, `limit` at a time, until that many can be pushed or nothing is due any more.

        What cannot be pushed is put off as well, or thousands of a paused topic would stand before the rest at each
        claim. What another node is claiming just now is passed over.
        """
        claimed: list[DueWake] = []
        while len(claimed) < limit and lease > timedelta(0):
            rows = await self._pool.rows(CLAIM_WAKES, now, limit - len(claimed), now + lease)
            if not rows:
                break
            rows.sort(key=lambda row: row[_DUE_AT])
            claimed += [_due(row) for row in rows if row[-1]]
        return tuple(claimed)

    async def settle(self, steps: Sequence[WakeStep]) -> None:
        async def work(session: Session) -> None:
            await session.rows(LOCK_PUSHED, sorted({step.enrollment_key for step in steps}))
            for part in _without_repeats(steps):
                await _settle(session, part)

        if steps:
            await self._pool.transact(work)

    async def next_due_at(self) -> datetime | None:
        row = await self._pool.row(NEXT_DUE)
        return None if row is None else row[0]

    async def wait(self, timeout_seconds: float) -> None:
        await self._bell.wait(timeout_seconds)


def _due(row: Row) -> DueWake:
    *_, attempt, failures, _ = row
    return DueWake(
        enrollment=enrollment_from(row[_ENROLLMENT]),
        attempt=attempt,
        failures=failures,
        push_record=token_from(row[_TOKEN]),
    )


def _without_repeats(steps: Sequence[WakeStep]) -> list[list[WakeStep]]:
    """The steps in their order, in parts none of which names a channel twice."""
    parts: list[list[WakeStep]] = [[]]
    named: set[str] = set()
    for step in steps:
        if step.enrollment_key in named:
            parts.append([])
            named.clear()
        named.add(step.enrollment_key)
        parts[-1].append(step)
    return parts


async def _settle(session: Session, steps: list[WakeStep]) -> None:
    ended = [step.enrollment_key for step in steps if step.next_due_at is None]
    if ended:
        await session.run(END_WAKES, ended)
    put_off = [step for step in steps if step.next_due_at is not None]
    if put_off:
        await session.run(
            PUT_OFF_WAKES,
            [step.enrollment_key for step in put_off],
            [step.next_due_at for step in put_off],
            [step.attempt for step in put_off],
            [step.failures for step in put_off],
        )
    accepted = [step for step in steps if step.accepted]
    if accepted:
        await session.run(
            NOTE_PUSHES,
            [step.enrollment_key for step in accepted],
            [step.at for step in accepted],
        )
    for step in steps:
        if step.dead_reason is not None:
            await _note_dead(session, step, step.dead_reason)


async def _note_dead(session: Session, step: WakeStep, reason: str) -> None:
    values = (step.at, reason, step.enrollment_key, step.record_id, step.dead_before)
    if await session.run(NOTE_DEAD_PUSH, *values) == 1:
        dead = TokenStep(record_id=step.record_id, state=TokenState.DEAD, cause=reason)
        await step_record(session, dead, step.at)
