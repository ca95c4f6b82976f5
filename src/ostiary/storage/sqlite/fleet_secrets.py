"""The secrets of a whole fleet on SQLite: five statements a page, however many devices it holds."""

import json
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
from ostiary.storage.sqlite.escrow_rows import ESCROW_COLUMNS, escrow_from, sheet_from
from ostiary.storage.sqlite.readers import Read, Readers
from ostiary.storage.sqlite.reports import LIST_ENROLLMENTS, LIST_FACTS
from ostiary.storage.sqlite.rows import enrollment_from, token_from, with_columns

ESCROWS_OF_MANY: Final = f"""
    SELECT {", ".join(f"x.{column}" for column in ESCROW_COLUMNS)}
      FROM json_each(?2) h CROSS JOIN escrow x
     WHERE x.tenant = ?1 AND x.holder = h.value
"""  # noqa: S608 - made of constants; served by the primary key
RECORDS_OF_MANY: Final = with_columns(f"""
    SELECT $public_token
      FROM json_each(?2) d CROSS JOIN enrollment e CROSS JOIN json_each(?3) k CROSS JOIN token t
     WHERE e.key = d.value
       AND t.tenant = ?1 AND t.holder = e.id AND t.kind = k.value
       AND t.generation >= coalesce((SELECT n.generation FROM token n
                                      WHERE n.tenant = ?1 AND n.holder = e.id
                                        AND n.kind = k.value AND {own("n")}
                                      ORDER BY n.generation DESC LIMIT 1 OFFSET ?4 - 1), 0)
       AND {own("t")} AND t.state NOT IN {NO_HISTORY}
""")  # noqa: S608 - made of constants; served by the primary key and token_generation
RECORDS_BY_ID: Final = with_columns("""
    SELECT $public_token FROM json_each(?2) i CROSS JOIN token t
     WHERE t.id = i.value AND +t.tenant = ?1
""")  # served by the primary key


class SqliteFleetSecrets:
    """What the port says, over read-only connections."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def list_secrets(
        self, tenant: TenantId, kinds: Sequence[TokenKind], *, limit: int, after: str | None
    ) -> FleetPage:
        # The key has no slash; an id may.
        last_id, _, last_key = (after or "").rpartition("/")

        def work(read: Read) -> FleetPage:
            listed = read(LIST_ENROLLMENTS, (tenant, last_id, last_key, None, limit))
            rows = [enrollment_from(row) for row in listed]
            devices = [row for row in rows if is_surveyed(row)]
            holders = json.dumps([row.id for row in devices])
            escrows = [escrow_from(row) for row in read(ESCROWS_OF_MANY, (tenant, holders))]
            keys = json.dumps([row.key for row in devices])
            wanted = (tenant, keys, json.dumps(kinds), NEWEST_OF_A_KIND)
            records = [token_from(row) for row in read(RECORDS_OF_MANY, wanted)]
            if older := unread_pointers(devices, escrows, records):
                named = read(RECORDS_BY_ID, (tenant, json.dumps(older)))
                records += [token_from(row) for row in named]
            sheets = [sheet_from(row) for row in read(LIST_FACTS, (keys,))]
            return FleetPage(
                devices=put_together(devices, escrows, records, sheets),
                after=place_after(rows, limit),
            )

        return await self._readers.run(work)
