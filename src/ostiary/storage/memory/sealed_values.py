"""Sealed values in memory: the same walk, over dictionaries."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from ostiary.domain.enrollment import EnrollmentKey
from ostiary.domain.token import Holder, RecordId
from ostiary.ports.resealing import (
    HEAD_BYTES,
    Key,
    Resealed,
    SealedIn,
    SealedPage,
    SealedRow,
    SealedSite,
)
from ostiary.protocol.mdm.checkin import Topic
from ostiary.storage.memory.store import Store
from ostiary.storage.memory.tables import Tables
from ostiary.storage.sealed_places import decode_key, page_of


class MemorySealedValues:
    """What re-sealing asks, of dictionaries."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def find_sealed(self, where: SealedIn, place: str, *, limit: int) -> SealedPage:
        after = decode_key(where, place)
        rows = sorted(_rows(self._store.tables, where), key=lambda one: one.key)
        following = (row for row in rows if row.key > after)
        return page_of(
            ((row.key, row.kind, _site(row)) for row in islice(following, limit)), limit=limit
        )

    async def load_sealed(self, where: SealedIn, keys: Sequence[Key]) -> tuple[SealedRow, ...]:
        return tuple(row for row in _rows(self._store.tables, where) if row.key in set(keys))

    async def replace_sealed(self, where: SealedIn, values: Sequence[Resealed]) -> int:
        there = {row.key: row.value for row in _rows(self._store.tables, where)}
        found = [one for one in values if there.get(one.key) == one.before]
        with self._store.writing() as tables:
            for one in found:
                _replace(tables, where, one)
        return len(found)


def _rows(tables: Tables, where: SealedIn) -> Iterable[SealedRow]:
    match where:
        case SealedIn.TOKENS:
            for record in tables.records.values():
                yield SealedRow(
                    key=(record.id,),
                    tenant=record.tenant,
                    holder=record.holder,
                    kind=record.kind.value,
                    record_id=record.id,
                    value=record.value,
                )
        case SealedIn.COMMANDS:
            for (of, uuid), command in tables.commands.items():
                yield SealedRow(
                    key=(of, uuid),
                    tenant=tables.enrollments[EnrollmentKey(of)].tenant,
                    holder=Holder(uuid),
                    kind=None,
                    record_id=RecordId(uuid),
                    value=command.payload,
                )
        case SealedIn.PUSH_CERTIFICATES:
            for topic, certificate in tables.push_certificates.items():
                yield SealedRow(
                    key=(topic,),
                    tenant=certificate.tenant,
                    holder=Holder(topic),
                    kind=None,
                    record_id=certificate.record_id,
                    value=certificate.sealed_key,
                )
        case SealedIn.PENDING_PUSH_KEYS:
            for record_id, pending in tables.pending_push_keys.items():
                yield SealedRow(
                    key=(record_id,),
                    tenant=pending.tenant,
                    holder=Holder(pending.public_key),
                    kind=None,
                    record_id=record_id,
                    value=pending.sealed_key,
                )


def _replace(tables: Tables, where: SealedIn, one: Resealed) -> None:
    first, last = one.key[0], one.key[-1]
    match where:
        case SealedIn.TOKENS:
            record = tables.records[RecordId(first)]
            tables.records[record.id] = replace(record, value=one.after)
        case SealedIn.COMMANDS:
            command = tables.commands[first, last]
            tables.commands[first, last] = replace(command, payload=one.after)
        case SealedIn.PUSH_CERTIFICATES:
            certificate = tables.push_certificates[Topic(first)]
            tables.push_certificates[Topic(first)] = replace(certificate, sealed_key=one.after)
        case SealedIn.PENDING_PUSH_KEYS:
            pending = tables.pending_push_keys[RecordId(first)]
            tables.pending_push_keys[RecordId(first)] = replace(pending, sealed_key=one.after)


def _site(row: SealedRow) -> SealedSite:
    return SealedSite(
        key=row.key, tenant=row.tenant, head=row.value[:HEAD_BYTES], size=len(row.value)
    )
