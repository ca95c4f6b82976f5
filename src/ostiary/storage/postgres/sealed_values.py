"""Sealed values on PostgreSQL: found and read over connections for reports, replaced over those that decide."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from ostiary.domain.token import Holder, RecordId, SealedValue
from ostiary.ports.resealing import (
    Key,
    Resealed,
    SealedIn,
    SealedPage,
    SealedRow,
    SealedSite,
)
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.rows import Row
from ostiary.storage.postgres.text import escape, unescape
from ostiary.storage.sealed_places import KEY_WIDTH, decode_key, page_of

# Of each row: its key, the kind where the ledger tells one, the tenant, the head of the value, and its size.
FIND_TOKENS: Final = """
    SELECT id, kind, tenant, substring(value FROM 1 FOR 5), octet_length(value)
      FROM token WHERE id > $1 ORDER BY id LIMIT $2
"""  # served by the primary key
FIND_COMMANDS: Final = """
    SELECT c.enrollment_key, c.uuid, NULL, e.tenant,
           substring(c.payload FROM 1 FOR 5), octet_length(c.payload)
      FROM command c JOIN enrollment e ON e.key = c.enrollment_key
     WHERE (c.enrollment_key, c.uuid) > ($1, $2) ORDER BY c.enrollment_key, c.uuid LIMIT $3
"""  # served by the primary key
FIND_CERTIFICATES: Final = """
    SELECT topic, NULL, tenant, substring(sealed_key FROM 1 FOR 5), octet_length(sealed_key)
      FROM push_certificate WHERE topic > $1 ORDER BY topic LIMIT $2
"""  # served by the primary key
FIND_PENDING: Final = """
    SELECT record_id, NULL, tenant, substring(sealed_key FROM 1 FOR 5), octet_length(sealed_key)
      FROM pending_push_key WHERE record_id > $1 ORDER BY record_id LIMIT $2
"""  # served by the primary key
# Of each row: its key, tenant, holder, the kind where the ledger tells one, the record's id, and the value.
LOAD_TOKENS: Final = """
    SELECT id, tenant, holder, kind, id, value FROM token WHERE id = ANY($1::text[])
"""  # served by the primary key
LOAD_PAYLOADS: Final = """
    SELECT c.enrollment_key, c.uuid, e.tenant, c.uuid, NULL, c.uuid, c.payload
      FROM unnest($1::text[], $2::text[]) k (enrollment_key, uuid)
      JOIN command c ON c.enrollment_key = k.enrollment_key AND c.uuid = k.uuid
      JOIN enrollment e ON e.key = c.enrollment_key
"""  # served by the primary keys
LOAD_CERTIFICATES: Final = """
    SELECT topic, tenant, topic, NULL, record_id, sealed_key
      FROM push_certificate WHERE topic = ANY($1::text[])
"""  # served by the primary key
LOAD_PENDING: Final = """
    SELECT record_id, tenant, public_key, NULL, record_id, sealed_key
      FROM pending_push_key WHERE record_id = ANY($1::text[])
"""  # served by the primary key
# Rows that a device's message holds are left for the next walk: we never wait for one while we hold others.
REPLACE_TOKENS: Final = """
    WITH due AS (
        SELECT t.id, v.sealed
          FROM unnest($1::text[], $2::bytea[], $3::bytea[]) v (id, seen, sealed)
          JOIN token t ON t.id = v.id AND t.value = v.seen
           FOR NO KEY UPDATE OF t SKIP LOCKED
    )
    UPDATE token t SET value = due.sealed FROM due WHERE t.id = due.id
"""  # served by the primary key
REPLACE_PAYLOADS: Final = """
    WITH due AS (
        SELECT c.enrollment_key, c.uuid, v.sealed
          FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[])
               v (enrollment_key, uuid, seen, sealed)
          JOIN command c ON c.enrollment_key = v.enrollment_key AND c.uuid = v.uuid
                        AND c.payload = v.seen
           FOR NO KEY UPDATE OF c SKIP LOCKED
    )
    UPDATE command c SET payload = due.sealed FROM due
     WHERE c.enrollment_key = due.enrollment_key AND c.uuid = due.uuid
