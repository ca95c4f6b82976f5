"""Which channels to push, in memory."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ostiary.domain.decision import Wake
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
            for wake in sorted(tables.wakes.values(), key=lambda wake: wake.due_at):
                if wake.due_at > now or len(claimed) >= limit:
                    break
                key = wake.enrollment_key
                tables.wakes[key] = replace(wake, due_at=now + lease)
                tables.claimed.add(key)
                if (record := _pushable(tables, wake)) is not None:
                    due = DueWake(
                        enrollment=tables.enrollments[key],
                        attempt=wake.attempt,
                        failures=wake.failures,
                        push_record=record,
                    )
                    claimed.append(due)
        return tuple(claimed)

    async def settle(self, steps: Sequence[WakeStep]) -> None:
        with self._store.writing() as tables:
            for step in steps:
                _settle(tables, step)

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


def _pushable(tables: Tables, wake: Wake) -> TokenRecord | None:
    """The push token to use for a wake; None where there is none, it is dead, or its topic paused."""
    row = tables.enrollments[wake.enrollment_key]
    device = row if row.parent_key is None else tables.enrollments[row.parent_key]
    certificate = tables.push_certificates.get(row.topic)
    is_paused = certificate is not None and certificate.paused_since is not None
    if (
        not (row.state.is_served and device.state.is_served)
        or row.push is None
        or row.push_dead_since
        or is_paused
    ):
        return None
    return tables.records.get(row.push.record_id)


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
