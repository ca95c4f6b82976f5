"""The audit's hash chain: who changes, drops or inserts an entry breaks every hash after it."""

import hashlib
import json
from datetime import datetime

from ostiary.domain.decision import AuditEntry

FIRST_HASH = bytes(32)
"""What stands before a tenant's first entry."""


def canonical_text(entry: AuditEntry, number: int, at: datetime) -> str:
    """One JSON array a entry: tenant, number, moment, actor, verb, subject, reason; no spaces, UTF-8 as it is."""
    facts = [
        entry.tenant,
        number,
        at.isoformat(timespec="microseconds"),
        entry.actor,
        entry.verb,
        entry.subject,
        entry.reason,
    ]
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))


def next_hash(previous: bytes, entry: AuditEntry, number: int, at: datetime) -> bytes:
    """SHA-256 over the hash before it and this entry's canonical text."""
    return hashlib.sha256(previous + canonical_text(entry, number, at).encode()).digest()
