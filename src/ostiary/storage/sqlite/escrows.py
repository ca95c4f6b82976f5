"""Escrows on SQLite beyond a decision: those that are due, and the generations of one."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.escrow import Escrow
from ostiary.domain.token import Holder, TenantId, TokenKind, TokenRecord
from ostiary.ports.escrow import MOST_RECORDS
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.escrow_rows import ESCROW_COLUMNS, escrow_from
from ostiary.storage.sqlite.load_escrows import ESCROWS
from ostiary.storage.sqlite.readers import Readers
from ostiary.storage.sqlite.rows import micros, token_from, with_columns

DUE_ESCROWS: Final = f"""
    SELECT {", ".join(ESCROW_COLUMNS)} FROM escrow WHERE due_at <= ?
     ORDER BY due_at, tenant, holder, kind LIMIT ?
"""  # noqa: S608 - made of constants; served by escrow_due
PUT_OFF: Final = """
    UPDATE escrow SET due_at = ? WHERE tenant = ? AND holder = ? AND kind = ?
"""  # served by the primary key
RECORDS: Final = with_columns("""
    SELECT $token FROM token t
     WHERE t.tenant = ? AND t.holder = ? AND t.kind = ?
     ORDER BY t.generation DESC LIMIT ?
""")  # served by token_generation


class SqliteEscrows:
    """What the port says, on one engine."""

    def __init__(self, engine: Engine, readers: Readers) -> None:
        self._engine = engine
        self._readers = readers

    async def claim_due(self, now: datetime, *, limit: int, lease: timedelta) -> Sequence[Escrow]:
        def work(transaction: Transaction) -> Sequence[Escrow]:
            rows = transaction.read(DUE_ESCROWS, (micros(now), limit)).fetchall()
            for tenant, holder, kind, *_ in rows:
                transaction.write(PUT_OFF, (micros(now + lease), tenant, holder, kind))
            return tuple(escrow_from(row) for row in rows)

        return await self._engine.run(work)

    async def records_of(
        self, tenant: TenantId, holder: Holder, kind: TokenKind
    ) -> Sequence[TokenRecord]:
        values = (tenant, holder, kind.value, MOST_RECORDS)
        rows = await self._readers.run(lambda read: read(RECORDS, values).fetchall())
        return tuple(token_from(row) for row in rows)

    async def find(self, tenant: TenantId, holder: Holder) -> Sequence[Escrow]:
        rows = await self._readers.run(lambda read: read(ESCROWS, (tenant, holder)).fetchall())
        return tuple(escrow_from(row) for row in rows)
