"""Which channels to push, in memory."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ostiary.domain.decision import Wake
from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.push_schedule import FURTHEST, NOT_YET, PAUSED, UNREACHABLE
from ostiary.domain.push_target import PushTarget, SealedPush
from ostiary.domain.token import TokenRecord, TokenState, TokenStep
from ostiary.ports.storage import DueWake, WakeStep
from ostiary.storage.memory.store import Store
from ostiary.storage.memory.tables import Tables
from ostiary.storage.memory.write import step_record


class MemoryWakes:
    """The pushes that are due, in dictionaries."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def claim(self, now: datetime, *, limit: int, lease: timedelta) -> tuple[DueWake, ...]:
        claimed: list[DueWake] = []
        with self._store.writing() as tables:
            _bring_back(tables, now)
            for wake in sorted(tables.wakes.values(), key=lambda wake: wake.due_at):
                if wake.due_at > now or len(claimed) >= limit:
                    break
                key = wake.enrollment_key
                if (record := _pushable(tables, wake)) is None:
                    _pass_by(tables, wake, now)
                    continue
                tables.wakes[key] = replace(wake, due_at=now + lease)
                tables.claimed.add(key)
                claimed.append(_due(tables, wake, record))
        return tuple(claimed)

    async def settle(self, steps: Sequence[WakeStep]) -> None:
        with self._store.writing() as tables:
            for step in steps:
                _settle(tables, step)

    async def wake_silent(self, now: datetime, *, silent_since: datetime, limit: int) -> int:
        with self._store.writing() as tables:
            woken = [
                Wake(enrollment_key=row.key, due_at=now, failures=1)
                for row in tables.enrollments.values()
                if row.key not in tables.wakes and _is_silent(tables, row, silent_since)
            ][:limit]
            tables.wakes.update({wake.enrollment_key: wake for wake in woken})
        return len(woken)

    async def next_due_at(self) -> datetime | None:
        tables = self._store.tables
        due = (wake.due_at for wake in tables.wakes.values() if _pushable(tables, wake))
        return min(due, default=None)

    async def wait(self, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._store.wake_written.wait()
        except TimeoutError:
            return
        self._store.wake_written.clear()


def _bring_back(tables: Tables, now: datetime) -> None:
    """Let fall due what a clock planned that has been set back since."""
    for key, wake in tables.wakes.items():
        if wake.due_at > now + FURTHEST:
            tables.wakes[key] = replace(wake, due_at=now)


def _is_silent(tables: Tables, row: Enrollment, since: datetime) -> bool:
    heard_at = row.last_seen_at or row.enrolled_at or row.created_at
    was_pushed = row.pushed_at is not None and row.pushed_at >= since
    is_device = row.parent_key is None and row.state.is_served
    is_alive = row.push_dead_since is None and _token_of(tables, row) is not None
    return is_device and is_alive and heard_at < since and not was_pushed


def _pass_by(tables: Tables, wake: Wake, now: datetime) -> None:
    """Look again later, and by then as one among many."""
    key = wake.enrollment_key
    later = _later(tables, tables.enrollments[key])
    tables.wakes[key] = replace(wake, due_at=now + later, failures=max(wake.failures, 1))
    tables.claimed.discard(key)


def _later(tables: Tables, row: Enrollment) -> timedelta:
    if _is_paused(tables, row):
        return PAUSED
    device = row if row.parent_key is None else tables.enrollments[row.parent_key]
    is_alive = row.push_dead_since is None and _token_of(tables, row) is not None
    is_enrolling = State.PENDING in (row.state, device.state)
    return NOT_YET if is_alive and is_enrolling else UNREACHABLE


def _due(tables: Tables, wake: Wake, record: TokenRecord) -> DueWake:
    key = wake.enrollment_key
    commands = [one for one in tables.commands.values() if one.enrollment_key == key]
    return DueWake(
        enrollment=PushTarget.of(tables.enrollments[key]),
        due_at=wake.due_at,
        attempt=wake.attempt,
        failures=wake.failures,
        has_work=bool(commands),
        has_new_work=any(one.hand_outs == 0 for one in commands),
        push_record=SealedPush.of(record),
    )


def _is_paused(tables: Tables, row: Enrollment) -> bool:
    certificate = tables.push_certificates.get(row.topic)
    return certificate is not None and certificate.paused_since is not None


def _token_of(tables: Tables, row: Enrollment) -> TokenRecord | None:
    return None if row.push is None else tables.records.get(row.push.record_id)


def _pushable(tables: Tables, wake: Wake) -> TokenRecord | None:
    """The push token to use for a wake; None where there is none, it is dead, or its topic paused."""
    row = tables.enrollments[wake.enrollment_key]
    device = row if row.parent_key is None else tables.enrollments[row.parent_key]
    if (
        not (row.state.is_served and device.state.is_served)
        or row.push_dead_since
        or _is_paused(tables, row)
    ):
        return None
    return _token_of(tables, row)


def _settle(tables: Tables, step: WakeStep) -> None:
    key = step.enrollment_key
    wake = tables.wakes.get(key)
    if wake is not None and key in tables.claimed:
        tables.claimed.discard(key)
        if step.next_due_at is None:
            del tables.wakes[key]
        else:
            tables.wakes[key] = replace(
                wake, due_at=step.next_due_at, attempt=step.attempt, failures=step.failures
            )
    row = tables.enrollments[key]
    if step.accepted and (row.pushed_at is None or row.pushed_at < step.at):
        row = replace(row, pushed_at=step.at, version=row.version + 1)
    if step.dead_reason is not None and _is_dead(tables, step):
        row = replace(
            row,
            push_dead_since=step.at,
            push_dead_reason=step.dead_reason,
            version=row.version + 1,
        )
        dead = TokenStep(record_id=step.record_id, state=TokenState.DEAD, cause=step.dead_reason)
        step_record(tables, dead, step.at)
    tables.enrollments[key] = row


def _is_dead(tables: Tables, step: WakeStep) -> bool:
    row = tables.enrollments[step.enrollment_key]
    if row.push is None or row.push.record_id != step.record_id or row.push_dead_since is not None:
        return False
    return step.dead_before is None or row.push.arrived_at < step.dead_before
