"""Counting pushes: a pusher around the pusher, so that nobody else needs to remember to."""

from datetime import datetime

from ostiary.ports.meter import Meter
from ostiary.ports.push import Pusher, PushOutcome
from ostiary.protocol.mdm.checkin import PushAddress


class CountedPusher:
    """Implements ports.push.Pusher: tells the meter what APNs said to each push."""

    def __init__(self, inner: Pusher, meter: Meter) -> None:
        self._inner = inner
        self._meter = meter

    async def push(self, address: PushAddress, *, expires_at: datetime) -> PushOutcome:
        """Push, and count it."""
        outcome = await self._inner.push(address, expires_at=expires_at)
        self._meter.push(outcome.verdict.value, outcome.reason)
        return outcome
