"""How a push reaches a device: the seam between devices and whoever plays Apple's push service."""

from collections.abc import Awaitable, Callable
from typing import Protocol

Deliver = Callable[[str, str], Awaitable[None]]
"""Takes topic and push magic of one notification."""


class PushService(Protocol):
    """Where a device announces the push tokens it listens on."""

    async def connect(self, token: bytes, topic: str, deliver: Deliver) -> None:
        """Deliver what is sent to `token` from now on, and the last notification that was kept."""

    async def disconnect(self, token: bytes) -> None:
        """Stop delivering to `token`."""
