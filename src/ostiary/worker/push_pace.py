"""How many channels are pushed at once, how long anything may take, and how fast pushes are repeated."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

REPEATS_PER_SECOND: Final = 100
"""Ten thousand devices in a hundred seconds; each that answers asks for three or four things."""

_SAVED_UP: Final = timedelta(seconds=1)
"""Repeats that nobody wanted for so long may be made at once."""
_FURTHEST: Final = timedelta(hours=1)
"""However many wait: they may then share their turns, and be put off once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPace:
    """What the push loop takes upon itself."""

    batch: int = 250
    batches: int = 4
    """Under way together: a push that APNs leaves unanswered holds up its own batch and no other."""
    slow_after: timedelta = timedelta(milliseconds=250)
    """A batch that takes longer is left to itself, and the next one begun."""
    lease: timedelta = timedelta(minutes=2)
    """After which a channel whose pusher died is due again; longer than a push and its repetition may take."""
    gather: timedelta = timedelta(milliseconds=100)
    """Between two looks at what is due, unless a batch was full: many small enqueues make few claims."""
    longest_wait: timedelta = timedelta(seconds=30)
    first_back_off: timedelta = timedelta(seconds=1)
    """After storage failed; doubled each time, up to a minute."""
    drain: timedelta = timedelta(seconds=3)
    """How long pushes under way may go on once the loop is to stop."""


class RepeatPace:
    """Gives turns to pushes that may wait, so many a second; what comes too soon is told when to come again.

    Turns are given out one after the other, so a hundred thousand channels that fall due in one second are
    spread over as many turns as they need, each put off once, and none of them stands before a first push.
    Nothing of it is stored: a process that starts anew spreads anew. (check-in-and-commands.md 5.2)
    """

    def __init__(self, per_second: int = REPEATS_PER_SECOND) -> None:
        self._each = timedelta(seconds=1) / per_second
        self._paid_until: datetime | None = None
        self._turns_end_at: datetime | None = None

    def put_off(self, now: datetime) -> datetime | None:
        """None: repeat this push now. Else the moment at which it has its turn."""
        since = now - _SAVED_UP
        paid_until = self._paid_until
        if paid_until is None or not since <= paid_until <= now + _SAVED_UP:
            paid_until = since  # long idle, or the clock was set
        if paid_until < now:
            self._paid_until = paid_until + self._each
            return None
        turn = self._turns_end_at
        if turn is None or not now < turn < now + _FURTHEST:
            turn = now
        self._turns_end_at = turn + self._each
        return self._turns_end_at
