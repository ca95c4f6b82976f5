"""When each channel last made contact, kept in memory for a moment: an Idle alone is not worth a commit."""

from dataclasses import replace
from datetime import datetime
from typing import Final

from ostiary.domain.enrollment import Enrollment, EnrollmentKey
from ostiary.storage.postgres.session import Session

SAVE_LAST_SEEN: Final = """
    WITH seen AS (
        SELECT e.key, s.at
          FROM unnest($1::text[], $2::timestamptz[]) s (key, at) JOIN enrollment e ON e.key = s.key
           FOR NO KEY UPDATE OF e SKIP LOCKED
    )
    UPDATE enrollment e SET last_seen_at = greatest(e.last_seen_at, seen.at)
      FROM seen WHERE e.key = seen.key
    RETURNING e.key
"""
"""Rows that a decision holds just now are passed over: they come again, and nobody waits for anybody."""


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

    def overlay(self, row: Enrollment) -> Enrollment:
        """The row as it will be once the buffer is written."""
        at = self._seen_by_key.get(row.key)
        if at is None or (row.last_seen_at is not None and row.last_seen_at >= at):
            return row
        return replace(row, last_seen_at=at)

    async def write(self, session: Session) -> None:
        """Write all of it; what could not be written now stays for the next time."""
        seen = dict(self._seen_by_key)
        if not seen:
            return
        keys = sorted(seen)
        saved = await session.rows(SAVE_LAST_SEEN, keys, [seen[key] for key in keys])
        for (key,) in saved:
            if self._seen_by_key.get(key) == seen[key]:
                del self._seen_by_key[key]
