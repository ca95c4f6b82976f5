"""Push certificates on SQLite: one current per topic, every generation in the ledger."""

from datetime import datetime
from typing import Final

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import RecordId, TenantId
from ostiary.ports.storage import PendingPushKey, PushCertificate
from ostiary.protocol.mdm.checkin import Topic
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.ledger import push_certificate_record
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.readers import Readers
from ostiary.storage.sqlite.rows import Row, micros, moment, moment_or_none
from ostiary.storage.sqlite.write_news import add_audit
from ostiary.storage.sqlite.write_tokens import add_records, supersede_older

_COLUMNS: Final = """
    topic, tenant, record_id, certificate_pem, sealed_key, not_before, not_after, imported_at,
    paused_since, paused_reason
"""
SAVE_CERTIFICATE: Final = f"""
    INSERT INTO push_certificate ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)
    ON CONFLICT (topic) DO UPDATE
       SET record_id = excluded.record_id, certificate_pem = excluded.certificate_pem,
           sealed_key = excluded.sealed_key, not_before = excluded.not_before,
           not_after = excluded.not_after, imported_at = excluded.imported_at,
           paused_since = NULL, paused_reason = NULL
     WHERE push_certificate.tenant = excluded.tenant
"""  # noqa: S608 - made of constants
CERTIFICATE_OF_TOPIC: Final = f"""
    SELECT {_COLUMNS} FROM push_certificate WHERE topic = ?
"""  # noqa: S608 - made of constants; served by the primary key
CERTIFICATES: Final = f"""
    SELECT {_COLUMNS} FROM push_certificate WHERE tenant = ? ORDER BY topic
"""  # noqa: S608 - made of constants
PAUSE_TOPIC: Final = """
    UPDATE push_certificate SET paused_since = ?, paused_reason = ?
     WHERE topic = ? AND record_id = ? AND paused_since IS NULL
"""
RECORD_OF_TOPIC: Final = "SELECT record_id FROM push_certificate WHERE topic = ?"
ADD_PENDING_KEY: Final = """
    INSERT INTO pending_push_key (record_id, tenant, public_key, sealed_key, created_at)
    VALUES (?, ?, ?, ?, ?)
"""
PENDING_KEY: Final = """
    SELECT record_id, sealed_key, created_at FROM pending_push_key
     WHERE tenant = ? AND public_key = ?
"""  # served by pending_push_key_by_public_key
DROP_PENDING_KEY: Final = "DELETE FROM pending_push_key WHERE record_id = ?"
SERVED_BY_TOPIC: Final = """
    SELECT topic, count(*) FROM enrollment
     WHERE tenant = ? AND state IN ('enrolled', 'renewing') GROUP BY topic
"""  # walks through enrollment_figures, in a reader's thread


class SqlitePushCertificates:
    """The push certificates on one engine; what walks through the fleet is read beside it."""

    def __init__(self, engine: Engine, readers: Readers) -> None:
        self._engine = engine
        self._readers = readers

    async def save_push_certificate(
        self,
        certificate: PushCertificate,
        audit: AuditEntry,
        *,
        spent_key: RecordId | None = None,
    ) -> None:
        def work(transaction: Transaction) -> None:
            if transaction.write(SAVE_CERTIFICATE, _values(certificate)) != 1:
                raise ChangeDoesNotFit("another tenant holds this topic", topic=certificate.topic)
            record = push_certificate_record(certificate, audit.verb)
            supersede_older(transaction, record)
            add_records(transaction, record)
            if spent_key is not None:
                transaction.write(DROP_PENDING_KEY, (spent_key,))
            add_audit(transaction, audit, certificate.imported_at)

        await self._engine.run(work)

    async def save_pending_push_key(self, key: PendingPushKey, audit: AuditEntry) -> None:
        def work(transaction: Transaction) -> None:
            transaction.write(
                ADD_PENDING_KEY,
                (key.record_id, key.tenant, key.public_key, key.sealed_key, micros(key.created_at)),
            )
            add_audit(transaction, audit, key.created_at)

        await self._engine.run(work)

    async def find_pending_push_key(
        self, tenant: TenantId, public_key: str
    ) -> PendingPushKey | None:
        def work(transaction: Transaction) -> PendingPushKey | None:
            row = transaction.read(PENDING_KEY, (tenant, public_key)).fetchone()
            if row is None:
                return None
            record_id, sealed_key, created_at = row
            return PendingPushKey(
                record_id=record_id,
                tenant=tenant,
                public_key=public_key,
                sealed_key=sealed_key,
                created_at=moment(created_at),
            )

        return await self._engine.run(work)

    async def load_push_certificate(self, topic: Topic) -> PushCertificate | None:
        def work(transaction: Transaction) -> PushCertificate | None:
            row = transaction.read(CERTIFICATE_OF_TOPIC, (topic,)).fetchone()
            return None if row is None else _from(row)

        return await self._engine.run(work)

    async def list_push_certificates(self, tenant: TenantId) -> tuple[PushCertificate, ...]:
        def work(transaction: Transaction) -> tuple[PushCertificate, ...]:
            rows = transaction.read(CERTIFICATES, (tenant,)).fetchall()
            return tuple(_from(row) for row in rows)

        return await self._engine.run(work)

    async def pause_topic(
        self, topic: Topic, reason: str, at: datetime, *, shown: RecordId | None
    ) -> bool:
        def work(transaction: Transaction) -> bool:
            found = transaction.read(RECORD_OF_TOPIC, (topic,)).fetchone()
            if shown != (None if found is None else found[0]):
                return False
            transaction.write(PAUSE_TOPIC, (micros(at), reason, topic, shown))
            return True

        return await self._engine.run(work)

    async def count_enrollments_by_topic(self, tenant: TenantId) -> dict[Topic, int]:
        rows = await self._readers.run(lambda read: read(SERVED_BY_TOPIC, (tenant,)).fetchall())
        return dict(rows)


def _values(certificate: PushCertificate) -> Row:
    return (
        certificate.topic,
        certificate.tenant,
        certificate.record_id,
        certificate.certificate_pem,
        certificate.sealed_key,
        micros(certificate.not_before),
        micros(certificate.not_after),
        micros(certificate.imported_at),
    )


def _from(row: Row) -> PushCertificate:
    (
        topic, tenant, record_id, certificate_pem, sealed_key, not_before, not_after, imported_at,
        paused_since, paused_reason,
    ) = row  # fmt: skip
    return PushCertificate(
        topic=topic,
        tenant=tenant,
        record_id=record_id,
        certificate_pem=certificate_pem,
        sealed_key=sealed_key,
        not_before=moment(not_before),
        not_after=moment(not_after),
        imported_at=moment(imported_at),
        paused_since=moment_or_none(paused_since),
        paused_reason=paused_reason,
    )
