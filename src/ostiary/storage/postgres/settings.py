"""What is equal on all nodes, on PostgreSQL: policies and wrapped keys."""

from collections.abc import Sequence
from typing import Any, Final

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import TenantId
from ostiary.ports.clock import Clock
from ostiary.ports.storage import EpochRow
from ostiary.storage.epochs import demand_kept
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.rows import Row
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.write_news import add_audit

EPOCHS: Final = """
    SELECT tenant, epoch, wrapped, check_value, created_at FROM key_epoch ORDER BY tenant, epoch
"""
ADD_EPOCH: Final = """
    INSERT INTO key_epoch (tenant, epoch, wrapped, check_value, created_at) VALUES ($1, $2, $3, $4, $5)
"""
SAVE_EPOCH: Final = """
    INSERT INTO key_epoch (tenant, epoch, wrapped, check_value, created_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (tenant, epoch) DO UPDATE
       SET wrapped = excluded.wrapped, check_value = excluded.check_value
"""
_LOCK_EPOCHS: Final = "LOCK TABLE key_epoch IN SHARE ROW EXCLUSIVE MODE"
"""Whoever adds or wraps keys does so alone; whoever reads them is not in the way."""
POLICIES: Final = "SELECT name, value FROM policy WHERE tenant = $1 ORDER BY name"
SAVE_POLICY: Final = """
    INSERT INTO policy (tenant, name, value) VALUES ($1, $2, $3)
    ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value
"""


class PostgresKeyEpochs:
    """The wrapped tenant keys on one engine."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    async def load_epochs(self) -> tuple[EpochRow, ...]:
        return _epochs(await self._pool.rows(EPOCHS))

    async def add_epoch(self, row: EpochRow) -> None:
        """Store it. Raises `ChangeDoesNotFit` if the tenant has this epoch: a key is never overwritten."""
        await self._pool.write(ADD_EPOCH, *_values(row))

    async def replace_epochs(
        self, before: Sequence[EpochRow], after: Sequence[EpochRow], audit: AuditEntry
    ) -> None:
        demand_kept(before, after)

        async def work(session: Session) -> None:
            await session.script(_LOCK_EPOCHS)
            if set(_epochs(await session.rows(EPOCHS))) != set(before):
                raise ChangeDoesNotFit("the keys are others by now")
            for row in after:
                await session.run(SAVE_EPOCH, *_values(row))
            await add_audit(session, audit, self._clock.now())

        await self._pool.transact(work)


def _epochs(rows: Sequence[Row]) -> tuple[EpochRow, ...]:
    return tuple(
        EpochRow(tenant=tenant, epoch=epoch, wrapped=wrapped, check=check, created_at=created_at)
        for tenant, epoch, wrapped, check, created_at in rows
    )


def _values(row: EpochRow) -> tuple[Any, ...]:
    return row.tenant, row.epoch, row.wrapped, row.check, row.created_at


class PostgresPolicies:
    """The policies on one engine."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    async def load_policies(self, tenant: TenantId) -> dict[str, str]:
        return dict(await self._pool.rows(POLICIES, tenant))

    async def save_policy(self, tenant: TenantId, name: str, value: str, audit: AuditEntry) -> None:
        async def work(session: Session) -> None:
            await session.run(SAVE_POLICY, tenant, name, value)
            await add_audit(session, audit, self._clock.now())

        await self._pool.transact(work)
