"""The time, as something one is given."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the moment, aware and in UTC."""

    def now(self) -> datetime: ...
