"""A bound on failed attempts: guessing is pointless by the length of our secrets, and this keeps it cheap for us."""

from datetime import datetime

from ostiary.errors import Unavailable


class TooManyFailures(Unavailable):
    """Too many attempts failed in a short time; wait a little."""

    hint = "Devices repeat by themselves. If this goes on, look in the log for who keeps failing."


class FailureAllowance:
    """A bucket of failures for this process: emptied by failures only, filled again by time."""

    def __init__(self, *, at_once: int = 120, per_second: float = 4.0) -> None:
        self._capacity = float(at_once)
        self._per_second = per_second
        self._left = self._capacity
        self._at: datetime | None = None

    def count_failure(self, now: datetime) -> None:
        """One attempt failed: it may be told so, in full. Attempts that succeed are never held up.

        Raises:
            TooManyFailures: too many failed lately, so this one gets no answer of its own.
        """
        if self._at is not None:
            passed = max(0.0, (now - self._at).total_seconds())
            self._left = min(self._capacity, self._left + passed * self._per_second)
        self._at = now
        if self._left < 1:
            raise TooManyFailures
        self._left -= 1
