"""What time it is, for a simulated world that was given no clock of its own. Whoever starts a world may call."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """The machine's present moment, aware UTC."""
    return datetime.now(UTC)  # noqa: TID251 (the one place that reads the real clock)
