"""Lists, filters and counts for people and programs: read-only, off the hot path, SQL on every engine."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Binding, Enrollment, EnrollmentKey
from ostiary.domain.facts import FactSheet
from ostiary.domain.token import Holder, TenantId, TokenKind, TokenRecord
from ostiary.ports.audit import AuditCounts
from ostiary.protocol.mdm.identity import EnrollmentId


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """One command as people see it: never its payload."""

    uuid: str
    enrollment_id: EnrollmentId
    request_type: str
    state: str
    queued_at: datetime
    sent_at: datetime | None
    closed_at: datetime | None
    hand_outs: int
    source: str
    result: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertLine:
    """An alert with its count and times."""

    alert: Alert
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The figures behind /metrics and `ostiary doctor`."""

    enrollments: dict[tuple[str, str], int]
    """By (type, state)."""
    live_commands: int
    wakes: int
    push_dead: int
    alerts: int
    tokens: dict[tuple[str, str], int]
    """By (kind, state)."""


class Reports(AuditCounts, Protocol):
    """Each list is sorted by a stable key, bounded by `limit`, and goes on after the key `after`."""

    async def list_enrollments(
        self, tenant: TenantId, *, state: str | None, limit: int, after: str | None
    ) -> tuple[Enrollment, ...]:
        """Sorted by (id, key); `after` is the last row's `id/key`."""

    async def find_enrollments(
        self, tenant: TenantId, enrollment_id: EnrollmentId
    ) -> tuple[Enrollment, ...]:
        """Every relationship and, for a device id, its user channels; current first."""

    async def find_by_serial(
        self, tenant: TenantId, serials: Collection[str]
    ) -> tuple[Enrollment, ...]:
        """Devices' relationships in force that say one of these serial numbers, in no order.

        A contested or ended one is not among them: a stranger chose what it says. Nor is what is too long to index.
        """

    async def list_push_dead(
        self, tenant: TenantId, *, limit: int, after: str | None
    ) -> tuple[Enrollment, ...]:
        """Channels in force whose push token APNs declared dead, sorted by key; `after` is the last row's key."""

    async def list_bindings(
        self, tenant: TenantId, enrollment_id: EnrollmentId
    ) -> tuple[Binding, ...]: ...

    async def list_commands(
        self, tenant: TenantId, enrollment_id: EnrollmentId | None, *, live_only: bool, limit: int
    ) -> tuple[CommandLine, ...]:
        """Live ones in order of turn, then closed ones, newest first."""

    async def list_tokens(
        self,
        tenant: TenantId,
        *,
        kind: TokenKind | None,
        current_only: bool,
        limit: int,
        after: str | None,
    ) -> tuple[TokenRecord, ...]:
        """Without values (empty bytes), sorted by record id; `after` is a record id."""

    async def token_history(self, tenant: TenantId, holder: Holder) -> tuple[TokenRecord, ...]:
        """Every generation of every kind of one holder, user channels of a device included; without values."""

    async def newest_tokens(
        self, tenant: TenantId, kind: TokenKind, holders: Sequence[Holder]
    ) -> tuple[TokenRecord, ...]:
        """The last generation of one kind for each holder that has any, in force or not; without values."""

    async def list_facts(self, keys: Sequence[EnrollmentKey]) -> tuple[FactSheet, ...]:
        """What these relationships last reported of themselves, in no order."""

    async def list_alerts(self, tenant: TenantId, *, limit: int) -> tuple[AlertLine, ...]: ...

    async def count(self) -> Counts: ...
