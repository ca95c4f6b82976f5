"""Writes around a decision: wakes, alerts, and the audit's chain."""

from datetime import datetime
from typing import Final

from ostiary.domain.decision import Alert, AuditEntry, Wake
from ostiary.domain.enrollment import EnrollmentKey
from ostiary.storage.audit_chain import FIRST_HASH, next_hash
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.postgres.session import Session

REPLACE_WAKE: Final = """
    ON CONFLICT (enrollment_key) DO UPDATE
       SET due_at = excluded.due_at, attempt = excluded.attempt, failures = excluded.failures,
           claimed = false
"""
SAVE_WAKE: Final = f"""
    INSERT INTO wake (enrollment_key, due_at, attempt, failures)
    SELECT e.key, $2, $3, $4 FROM enrollment e WHERE e.key = $1
    {REPLACE_WAKE}
"""  # noqa: S608 - made of constants; served by the primary keys
DROP_WAKE: Final = "DELETE FROM wake WHERE enrollment_key = $1"
SAVE_ALERT: Final = """
    INSERT INTO alert (tenant, subject, kind, sentence, count, first_at, last_at)
    VALUES ($1, $2, $3, $4, 1, $5, $5)
    ON CONFLICT (tenant, subject, kind) DO UPDATE
       SET sentence = excluded.sentence, count = alert.count + 1, last_at = excluded.last_at
"""
LOCK_AUDIT: Final = (
    "SELECT pg_advisory_xact_lock(hashtextextended('ostiary audit ' || $1::text, 0))"
)
LAST_AUDIT: Final = """
    SELECT number, hash FROM audit WHERE tenant = $1 ORDER BY number DESC LIMIT 1
"""  # served by the primary key
ADD_AUDIT: Final = """
    INSERT INTO audit (tenant, number, at, actor, verb, subject, reason, hash)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""


async def save_wake(session: Session, wake: Wake) -> None:
    """Write it anew: a claim that is under way no longer decides over it."""
    values = (wake.enrollment_key, wake.due_at, wake.attempt, wake.failures)
    if await session.run(SAVE_WAKE, *values) != 1:
        raise ChangeDoesNotFit("no such row", enrollment_key=wake.enrollment_key)


async def drop_wake(session: Session, key: EnrollmentKey) -> None:
    await session.run(DROP_WAKE, key)


async def save_alert(session: Session, alert: Alert, at: datetime) -> None:
    """Raise it, or count it once more."""
    await session.run(SAVE_ALERT, alert.tenant, alert.subject, alert.kind, alert.sentence, at)


async def add_audit(session: Session, entry: AuditEntry, at: datetime) -> None:
    """Append to the tenant's chain, as the last statement of a transaction: until it ends, the chain is ours alone.

    A device's message never comes here, so nothing hot stands in this queue. (design.md 4)
    """
    await session.rows(LOCK_AUDIT, entry.tenant)
    last = await session.row(LAST_AUDIT, entry.tenant)
    number, previous = (0, FIRST_HASH) if last is None else last
    await session.run(
        ADD_AUDIT,
        entry.tenant,
        number + 1,
        at,
        entry.actor,
        entry.verb,
        entry.subject,
        entry.reason,
        next_hash(previous, entry, number + 1, at),
    )
