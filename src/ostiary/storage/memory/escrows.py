"""Escrows in memory beyond a decision: those that are due, and the generations of one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from ostiary.domain.escrow import Escrow
from ostiary.domain.token import Holder, TenantId, TokenKind, TokenRecord
from ostiary.ports.escrow import MOST_RECORDS
from ostiary.storage.memory.load import escrows_of
from ostiary.storage.memory.store import Store


class MemoryEscrows:
    """What the port says, of dictionaries."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def claim_due(self, now: datetime, *, limit: int, lease: timedelta) -> Sequence[Escrow]:
        with self._store.writing() as tables:
            waiting = [(one.due_at, place) for place, one in tables.escrows.items() if one.due_at]
            due = sorted((due_at, place) for due_at, place in waiting if due_at <= now)[:limit]
            claimed = tuple(tables.escrows[place] for _, place in due)
            for _, place in due:
                tables.escrows[place] = replace(tables.escrows[place], due_at=now + lease)
        return claimed

    async def records_of(
        self, tenant: TenantId, holder: Holder, kind: TokenKind
    ) -> Sequence[TokenRecord]:
        place = (tenant, holder, kind)
        records = self._store.tables.records.values()
        found = [one for one in records if (one.tenant, one.holder, one.kind) == place]
        found.sort(key=lambda one: -one.generation)
        return tuple(found[:MOST_RECORDS])

    async def find(self, tenant: TenantId, holder: Holder) -> Sequence[Escrow]:
        return escrows_of(self._store.tables, tenant, holder)
