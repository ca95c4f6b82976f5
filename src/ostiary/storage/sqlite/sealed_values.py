"""Sealed values on SQLite: found and read over connections that only read, replaced in the writer."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from ostiary.domain.token import Holder, RecordId, SealedValue
from ostiary.ports.resealing import (
    Key,
    Resealed,
    SealedIn,
    SealedPage,
    SealedRow,
    SealedSite,
)
from ostiary.storage.sealed_places import KEY_WIDTH, decode_key, page_of
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.readers import Read, Readers

# Of each row: its key, the kind where the ledger tells one, the tenant, the head of the value, and its size.
FIND_TOKENS: Final = """
    SELECT id, kind, tenant, substr(value, 1, 5), length(value)
      FROM token WHERE id > ? ORDER BY id LIMIT ?
"""  # served by the primary key
FIND_COMMANDS: Final = """
    SELECT c.enrollment_key, c.uuid, NULL, e.tenant, substr(c.payload, 1, 5), length(c.payload)
      FROM command c JOIN enrollment e ON e.key = c.enrollment_key
     WHERE (c.enrollment_key, c.uuid) > (?, ?) ORDER BY c.enrollment_key, c.uuid LIMIT ?
"""  # served by command_by_uuid
FIND_CERTIFICATES: Final = """
    SELECT topic, NULL, tenant, substr(sealed_key, 1, 5), length(sealed_key)
      FROM push_certificate WHERE topic > ? ORDER BY topic LIMIT ?
"""  # served by the primary key
FIND_PENDING: Final = """
    SELECT record_id, NULL, tenant, substr(sealed_key, 1, 5), length(sealed_key)
      FROM pending_push_key WHERE record_id > ? ORDER BY record_id LIMIT ?
"""  # served by the primary key
# Of each row: its key, tenant, holder, the kind where the ledger tells one, the record's id, and the value.
LOAD_RECORD: Final = "SELECT id, tenant, holder, kind, id, value FROM token WHERE id = ?"
LOAD_COMMAND: Final = """
    SELECT c.enrollment_key, c.uuid, e.tenant, c.uuid, NULL, c.uuid, c.payload
      FROM command c JOIN enrollment e ON e.key = c.enrollment_key
     WHERE c.enrollment_key = ? AND c.uuid = ?
"""  # served by command_by_uuid
LOAD_CERTIFICATE: Final = """
    SELECT topic, tenant, topic, NULL, record_id, sealed_key FROM push_certificate WHERE topic = ?
"""  # served by the primary key
LOAD_PENDING: Final = """
    SELECT record_id, tenant, public_key, NULL, record_id, sealed_key
      FROM pending_push_key WHERE record_id = ?
"""  # served by the primary key
REPLACE_VALUE: Final = "UPDATE token SET value = ? WHERE id = ? AND value = ?"
REPLACE_PAYLOAD: Final = """
    UPDATE command SET payload = ? WHERE enrollment_key = ? AND uuid = ? AND payload = ?
"""  # served by command_by_uuid
REPLACE_CERTIFICATE: Final = """
    UPDATE push_certificate SET sealed_key = ? WHERE topic = ? AND sealed_key = ?
"""  # served by the primary key
REPLACE_PENDING: Final = """
    UPDATE pending_push_key SET sealed_key = ? WHERE record_id = ? AND sealed_key = ?
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
        SealedIn.TOKENS: LOAD_RECORD,
        SealedIn.COMMANDS: LOAD_COMMAND,
        SealedIn.PUSH_CERTIFICATES: LOAD_CERTIFICATE,
        SealedIn.PENDING_PUSH_KEYS: LOAD_PENDING,
    }
)
_REPLACE: Final[Mapping[SealedIn, str]] = MappingProxyType(
    {
        SealedIn.TOKENS: REPLACE_VALUE,
        SealedIn.COMMANDS: REPLACE_PAYLOAD,
        SealedIn.PUSH_CERTIFICATES: REPLACE_CERTIFICATE,
        SealedIn.PENDING_PUSH_KEYS: REPLACE_PENDING,
    }
)


class SqliteSealedValues:
    """What re-sealing asks, on one engine."""

    def __init__(self, engine: Engine, readers: Readers) -> None:
        self._engine = engine
        self._readers = readers

    async def find_sealed(self, where: SealedIn, place: str, *, limit: int) -> SealedPage:
        values = (*decode_key(where, place), limit)
        rows = await self._readers.run(lambda read: read(_FIND[where], values).fetchall())
        return page_of((_site(KEY_WIDTH[where], row) for row in rows), limit=limit)

    async def load_sealed(self, where: SealedIn, keys: Sequence[Key]) -> tuple[SealedRow, ...]:
        def work(read: Read) -> tuple[SealedRow, ...]:
            found = (read(_LOAD[where], key).fetchone() for key in keys)
            return tuple(_row(KEY_WIDTH[where], row) for row in found if row is not None)

        return await self._readers.run(work)

    async def replace_sealed(self, where: SealedIn, values: Sequence[Resealed]) -> int:
        rows = [(one.after, *one.key, one.before) for one in values]

        def work(transaction: Transaction) -> int:
            return transaction.write_each(_REPLACE[where], rows)

        return await self._engine.run(work) if rows else 0


def _site(width: int, row: tuple[Any, ...]) -> tuple[Key, str | None, SealedSite]:
    key, (kind, tenant, head, size) = row[:width], row[width:]
    return key, kind, SealedSite(key=key, tenant=tenant, head=head, size=size)


def _row(width: int, row: tuple[Any, ...]) -> SealedRow:
    key, (tenant, holder, kind, record_id, value) = row[:width], row[width:]
    return SealedRow(
        key=key,
        tenant=tenant,
        holder=Holder(holder),
        kind=kind,
        record_id=RecordId(record_id),
        value=SealedValue(value),
    )
