"""When a channel is to be woken: one row per channel while it has work, moved by what happens on the channel."""

from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.decision import Wake
from ostiary.domain.enrollment import EnrollmentKey

DEBOUNCE: Final = timedelta(seconds=1)
"""Commands enqueued within it share a push. (check-in-and-commands.md 5.2)"""
FIRST_WAKE: Final = timedelta(seconds=2)
"""In the first moments after a TokenUpdate the device may not be known to APNs yet. (TU-19)"""
RENEWAL_QUIET: Final = timedelta(minutes=10)
"""A renewing device is about to say how to reach it; pushes wait, but not for ever: a failed renewal keeps the old address."""
IN_SESSION: Final = timedelta(minutes=1)
"""A device that was handed a command answers at once; if it does not, the connection was lost."""
SLACK: Final = timedelta(seconds=30)
"""A wake this far ahead need not be moved again for each step of a session."""
AFTER_NOT_NOW: Final = timedelta(hours=1)
"""A device whose last word was NotNow polls by itself; this is for the one that forgets. (3.4 rule 5)"""
LEFT_DEFERRED: Final = timedelta(minutes=5)
"""A session that ended on another word leaves deferred commands that the device will not ask for. (3.4 rule 5, CQ-06)"""


def debounced(key: EnrollmentKey, now: datetime, pending: Wake | None) -> Wake:
    """The wake for a command that was just enqueued; a push already due sooner carries it too.

    While APNs is throttling this token or away, its back-off stands: one more command is no reason to knock. (5.5)
    """
    due = now + DEBOUNCE
    if pending is not None and pending.failures > 0:
        return pending
    if pending is not None and pending.attempt == 0 and pending.due_at <= due:
        return pending
    return Wake(enrollment_key=key, due_at=due)


def first_wake(now: datetime) -> datetime:
    """When to push a channel that has just said how to reach it."""
    return now + FIRST_WAKE


def in_session(key: EnrollmentKey, now: datetime, pending: Wake | None) -> Wake | None:
    """The wake to store while a device works through its queue; None if the stored one will do."""
    if pending is not None and pending.attempt == 0 and pending.due_at >= now + SLACK:
        return None
    return Wake(enrollment_key=key, due_at=now + IN_SESSION)


def after_session(key: EnrollmentKey, now: datetime, *, ended_on_not_now: bool) -> Wake:
    """The wake for a session that ended with deferred commands left."""
    return Wake(
        enrollment_key=key, due_at=now + (AFTER_NOT_NOW if ended_on_not_now else LEFT_DEFERRED)
    )
