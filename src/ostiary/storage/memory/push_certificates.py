"""Push certificates in memory."""

from collections import Counter
from dataclasses import replace
from datetime import datetime

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import RecordId, TenantId, TokenState, TokenStep
from ostiary.ports.storage import PendingPushKey, PushCertificate
from ostiary.protocol.mdm.checkin import Topic
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.ledger import push_certificate_record
from ostiary.storage.memory.store import Store
from ostiary.storage.memory.write import IN_FORCE, add_audit, add_record, step_record
from ostiary.storage.wording import REPLACED


class MemoryPushCertificates:
    """The push certificates in dictionaries."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def save_push_certificate(
        self,
        certificate: PushCertificate,
        audit: AuditEntry,
        *,
        spent_key: RecordId | None = None,
    ) -> None:
        with self._store.writing() as tables:
            known = tables.push_certificates.get(certificate.topic)
            if known is not None and known.tenant != certificate.tenant:
                raise ChangeDoesNotFit("another tenant holds this topic", topic=certificate.topic)
            tables.push_certificates[certificate.topic] = replace(
                certificate, paused_since=None, paused_reason=None
            )
            new = push_certificate_record(certificate, audit.verb)
            for record in list(tables.records.values()):
                place = (record.tenant, record.holder, record.kind)
                is_older = record.id != new.id and record.state in IN_FORCE
                if is_older and place == (new.tenant, new.holder, new.kind):
                    step = TokenStep(
                        record_id=record.id, state=TokenState.SUPERSEDED, cause=REPLACED
                    )
                    step_record(tables, step, certificate.imported_at)
            add_record(tables, new)
            if spent_key is not None:
                tables.pending_push_keys.pop(spent_key, None)
            add_audit(tables, audit, certificate.imported_at)

    async def save_pending_push_key(self, key: PendingPushKey, audit: AuditEntry) -> None:
        with self._store.writing() as tables:
            if await self.find_pending_push_key(key.tenant, key.public_key) is not None:
                raise ChangeDoesNotFit("this key is pending already")
            tables.pending_push_keys[key.record_id] = key
            add_audit(tables, audit, key.created_at)

    async def find_pending_push_key(
        self, tenant: TenantId, public_key: str
    ) -> PendingPushKey | None:
        known = self._store.tables.pending_push_keys.values()
        place = (tenant, public_key)
        return next((one for one in known if (one.tenant, one.public_key) == place), None)

    async def load_push_certificate(self, topic: Topic) -> PushCertificate | None:
        return self._store.tables.push_certificates.get(topic)

    async def list_push_certificates(self, tenant: TenantId) -> tuple[PushCertificate, ...]:
        known = self._store.tables.push_certificates
        return tuple(known[topic] for topic in sorted(known) if known[topic].tenant == tenant)

    async def pause_topic(
        self, topic: Topic, reason: str, at: datetime, *, shown: RecordId | None
    ) -> bool:
        with self._store.writing() as tables:
            known = tables.push_certificates.get(topic)
            if known is not None and known.record_id == shown and known.paused_since is None:
                tables.push_certificates[topic] = replace(
                    known, paused_since=at, paused_reason=reason
                )
        return shown == (None if known is None else known.record_id)

    async def count_enrollments_by_topic(self, tenant: TenantId) -> dict[Topic, int]:
        rows = self._store.tables.enrollments.values()
        served = (row for row in rows if row.tenant == tenant and row.state.is_served)
        return dict(Counter(row.topic for row in served))
