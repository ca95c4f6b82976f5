"""What happened on a simulated device, told to whoever listens: a table, a test, a log.

An event never carries a token, a magic, a key or a password.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of one device."""

    at: datetime
    serial: str
    """The device's serial number, also where the protocol hides it from the server."""
    channel: str
    """`device`, or the short name of the user whose channel it was."""
    what: str
    """A fact in snake_case, for instance `token_update_accepted`."""
    detail: str = ""
    """For people: a request type, an HTTP status, a size. No secret."""


Listener = Callable[[Event], None]
