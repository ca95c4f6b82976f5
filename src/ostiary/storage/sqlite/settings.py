"""What is equal on all nodes, on SQLite: policies and wrapped keys."""

from typing import Final

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import TenantId
from ostiary.ports.clock import Clock
from ostiary.ports.storage import EpochRow
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.rows import micros, moment
from ostiary.storage.sqlite.write_news import add_audit

EPOCHS: Final = """
    SELECT tenant, epoch, wrapped, check_value, created_at FROM key_epoch ORDER BY tenant, epoch
"""
ADD_EPOCH: Final = """
    INSERT INTO key_epoch (tenant, epoch, wrapped, check_value, created_at) VALUES (?, ?, ?, ?, ?)
"""
POLICIES: Final = "SELECT name, value FROM policy WHERE tenant = ? ORDER BY name"
SAVE_POLICY: Final = """
    INSERT INTO policy (tenant, name, value) VALUES (?, ?, ?)
    ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value
"""


class SqliteKeyEpochs:
    """The wrapped tenant keys on one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def load_epochs(self) -> tuple[EpochRow, ...]:
        def work(transaction: Transaction) -> tuple[EpochRow, ...]:
            return tuple(
                EpochRow(
                    tenant=tenant,
                    epoch=epoch,
                    wrapped=wrapped,
                    check=check,
                    created_at=moment(created_at),
                )
                for tenant, epoch, wrapped, check, created_at in transaction.read(EPOCHS)
            )

        return await self._engine.run(work)

    async def add_epoch(self, row: EpochRow) -> None:
        """Store it. Raises `ChangeDoesNotFit` if the tenant has this epoch: a key is never overwritten."""

        def work(transaction: Transaction) -> None:
            transaction.write(
                ADD_EPOCH, (row.tenant, row.epoch, row.wrapped, row.check, micros(row.created_at))
            )

        await self._engine.run(work)


class SqlitePolicies:
    """The policies on one engine."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def load_policies(self, tenant: TenantId) -> dict[str, str]:
        def work(transaction: Transaction) -> dict[str, str]:
            return dict(transaction.read(POLICIES, (tenant,)).fetchall())

        return await self._engine.run(work)

    async def save_policy(self, tenant: TenantId, name: str, value: str, audit: AuditEntry) -> None:
        def work(transaction: Transaction) -> None:
            transaction.write(SAVE_POLICY, (tenant, name, value))
            add_audit(transaction, audit, self._clock.now())

        await self._engine.run(work)
