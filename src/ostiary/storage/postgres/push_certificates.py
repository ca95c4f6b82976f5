"""Push certificates on PostgreSQL: one current per topic, every generation in the ledger."""

from datetime import datetime
from typing import Final

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import RecordId, TenantId
from ostiary.ports.storage import PendingPushKey, PushCertificate
from ostiary.protocol.mdm.checkin import Topic
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.ledger import push_certificate_record
from ostiary.storage.postgres.pool import Pool
from ostiary.storage.postgres.rows import Row, Values
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.text import unescape, unescape_or_none
from ostiary.storage.postgres.write_news import add_audit
from ostiary.storage.postgres.write_tokens import add_record, supersede_older

_COLUMNS: Final = """
    topic, tenant, record_id, certificate_pem, sealed_key, not_before, not_after, imported_at,
    paused_since, paused_reason
"""
SAVE_CERTIFICATE: Final = f"""
    INSERT INTO push_certificate ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, NULL)
    ON CONFLICT (topic) DO UPDATE
       SET record_id = excluded.record_id, certificate_pem = excluded.certificate_pem,
           sealed_key = excluded.sealed_key, not_before = excluded.not_before,
           not_after = excluded.not_after, imported_at = excluded.imported_at,
           paused_since = NULL, paused_reason = NULL
     WHERE push_certificate.tenant = excluded.tenant
"""  # noqa: S608 - made of constants
CERTIFICATE_OF_TOPIC: Final = f"""
    SELECT {_COLUMNS} FROM push_certificate WHERE topic = $1
"""  # noqa: S608 - made of constants; served by the primary key
CERTIFICATES: Final = f"""
    SELECT {_COLUMNS} FROM push_certificate WHERE tenant = $1 ORDER BY topic
"""  # noqa: S608 - made of constants
PAUSE_TOPIC: Final = """
    UPDATE push_certificate SET paused_since = $1, paused_reason = $2
     WHERE topic = $3 AND record_id = $4 AND paused_since IS NULL
"""
RECORD_OF_TOPIC: Final = "SELECT record_id FROM push_certificate WHERE topic = $1"
ADD_PENDING_KEY: Final = """
    INSERT INTO pending_push_key (record_id, tenant, public_key, sealed_key, created_at)
    VALUES ($1, $2, $3, $4, $5)
"""
PENDING_KEY: Final = """
    SELECT record_id, sealed_key, created_at FROM pending_push_key
     WHERE tenant = $1 AND public_key = $2
"""  # served by pending_push_key_by_public_key
DROP_PENDING_KEY: Final = "DELETE FROM pending_push_key WHERE record_id = $1"
SERVED_BY_TOPIC: Final = """
    SELECT topic, count(*) FROM enrollment
     WHERE tenant = $1 AND state IN ('enrolled', 'renewing') GROUP BY topic
"""  # served by enrollment_figures


class PostgresPushCertificates:
    """The push certificates on one engine."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def save_push_certificate(
        self,
        certificate: PushCertificate,
        audit: AuditEntry,
        *,
        spent_key: RecordId | None = None,
    ) -> None:
        async def work(session: Session) -> None:
            if await session.run(SAVE_CERTIFICATE, *_values(certificate)) != 1:
                raise ChangeDoesNotFit("another tenant holds this topic", topic=certificate.topic)
            record = push_certificate_record(certificate, audit.verb)
            await supersede_older(session, record)
            await add_record(session, record)
            if spent_key is not None:
                await session.run(DROP_PENDING_KEY, spent_key)
            await add_audit(session, audit, certificate.imported_at)

        await self._pool.transact(work)

    async def save_pending_push_key(self, key: PendingPushKey, audit: AuditEntry) -> None:
        async def work(session: Session) -> None:
            await session.run(
                ADD_PENDING_KEY,
                *(key.record_id, key.tenant, key.public_key, key.sealed_key, key.created_at),
            )
            await add_audit(session, audit, key.created_at)

        await self._pool.transact(work)

    async def find_pending_push_key(
        self, tenant: TenantId, public_key: str
    ) -> PendingPushKey | None:
        row = await self._pool.row(PENDING_KEY, tenant, public_key)
        if row is None:
            return None
        record_id, sealed_key, created_at = row
        return PendingPushKey(
            record_id=record_id,
            tenant=tenant,
            public_key=public_key,
            sealed_key=sealed_key,
            created_at=created_at,
        )

    async def load_push_certificate(self, topic: Topic) -> PushCertificate | None:
        row = await self._pool.row(CERTIFICATE_OF_TOPIC, topic)
        return None if row is None else _from(row)

    async def list_push_certificates(self, tenant: TenantId) -> tuple[PushCertificate, ...]:
        return tuple(_from(row) for row in await self._pool.rows(CERTIFICATES, tenant))

    async def pause_topic(
        self, topic: Topic, reason: str, at: datetime, *, shown: RecordId | None
    ) -> bool:
        # Paused first, looked at then: whoever replaces it in between leaves another record to be found.
        await self._pool.write(PAUSE_TOPIC, at, reason, topic, shown)
        found = await self._pool.rows(RECORD_OF_TOPIC, topic)
        return shown == (found[0][0] if found else None)

    async def count_enrollments_by_topic(self, tenant: TenantId) -> dict[Topic, int]:
        rows = await self._pool.rows(SERVED_BY_TOPIC, tenant)
        return {Topic(unescape(topic)): number for topic, number in rows}


def _values(certificate: PushCertificate) -> Values:
    return (
        certificate.topic,
        certificate.tenant,
        certificate.record_id,
        certificate.certificate_pem,
        certificate.sealed_key,
        certificate.not_before,
        certificate.not_after,
        certificate.imported_at,
    )


def _from(row: Row) -> PushCertificate:
    (
        topic, tenant, record_id, certificate_pem, sealed_key, not_before, not_after, imported_at,
        paused_since, paused_reason,
    ) = row  # fmt: skip
    return PushCertificate(
        topic=Topic(unescape(topic)),
        tenant=tenant,
        record_id=record_id,
        certificate_pem=certificate_pem,
        sealed_key=sealed_key,
        not_before=not_before,
        not_after=not_after,
        imported_at=imported_at,
        paused_since=paused_since,
        paused_reason=unescape_or_none(paused_reason),
    )
