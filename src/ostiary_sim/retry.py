"""How often a device tries again before it waits for the next occasion."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Some attempts with growing pauses. No document gives the real schedule (check-in-and-commands.md 9, 12)."""

    attempts: int = 4
    first_pause_seconds: float = 1.0
    factor: float = 4.0

    def delays(self) -> Iterator[float]:
        """The pause before each attempt; none before the first."""
        pause = 0.0
        for attempt in range(self.attempts):
            yield pause
            pause = self.first_pause_seconds * self.factor**attempt
