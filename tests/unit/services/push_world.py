"""A small world for pushes: rows, wakes and push certificates in memory, and a sealer that shows what it is bound to."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from conformance.push_certificates import TOPIC
from ostiary.domain.decision import Alert, Ask, AuditEntry, ByCertificate, ByKey, Change, Snapshot
from ostiary.domain.enrollment import Enrollment, EnrollmentKey, Proof, Standing, State
from ostiary.domain.push_target import PushTarget, SealedPush
from ostiary.domain.push_value import encode_push_value
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Holder,
    KeyedDigest,
    RecordId,
    SealedValue,
    TenantId,
    TokenKind,
    TokenPointer,
    TokenRecord,
    TokenState,
)
from ostiary.ports.sealer import SealBroken, SealLabel
from ostiary.ports.storage import DueWake, PendingPushKey, PushCertificate, WakeStep
from ostiary.protocol.mdm.checkin import DeviceFacts, Topic
from ostiary.protocol.mdm.identity import EnrollmentId, EnrollmentType
from ostiary.secret import Secret

AnswerT = TypeVar("AnswerT")

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
UDID = EnrollmentId("00008030-000A4D1E0C38802E")
TOKEN, MAGIC = b"\x5a\xa7" * 16, b"quite-secret-magic"


@dataclass
class MovedClock:
    """A clock that stands until it is moved."""

    moment: datetime = NOON

    def now(self) -> datetime:
        return self.moment

    def advance(self, by: timedelta) -> None:
        self.moment += by


class LabelledSealer:
    """Keeps a value beside the label it was sealed under, and opens it under no other."""

    def seal(self, value: Secret, label: SealLabel) -> SealedValue:
        return SealedValue(json.dumps([repr(label), value.reveal().hex()]).encode())

    def unseal(self, sealed: SealedValue, label: SealLabel) -> Secret:
        sealed_under, value = json.loads(sealed)
        if sealed_under != repr(label):
            raise SealBroken
        return Secret(bytes.fromhex(value))

    def digest(self, tenant: TenantId, value: Secret) -> KeyedDigest:
        return KeyedDigest(tenant.encode() + value.reveal())


@dataclass
class PushWorld:
    """Implements the parts of Enrollments, Wakes and PushCertificates that pushes use."""

    sealer: LabelledSealer = field(default_factory=LabelledSealer)
    row_by_key: dict[EnrollmentKey, Enrollment] = field(default_factory=dict)
    record_by_id: dict[RecordId, TokenRecord] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    audit: list[AuditEntry] = field(default_factory=list)
    certificate_by_topic: dict[Topic, PushCertificate] = field(default_factory=dict)
    replaced: list[PushCertificate] = field(default_factory=list)
    pending: dict[RecordId, PendingPushKey] = field(default_factory=dict)
    wakes: list[DueWake] = field(default_factory=list)
    due_at: dict[EnrollmentKey, datetime] = field(default_factory=dict)
    settled: list[WakeStep] = field(default_factory=list)
    written: asyncio.Event = field(default_factory=asyncio.Event)
    was_settled: asyncio.Event = field(default_factory=asyncio.Event)
    waited: asyncio.Event = field(default_factory=asyncio.Event)
    waits: list[float] = field(default_factory=list)

    def add(self, enrollment_id: EnrollmentId = UDID, **changes: object) -> Enrollment:
        """An enrolled device with a push token, changed as said."""
        number = len(self.row_by_key) + 1
        key, record_id = EnrollmentKey(f"{number:032x}"), RecordId(f"{number + 256:032x}")
        row = Enrollment(
            key=key,
            tenant=DEFAULT_TENANT,
            id=enrollment_id,
            type=EnrollmentType.DEVICE,
            parent_key=None,
            state=State.ENROLLED,
            standing=Standing.CURRENT,
            proof=Proof.PROVEN,
            facts=DeviceFacts(),
            topic=Topic(TOPIC),
            created_at=NOON - timedelta(days=1),
            authenticated_at=NOON - timedelta(days=1),
            enrolled_at=NOON - timedelta(days=1),
            last_seen_at=NOON - timedelta(hours=1),
            push=TokenPointer(
                record_id=record_id,
                digest=KeyedDigest(b""),
                received_at=NOON - timedelta(days=1),
                arrived_at=NOON - timedelta(hours=2),
            ),
        )
        row = replace(row, **changes)  # type: ignore[arg-type]  # a test names fields of its own choice
        self.row_by_key[key] = row
        label = SealLabel(
            tenant=row.tenant, holder=Holder(row.id), kind=TokenKind.PUSH, record_id=record_id
        )
        self.record_by_id[record_id] = TokenRecord(
            id=record_id,
            tenant=row.tenant,
            holder=Holder(row.id),
            kind=TokenKind.PUSH,
            generation=1,
            value=self.sealer.seal(Secret(encode_push_value(TOKEN, MAGIC)), label),
            digest=KeyedDigest(b""),
            size=len(TOKEN),
            state=TokenState.OK,
            cause="",
            source="TokenUpdate",
            fingerprint=None,
            relationship=key,
            received_at=NOON - timedelta(days=1),
            changed_at=NOON - timedelta(days=1),
        )
        return row

    def due(self, row: Enrollment, *, attempt: int = 0, failures: int = 0) -> DueWake:
        assert row.push is not None
        return DueWake(
            enrollment=PushTarget.of(row),
            due_at=self.due_at.get(row.key, NOON),
            attempt=attempt,
            failures=failures,
            push_record=SealedPush.of(self.record_by_id[row.push.record_id]),
        )

    # Enrollments

    async def decide(
        self, ask: Ask, rule: Callable[[Snapshot], Change[AnswerT]]
    ) -> Change[AnswerT]:
        assert not isinstance(ask.who, ByCertificate)
        if isinstance(ask.who, ByKey):
            row = self.row_by_key.get(ask.who.key)
        else:
            wanted = (ask.who.tenant, ask.who.enrollment_id, Standing.CURRENT)
            rows = self.row_by_key.values()
            row = next((r for r in rows if (r.tenant, r.id, r.standing) == wanted), None)
        parent = row and row.parent_key and self.row_by_key[row.parent_key]
        change = rule(Snapshot(device=parent or row, channel=row))
        self.row_by_key.update({changed.key: changed for changed in change.rows})
        self.alerts += change.alerts
        return change

    async def load_record(self, record_id: RecordId) -> TokenRecord | None:
        return self.record_by_id.get(record_id)

    # PushCertificates

    async def save_push_certificate(
        self,
        certificate: PushCertificate,
        audit: AuditEntry,
        *,
        spent_key: RecordId | None = None,
    ) -> None:
        before = self.certificate_by_topic.get(certificate.topic)
        if before is not None:
            self.replaced.append(before)
        self.certificate_by_topic[certificate.topic] = certificate
        self.audit.append(audit)
        if spent_key is not None:
            del self.pending[spent_key]

    async def save_pending_push_key(self, key: PendingPushKey, audit: AuditEntry) -> None:
        self.pending[key.record_id] = key
        self.audit.append(audit)

    async def find_pending_push_key(
        self, tenant: TenantId, public_key: str
    ) -> PendingPushKey | None:
        keys = self.pending.values()
        return next((k for k in keys if (k.tenant, k.public_key) == (tenant, public_key)), None)

    async def load_push_certificate(self, topic: Topic) -> PushCertificate | None:
        return self.certificate_by_topic.get(topic)

    async def list_push_certificates(self, tenant: TenantId) -> tuple[PushCertificate, ...]:
        return tuple(c for c in self.certificate_by_topic.values() if c.tenant == tenant)

    async def pause_topic(
        self, topic: Topic, reason: str, at: datetime, *, shown: RecordId | None
    ) -> bool:
        certificate = self.certificate_by_topic.get(topic)
        if certificate is not None and certificate.record_id == shown:
            self.certificate_by_topic[topic] = replace(
                certificate, paused_since=at, paused_reason=reason
            )
        return shown == (None if certificate is None else certificate.record_id)

    async def count_enrollments_by_topic(self, tenant: TenantId) -> dict[Topic, int]:
        counts: dict[Topic, int] = {}
        for row in self.row_by_key.values():
            if row.tenant == tenant and row.state.is_served and not row.is_user_channel:
                counts[row.topic] = counts.get(row.topic, 0) + 1
        return counts

    # Wakes

    async def claim(self, now: datetime, *, limit: int, lease: timedelta) -> tuple[DueWake, ...]:
        due = [w for w in self.wakes if self.due_at[w.enrollment.key] <= now][:limit]
        self.due_at.update({w.enrollment.key: now + lease for w in due})
        return tuple(due)

    async def settle(self, steps: Sequence[WakeStep]) -> None:
        self.settled += steps
        for step in steps:
            if step.next_due_at is not None:
                self.due_at[step.enrollment_key] = step.next_due_at
        self.was_settled.set()

    async def wake_silent(self, now: datetime, *, silent_since: datetime, limit: int) -> int:
        silent = [
            row
            for row in self.row_by_key.values()
            if row.key not in self.due_at and (row.last_seen_at or now) < silent_since
        ][:limit]
        for row in silent:
            self.wake(row, now)
        return len(silent)

    async def next_due_at(self) -> datetime | None:
        return min(self.due_at.values(), default=None)

    async def wait(self, timeout_seconds: float) -> None:
        self.waits.append(timeout_seconds)
        self.waited.set()
        await self.written.wait()
        self.written.clear()

    def wake(self, row: Enrollment, due_at: datetime = NOON) -> None:
        self.due_at[row.key] = due_at
        self.wakes.append(self.due(row))
        self.written.set()