"""  # served by the primary key
REPLACE_CERTIFICATES: Final = """
    WITH due AS (
        SELECT p.topic, v.sealed
          FROM unnest($1::text[], $2::bytea[], $3::bytea[]) v (topic, seen, sealed)
          JOIN push_certificate p ON p.topic = v.topic AND p.sealed_key = v.seen
           FOR NO KEY UPDATE OF p SKIP LOCKED
    )
    UPDATE push_certificate p SET sealed_key = due.sealed FROM due WHERE p.topic = due.topic
"""  # served by the primary key
REPLACE_PENDING: Final = """
    WITH due AS (
        SELECT p.record_id, v.sealed
          FROM unnest($1::text[], $2::bytea[], $3::bytea[]) v (record_id, seen, sealed)
          JOIN pending_push_key p ON p.record_id = v.record_id AND p.sealed_key = v.seen
           FOR NO KEY UPDATE OF p SKIP LOCKED
    )
    UPDATE pending_push_key p SET sealed_key = due.sealed FROM due
     WHERE p.record_id = due.record_id
"""  # served by the primary key

_FIND: Final[Mapping[SealedIn, str]] = MappingProxyType(
    {
        SealedIn.TOKENS: FIND_TOKENS,
        SealedIn.COMMANDS: FIND_COMMANDS,
        SealedIn.PUSH_CERTIFICATES: FIND_CERTIFICATES,
        SealedIn.PENDING_PUSH_KEYS: FIND_PENDING,
    }
)
_LOAD: Final[Mapping[SealedIn, str]] = MappingProxyType(
    {
        SealedIn.TOKENS: LOAD_TOKENS,
        SealedIn.COMMANDS: LOAD_PAYLOADS,
        SealedIn.PUSH_CERTIFICATES: LOAD_CERTIFICATES,
        SealedIn.PENDING_PUSH_KEYS: LOAD_PENDING,
    }
)
_REPLACE: Final[Mapping[SealedIn, str]] = MappingProxyType(
    {
        SealedIn.TOKENS: REPLACE_TOKENS,
        SealedIn.COMMANDS: REPLACE_PAYLOADS,
        SealedIn.PUSH_CERTIFICATES: REPLACE_CERTIFICATES,
        SealedIn.PENDING_PUSH_KEYS: REPLACE_PENDING,
    }
)


class PostgresSealedValues:
    """What re-sealing asks, over two pools: one that decides, one that only reads."""

    def __init__(self, pool: Pool, reporters: Pool) -> None:
        self._pool = pool
        self._reporters = reporters

    async def find_sealed(self, where: SealedIn, place: str, *, limit: int) -> SealedPage:
        after = decode_key(where, place)
        rows = await self._reporters.rows(_FIND[where], *after, limit)
        return page_of((_site(KEY_WIDTH[where], row) for row in rows), limit=limit)

    async def load_sealed(self, where: SealedIn, keys: Sequence[Key]) -> tuple[SealedRow, ...]:
        if not keys:
            return ()
        rows = await self._reporters.rows(_LOAD[where], *_columns(keys))
        return tuple(_row(KEY_WIDTH[where], row) for row in rows)

    async def replace_sealed(self, where: SealedIn, values: Sequence[Resealed]) -> int:
        if not values:
            return 0
        return await self._pool.write(
            _REPLACE[where],
            *_columns([one.key for one in values]),
            [one.before for one in values],
            [one.after for one in values],
        )


def _columns(keys: Sequence[Key]) -> list[list[str]]:
    """The keys' parts, each as one array."""
    return [[escape(part) for part in parts] for parts in zip(*keys, strict=True)]


def _site(width: int, row: Row) -> tuple[Key, str | None, SealedSite]:
    kind, tenant, head, size = row[width:]
    key = tuple(unescape(part) for part in row[:width])
    return key, kind, SealedSite(key=key, tenant=tenant, head=head, size=size)


def _row(width: int, row: Row) -> SealedRow:
    tenant, holder, kind, record_id, value = row[width:]
    return SealedRow(
        key=tuple(unescape(part) for part in row[:width]),
        tenant=tenant,
        holder=Holder(unescape(holder)),
        kind=kind,
        record_id=RecordId(unescape(record_id)),
        value=SealedValue(value),
    )
