"""Which channels to push, on PostgreSQL: claim, settle, and wait for more."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.push_schedule import FURTHEST, NOT_YET, PAUSED, UNREACHABLE
from ostiary.domain.push_target import PushTarget, SealedPush
from ostiary.domain.token import Holder, TokenState, TokenStep
from ostiary.ports.storage import DueWake, WakeStep
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.storage.postgres.bell import Bell
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.session import Row, Session
from ostiary.storage.postgres.text import unescape
from ostiary.storage.postgres.write_tokens import step_record
from ostiary.storage.wake_steps import parts_without_repeats

_SERVED: Final = """
    e.state IN ('enrolled', 'renewing') AND e.push_dead_since IS NULL
    AND coalesce(o.state, e.state) IN ('enrolled', 'renewing') AND p.paused_since IS NULL
"""
CLAIM_WAKES: Final = f"""
    WITH due AS (
        SELECT w.enrollment_key, w.due_at, w.attempt, w.failures FROM wake w WHERE w.due_at <= $1
         ORDER BY w.due_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ), judged AS (
        SELECT due.*, e.tenant, e.id, e.topic, e.enrolled_at, e.last_seen_at, e.push_arrived_at,
               t.id AS record_id, t.tenant AS record_tenant, t.holder, t.value,
               p.paused_since IS NOT NULL AS is_paused,
               e.push_dead_since IS NULL AND t.id IS NOT NULL
               AND 'pending' IN (e.state, coalesce(o.state, e.state)) AS is_enrolling, t.id IS NOT NULL AND {_SERVED} AS can_be_pushed
          FROM due JOIN enrollment e ON e.key = due.enrollment_key
           AND e.key = ANY(ARRAY(SELECT enrollment_key FROM due))  -- else it reads them all to join
          LEFT JOIN enrollment o ON o.key = e.parent_key
          LEFT JOIN token t ON t.id = e.push_record
          LEFT JOIN push_certificate p ON p.topic = e.topic
    ), put_off AS (
        UPDATE wake w
           SET due_at = CASE WHEN j.can_be_pushed THEN $3::timestamptz
                             WHEN j.is_paused THEN $4::timestamptz
                             WHEN j.is_enrolling THEN $6::timestamptz ELSE $5::timestamptz END,
               failures = CASE WHEN j.can_be_pushed THEN w.failures ELSE greatest(w.failures, 1) END,
               claimed = j.can_be_pushed
          FROM judged j
         WHERE w.enrollment_key = ANY(ARRAY(SELECT enrollment_key FROM due))
           AND w.enrollment_key = j.enrollment_key
    )
    SELECT j.enrollment_key, j.can_be_pushed, j.due_at, j.attempt, j.failures,
           -- Not EXISTS: the planner likes to answer that for all channels at once.
           (SELECT true FROM command c WHERE c.enrollment_key = j.enrollment_key LIMIT 1) IS NOT NULL,
           (SELECT true FROM command c
             WHERE c.enrollment_key = j.enrollment_key AND c.hand_outs = 0 LIMIT 1) IS NOT NULL,
           j.tenant, j.id, j.topic, j.enrolled_at, j.last_seen_at, j.push_arrived_at,
           j.record_id, j.record_tenant, j.holder, j.value
      FROM judged j
"""  # noqa: S608 - made of constants; served by wake_due and primary keys
BRING_BACK: Final = """
    UPDATE wake SET due_at = $1
     WHERE enrollment_key = ANY(ARRAY(
               SELECT enrollment_key FROM wake WHERE due_at > $2 FOR UPDATE SKIP LOCKED))
"""  # served by wake_due and the primary key
"""What a clock planned that has been set back since is due."""
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
END_WAKES: Final = """
    DELETE FROM wake w USING unnest($1::text[], $2::timestamptz[]) s (key, leased_until)
     WHERE w.enrollment_key = s.key AND w.claimed
       AND w.due_at = coalesce(s.leased_until, w.due_at)
"""  # served by the primary key; only what nobody has claimed since
PUT_OFF_WAKES: Final = """
    UPDATE wake w SET due_at = s.due_at, attempt = s.attempt, failures = s.failures, claimed = false
      FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::integer[])
           s (key, leased_until, due_at, attempt, failures)
     WHERE w.enrollment_key = s.key AND w.claimed
       AND w.due_at = coalesce(s.leased_until, w.due_at)
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

