"""How many entries of some verbs the audit has of late, on both databases: what the cap on destructive commands goes by."""

from datetime import timedelta

from conformance.storage_twins import Database
from conformance.storage_values import NOON, after
from ostiary.domain.decision import Ask, AuditEntry, ByName, Change
from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.protocol.mdm.identity import EnrollmentId

VERBS = ("enqueue devicelock", "enqueue erasedevice")


async def _audit(
    database: Database, verb: str, minutes: float, tenant: TenantId = DEFAULT_TENANT
) -> None:
    entry = AuditEntry(tenant=tenant, actor="somebody", verb=verb, subject="A", reason="")
    change = Change(at=after(minutes=minutes), answer=None, audit=entry)
    who = ByName(tenant=tenant, enrollment_id=EnrollmentId("A"))
    await database.enrollments.decide(Ask(who=who), lambda _seen: change)


async def _count(database: Database, *, since: timedelta) -> int:
    return await database.reports.count_audited(DEFAULT_TENANT, VERBS, since=NOON + since)


async def test_only_these_verbs_of_this_tenant_and_time_count(database: Database) -> None:
    """However the command was written: a request type says the same in any case."""
    await _audit(database, "enqueue EraseDevice", 0)
    await _audit(database, "enqueue erasedevice", 10)
    await _audit(database, "enqueue DeviceLock", 10)
    await _audit(database, "enqueue SetRecoveryLock", 11)
    await _audit(database, "enqueue EraseDevice", 12, TenantId("another"))
    assert await _count(database, since=timedelta(minutes=0)) == 3
    assert await _count(database, since=timedelta(minutes=10)) == 2
    assert await _count(database, since=timedelta(minutes=11)) == 0


async def test_nothing_else_that_is_audited_pushes_an_erase_out_of_the_count(
    database: Database,
) -> None:
    """Else whoever may queue ordinary commands could make room for destructive ones. (design.md 5)"""
    await _audit(database, "enqueue EraseDevice", 0)
    for number in range(40):
        await _audit(database, "policy-set", 1 + number / 60)
    assert await _count(database, since=timedelta(0)) == 1
