"""Escrows on PostgreSQL beyond a decision: those that are due, and the generations of one."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from ostiary.domain.escrow import Escrow
from ostiary.domain.token import Holder, TenantId, TokenKind, TokenRecord
from ostiary.ports.escrow import MOST_RECORDS
from ostiary.storage.postgres.batches import ALONE
from ostiary.storage.postgres.escrow_rows import ESCROW_COLUMNS, escrow_from
from ostiary.storage.postgres.load_escrows import ESCROWS
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.rows import Row, listed, token_from, with_columns

_DUE_AT: Final = ESCROW_COLUMNS.index("due_at")
CLAIM_ESCROWS: Final = f"""
    WITH due AS (
        SELECT x.ctid AS place, {listed("x", ESCROW_COLUMNS)} FROM escrow x
         WHERE x.due_at <= $1 ORDER BY x.due_at LIMIT $2
           FOR UPDATE SKIP LOCKED
    )
    UPDATE escrow e SET due_at = $3 FROM due
     WHERE e.ctid = ANY(ARRAY(SELECT place FROM due)) AND e.ctid = due.place
    RETURNING {listed("due", ESCROW_COLUMNS)}
"""  # noqa: S608 - made of constants; served by escrow_due
RECORDS: Final = with_columns("""
    SELECT $token FROM token t
     WHERE t.tenant = $1 AND t.holder = $2 AND t.kind = $3
     ORDER BY t.generation DESC LIMIT $4
""")  # served by token_generation


class PostgresEscrows:
    """What the port says, over one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim_due(self, now: datetime, *, limit: int, lease: timedelta) -> Sequence[Escrow]:
        rows = await self._pool.rows(CLAIM_ESCROWS, now, limit, now + lease)
        return tuple(escrow_from(row) for row in sorted(rows, key=_oldest_first))

    async def records_of(
        self, tenant: TenantId, holder: Holder, kind: TokenKind
    ) -> Sequence[TokenRecord]:
        rows = await self._pool.rows(RECORDS, tenant, holder, kind.value, MOST_RECORDS)
        return tuple(token_from(row) for row in rows)

    async def find(self, tenant: TenantId, holder: Holder) -> Sequence[Escrow]:
        rows = await self._pool.rows(ESCROWS, tenant, holder, ALONE)
        return tuple(escrow_from(row[:-1]) for row in rows)


def _oldest_first(row: Row) -> tuple[Any, ...]:
    return row[_DUE_AT], *row[:3]
