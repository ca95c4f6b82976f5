"""Writes around a decision: wakes, alerts, and the audit's chain."""

from datetime import datetime
from typing import Final

from ostiary.domain.decision import Alert, AuditEntry, Wake
from ostiary.domain.enrollment import EnrollmentKey
from ostiary.storage.audit_chain import FIRST_HASH, next_hash
from ostiary.storage.sqlite.engine import Transaction
from ostiary.storage.sqlite.rows import micros

SAVE_WAKE: Final = """
    INSERT INTO wake (enrollment_key, due_at, attempt, failures, claimed) VALUES (?, ?, ?, ?, 0)
    ON CONFLICT (enrollment_key) DO UPDATE
       SET due_at = excluded.due_at, attempt = excluded.attempt,
           failures = excluded.failures, claimed = 0
"""
DROP_WAKE: Final = "DELETE FROM wake WHERE enrollment_key = ?"
SAVE_ALERT: Final = """
    INSERT INTO alert (tenant, subject, kind, sentence, count, first_at, last_at)
    VALUES (?1, ?2, ?3, ?4, 1, ?5, ?5)
    ON CONFLICT (tenant, subject, kind) DO UPDATE
       SET sentence = excluded.sentence, count = count + 1, last_at = excluded.last_at
"""
LAST_AUDIT: Final = """
    SELECT number, hash FROM audit WHERE tenant = ? ORDER BY number DESC LIMIT 1
"""  # served by the primary key
ADD_AUDIT: Final = """
    INSERT INTO audit (tenant, number, at, actor, verb, subject, reason, hash)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


def save_wake(transaction: Transaction, wake: Wake) -> None:
    """Write it anew: a claim that is under way no longer decides over it."""
    transaction.write(
        SAVE_WAKE, (wake.enrollment_key, micros(wake.due_at), wake.attempt, wake.failures)
    )


def drop_wake(transaction: Transaction, key: EnrollmentKey) -> None:
    transaction.write(DROP_WAKE, (key,))


def save_alert(transaction: Transaction, alert: Alert, at: datetime) -> None:
    """Raise it, or count it once more."""
    transaction.write(
        SAVE_ALERT, (alert.tenant, alert.subject, alert.kind, alert.sentence, micros(at))
    )


def add_audit(transaction: Transaction, entry: AuditEntry, at: datetime) -> None:
    """Append to the tenant's chain; commits keep the order in which this is called."""
    last = transaction.read(LAST_AUDIT, (entry.tenant,)).fetchone()
    number, previous = (0, FIRST_HASH) if last is None else last
    transaction.write(
        ADD_AUDIT,
        (
            entry.tenant,
            number + 1,
            micros(at),
            entry.actor,
            entry.verb,
            entry.subject,
            entry.reason,
            next_hash(previous, entry, number + 1, at),
        ),
    )
