"""A channel as a push needs it: no more than that, for a storm of pushes loads one of these each."""

from datetime import datetime
from typing import Self

from ostiary.domain.enrollment import Enrollment, EnrollmentKey
from ostiary.domain.token import Holder, RecordId, SealedValue, TenantId, TokenRecord
from ostiary.protocol.mdm.checkin import Topic
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PushTarget:
    """Whom to name, which topic to push, and when the channel and its token were last heard of."""

    key: EnrollmentKey
    tenant: TenantId
    id: EnrollmentId
    topic: Topic
    enrolled_at: datetime | None
    last_seen_at: datetime | None
    arrived_at: datetime | None
    """When the push token last came; APNs' 410 is judged against it. (TU-20)"""

    @classmethod
    def of(cls, channel: Enrollment) -> Self:
        """The same of a channel that was loaded whole."""
        return cls(
            key=channel.key,
            tenant=channel.tenant,
            id=channel.id,
            topic=channel.topic,
            enrolled_at=channel.enrolled_at,
            last_seen_at=channel.last_seen_at,
            arrived_at=None if channel.push is None else channel.push.arrived_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPush:
    """A generation of a push token, sealed, with what its sealing is bound to."""

    id: RecordId
    tenant: TenantId
    holder: Holder
    value: SealedValue

    @classmethod
    def of(cls, record: TokenRecord) -> Self:
        """The same of a ledger record that was loaded whole."""
        return cls(id=record.id, tenant=record.tenant, holder=record.holder, value=record.value)
