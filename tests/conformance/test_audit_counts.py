"""How many entries of some verbs the audit has of late, on both databases: what the cap on destructive commands goes by."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from conformance.storage_values import NOON, MovedClock, after
from ostiary.domain.decision import Ask, AuditEntry, ByName, Change
from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.storage.postgres.storage import PostgresStorage, open_postgres
from ostiary.storage.sqlite.storage import SqliteStorage, open_sqlite
from postgres_server import PostgresServer

Database = SqliteStorage | PostgresStorage
VERBS = ("enqueue devicelock", "enqueue erasedevice")


@pytest.fixture(params=["sqlite", "postgres"])
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: PostgresServer
) -> AsyncIterator[Database]:
    opened: Database
    if request.param == "sqlite":
        opened = open_sqlite(tmp_path / "audit.db", clock=MovedClock())
    else:
        opened = open_postgres(await postgres_server.lend_database(), clock=MovedClock())
    yield opened
    await opened.close()


async def _audit(
    storage: Database, verb: str, minutes: float, tenant: TenantId = DEFAULT_TENANT
) -> None:
    entry = AuditEntry(tenant=tenant, actor="somebody", verb=verb, subject="A", reason="")
    change = Change(at=after(minutes=minutes), answer=None, audit=entry)
    who = ByName(tenant=tenant, enrollment_id=EnrollmentId("A"))
    await storage.enrollments.decide(Ask(who=who), lambda _seen: change)


async def _count(storage: Database, *, since: timedelta) -> int:
    return await storage.reports.count_audited(DEFAULT_TENANT, VERBS, since=NOON + since)


async def test_only_these_verbs_of_this_tenant_and_time_count(storage: Database) -> None:
    """However the command was written: a request type says the same in any case."""
    await _audit(storage, "enqueue EraseDevice", 0)
    await _audit(storage, "enqueue erasedevice", 10)
    await _audit(storage, "enqueue DeviceLock", 10)
    await _audit(storage, "enqueue SetRecoveryLock", 11)
    await _audit(storage, "enqueue EraseDevice", 12, TenantId("another"))
    assert await _count(storage, since=timedelta(minutes=0)) == 3
    assert await _count(storage, since=timedelta(minutes=10)) == 2
    assert await _count(storage, since=timedelta(minutes=11)) == 0


async def test_nothing_else_that_is_audited_pushes_an_erase_out_of_the_count(
    storage: Database,
) -> None:
    """Else whoever may queue ordinary commands could make room for destructive ones. (design.md 5)"""
    await _audit(storage, "enqueue EraseDevice", 0)
    for number in range(40):
        await _audit(storage, "policy-set", 1 + number / 60)
    assert await _count(storage, since=timedelta(0)) == 1
