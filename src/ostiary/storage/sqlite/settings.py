"""What is equal on all nodes, on SQLite: policies and wrapped keys."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import TenantId
from ostiary.ports.clock import Clock
from ostiary.ports.storage import EpochRow
from ostiary.storage.epochs import demand_kept
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.rows import micros, moment
from ostiary.storage.sqlite.write_news import add_audit

EPOCHS: Final = """
    SELECT tenant, epoch, wrapped, check_value, created_at FROM key_epoch ORDER BY tenant, epoch
"""
ADD_EPOCH: Final = """
    INSERT INTO key_epoch (tenant, epoch, wrapped, check_value, created_at) VALUES (?, ?, ?, ?, ?)
"""
SAVE_EPOCH: Final = """
    INSERT INTO key_epoch (tenant, epoch, wrapped, check_value, created_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (tenant, epoch) DO UPDATE
       SET wrapped = excluded.wrapped, check_value = excluded.check_value
"""
POLICIES: Final = "SELECT name, value FROM policy WHERE tenant = ? ORDER BY name"
SAVE_POLICY: Final = """
    INSERT INTO policy (tenant, name, value) VALUES (?, ?, ?)
    ON CONFLICT (tenant, name) DO UPDATE SET value = excluded.value
"""


class SqliteKeyEpochs:
    """The wrapped tenant keys on one engine."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def load_epochs(self) -> tuple[EpochRow, ...]:
        return await self._engine.run(
            lambda transaction: _epochs(transaction.read(EPOCHS).fetchall())
        )

    async def add_epoch(self, row: EpochRow) -> None:
        """Store it. Raises `ChangeDoesNotFit` if the tenant has this epoch: a key is never overwritten."""
        await self._engine.run(lambda transaction: transaction.write(ADD_EPOCH, _values(row)))

    async def replace_epochs(
        self, before: Sequence[EpochRow], after: Sequence[EpochRow], audit: AuditEntry
    ) -> None:
        demand_kept(before, after)

        def work(transaction: Transaction) -> None:
            if set(_epochs(transaction.read(EPOCHS).fetchall())) != set(before):
                raise ChangeDoesNotFit("the keys are others by now")
            transaction.write_each(SAVE_EPOCH, [_values(row) for row in after])
            add_audit(transaction, audit, self._clock.now())

        await self._engine.run(work)


def _epochs(rows: Iterable[Any]) -> tuple[EpochRow, ...]:
    return tuple(
        EpochRow(
            tenant=tenant, epoch=epoch, wrapped=wrapped, check=check, created_at=moment(created_at)
        )
        for tenant, epoch, wrapped, check, created_at in rows
    )


def _values(row: EpochRow) -> tuple[Any, ...]:
    return row.tenant, row.epoch, row.wrapped, row.check, micros(row.created_at)


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
