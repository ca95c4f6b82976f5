"""The secrets of a whole fleet on PostgreSQL: five statements a page, however many devices it holds."""

from collections.abc import Sequence
from typing import Final

from ostiary.domain.secret_survey import is_surveyed
from ostiary.domain.token import TenantId, TokenKind
from ostiary.ports.fleet_secrets import NEWEST_OF_A_KIND, FleetPage
from ostiary.storage.device_secrets import (
    NO_HISTORY,
    own,
    place_after,
    put_together,
    unread_pointers,
)
from ostiary.storage.postgres.escrow_rows import ESCROW_COLUMNS, escrow_from, sheet_from
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.reports import LIST_ENROLLMENTS, LIST_FACTS
from ostiary.storage.postgres.rows import enrollment_from, token_from, with_columns
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.text import escape

ESCROWS_OF_MANY: Final = f"""
    SELECT {", ".join(ESCROW_COLUMNS)} FROM escrow WHERE tenant = $1 AND holder = ANY($2::text[])
"""  # noqa: S608 - made of constants; served by the primary key
RECORDS_OF_MANY: Final = with_columns(f"""
    SELECT t.*
      FROM enrollment e
     CROSS JOIN unnest($3::text[]) k (kind)
     CROSS JOIN LATERAL (SELECT $public_token FROM token t
                          WHERE t.tenant = $1 AND t.holder = e.id AND t.kind = k.kind
                            AND {own("t")}
                          ORDER BY t.generation DESC LIMIT $4) t
     WHERE e.key = ANY($2::text[]) AND t.state NOT IN {NO_HISTORY}
""")  # noqa: S608 - made of constants; served by the primary key and token_generation
RECORDS_BY_ID: Final = with_columns("""
    SELECT $public_token FROM token t WHERE t.id = ANY($2::text[]) AND t.tenant = $1
""")  # served by the primary key
_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
"""The parts of a page belong to one moment."""


class PostgresFleetSecrets:
    """What the port says, over a pool that only reads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list_secrets(
        self, tenant: TenantId, kinds: Sequence[TokenKind], *, limit: int, after: str | None
    ) -> FleetPage:
        # The key has no slash; an id may.
        last_id, _, last_key = (after or "").rpartition("/")
        words = [kind.value for kind in kinds]

        async def work(session: Session) -> FleetPage:
            async with session.transaction(_SNAPSHOT):
                listed = await session.rows(
                    LIST_ENROLLMENTS, tenant, last_id, last_key, None, limit
                )
                rows = [enrollment_from(row) for row in listed]
                devices = [row for row in rows if is_surveyed(row)]
                # A list's texts are escaped by whoever writes the list.
                holders = [escape(row.id) for row in devices]
                found = await session.rows(ESCROWS_OF_MANY, tenant, holders)
                escrows = [escrow_from(row) for row in found]
                keys = [row.key for row in devices]
                found = await session.rows(RECORDS_OF_MANY, tenant, keys, words, NEWEST_OF_A_KIND)
                records = [token_from(row) for row in found]
                if older := unread_pointers(devices, escrows, records):
                    found = await session.rows(RECORDS_BY_ID, tenant, older)
                    records += [token_from(row) for row in found]
                found = await session.rows(LIST_FACTS, keys)
                sheets = [sheet_from(row) for row in found]
            return FleetPage(
                devices=put_together(devices, escrows, records, sheets),
                after=place_after(rows, limit),
            )

        return await self._pool.run(work)