WAKE_SILENT: Final = """
    INSERT INTO wake (enrollment_key, due_at, attempt, failures)
    SELECT e.key, $1, 0, 1
      FROM enrollment e JOIN token t ON t.id = e.push_record
     WHERE e.parent_key IS NULL AND e.state IN ('enrolled', 'renewing')
       AND e.push_dead_since IS NULL
       AND coalesce(e.last_seen_at, e.enrolled_at, e.created_at) < $2
       AND (e.pushed_at IS NULL OR e.pushed_at < $2)
       AND NOT EXISTS (SELECT FROM wake w WHERE w.enrollment_key = e.key)
     LIMIT $3
    ON CONFLICT (enrollment_key) DO NOTHING
"""  # looks through all enrollments, once an hour

_CAN_BE_PUSHED: Final = 1
_DUE_AT: Final = 2
_MOST_LEASES: Final = 10_000
_LONG: Final = timedelta(hours=1)


class PostgresWakes:
    """The pushes that are due, shared by all nodes."""

    def __init__(self, pool: Pool, bell: Bell) -> None:
        self._pool = pool
        self._bell = bell
        self._leased_until: dict[str, datetime] = {}
        """What this node claimed and has not settled. A node that was stopped for longer than its lease settles too
        late: what another one has claimed meanwhile, which is until another moment, is that one's to settle."""

    async def claim(self, now: datetime, *, limit: int, lease: timedelta) -> tuple[DueWake, ...]:
        """Put off everything due, `limit` at a time, until that many can be pushed or nothing is due any more.

        What cannot be pushed is put off as well, or thousands of a paused topic would stand before the rest at each
        claim. What another node is claiming just now is passed over.
        """
        claimed: list[DueWake] = []
        self._forget_leases(now)
        await self._pool.write(BRING_BACK, now, now + FURTHEST)
        while len(claimed) < limit and lease > timedelta(0):
            rows = await self._pool.rows(
                CLAIM_WAKES,
                now,
                limit - len(claimed),
                now + lease,
                now + PAUSED,
                now + UNREACHABLE,
                now + NOT_YET,
            )
            if not rows:
                break
            rows.sort(key=lambda row: row[_DUE_AT])
            claimed += [_due(row) for row in rows if row[_CAN_BE_PUSHED]]
        self._leased_until.update((due.enrollment.key, now + lease) for due in claimed)
        return tuple(claimed)

    async def settle(self, steps: Sequence[WakeStep]) -> None:
        async def work(session: Session) -> None:
            await session.rows(LOCK_PUSHED, sorted({step.enrollment_key for step in steps}))
            for part in parts_without_repeats(steps):
                await _settle(session, part, self._leased_until)

        if steps:
            await self._pool.transact(work)
            for step in steps:
                self._leased_until.pop(step.enrollment_key, None)

    def _forget_leases(self, now: datetime) -> None:
        """Those of pushes that were never settled and ended long ago; their late steps would come to nothing."""
        if len(self._leased_until) > _MOST_LEASES:
            long_ago = now - _LONG
            self._leased_until = {
                key: until for key, until in self._leased_until.items() if until > long_ago
            }

    async def wake_silent(self, now: datetime, *, silent_since: datetime, limit: int) -> int:
        async def work(session: Session) -> int:
            return await session.run(WAKE_SILENT, now, silent_since, limit)

        return await self._pool.transact(work)

    async def next_due_at(self) -> datetime | None:
        row = await self._pool.row(NEXT_DUE)
        return None if row is None else row[0]

    async def wait(self, timeout_seconds: float) -> None:
        await self._bell.wait(timeout_seconds)


def _due(row: Row) -> DueWake:
    (
        key, _, due_at, attempt, failures, has_work, has_new_work,
        tenant, id_, topic, enrolled_at, last_seen_at, arrived_at,
        record_id, record_tenant, holder, value,
    ) = row  # fmt: skip
    return DueWake(
        enrollment=PushTarget(
            key=key,
            tenant=tenant,
            id=EnrollmentId(unescape(id_)),
            topic=topic,
            enrolled_at=enrolled_at,
            last_seen_at=last_seen_at,
            arrived_at=arrived_at,
        ),
        due_at=due_at,
        attempt=attempt,
        failures=failures,
        has_work=has_work,
        has_new_work=has_new_work,
        push_record=SealedPush(
            id=record_id, tenant=record_tenant, holder=Holder(unescape(holder)), value=value
        ),
    )


async def _settle(
    session: Session, steps: list[WakeStep], leased_until: Mapping[str, datetime]
) -> None:
    ended = [step.enrollment_key for step in steps if step.next_due_at is None]
    if ended:
        await session.run(END_WAKES, ended, [leased_until.get(key) for key in ended])
    put_off = [step for step in steps if step.next_due_at is not None]
    if put_off:
        await session.run(
            PUT_OFF_WAKES,
            [step.enrollment_key for step in put_off],
            [leased_until.get(step.enrollment_key) for step in put_off],
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
