"""What is equal on all nodes, on PostgreSQL: policies and wrapped keys."""

from typing import Final

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import TenantId
from ostiary.ports.clock import Clock
from ostiary.ports.storage import EpochRow
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.write_news import add_audit

EPOCHS: Final = """
    SELECT tenant, epoch, wrapped, check_value, created_at FROM key_epoch ORDER BY tenant, epoch
"""
ADD_EPOCH: Final = """
    INSERT INTO key_epoch (tenant, epoch, wrapped, check_value, created_at) VALUES ($1, $2, $3, $4, $5)
"""
POLICIES: Final = "SELECT name, value FROM policy WHERE tenant = $1 ORDER BY name"
SAVE_POLICY: Final = """
    INSERT INTO policy (tenant, name, value) VALUES ($1, $2, $3)
    ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value
"""


class PostgresKeyEpochs:
    """The wrapped tenant keys on one engine."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def load_epochs(self) -> tuple[EpochRow, ...]:
        return tuple(
            EpochRow(
                tenant=tenant, epoch=epoch, wrapped=wrapped, check=check, created_at=created_at
            )
            for tenant, epoch, wrapped, check, created_at in await self._pool.rows(EPOCHS)
        )

    async def add_epoch(self, row: EpochRow) -> None:
        """Store it. Raises `ChangeDoesNotFit` if the tenant has this epoch: a key is never overwritten."""
        await self._pool.write(
            ADD_EPOCH, row.tenant, row.epoch, row.wrapped, row.check, row.created_at
        )


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
