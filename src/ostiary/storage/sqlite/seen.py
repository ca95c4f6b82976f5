"""When each channel last made contact, kept in memory for a moment: an Idle alone is not worth an fsync.

A device that works through its queue makes contact with each answer; its row is written once, not each time.
"""

from datetime import datetime
from itertools import islice
from typing import Final

from ostiary.domain.enrollment import EnrollmentKey
from ostiary.storage.sqlite.engine import Transaction
from ostiary.storage.sqlite.rows import micros

SAVE_LAST_SEEN: Final = """
    UPDATE enrollment SET last_seen_at = ?1
     WHERE key = ?2 AND (last_seen_at IS NULL OR last_seen_at < ?1)
"""


class SeenBuffer:
    """The latest contact of each channel that the database does not know yet; a crash may forget it."""

    def __init__(self) -> None:
        self._seen_by_key: dict[EnrollmentKey, datetime] = {}

    def __len__(self) -> int:
        return len(self._seen_by_key)

    def add(self, key: EnrollmentKey, at: datetime) -> None:
        known = self._seen_by_key.get(key)
        if known is None or known < at:
            self._seen_by_key[key] = at

    def last(self, key: EnrollmentKey) -> datetime | None:
        """The latest contact of a channel, if the database does not know it yet."""
        return self._seen_by_key.get(key)

    def write(self, transaction: Transaction, at_most: int) -> None:
        """Write those that have waited longest."""
        for key in list(islice(self._seen_by_key, at_most)):
            transaction.write(SAVE_LAST_SEEN, (micros(self._seen_by_key.pop(key)), key))
