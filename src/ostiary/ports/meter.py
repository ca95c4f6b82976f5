"""Counting what happens, for /metrics; services say it in one call and know no metrics library."""

from typing import Protocol, final


class Meter(Protocol):
    """Takes note of finished work. Never raises, never waits; words are from closed lists, not from devices."""

    def checkin(self, message: str, result: str, seconds: float) -> None:
        """One check-in message or command report was answered.

        `message` is a MessageType or `Connect`; `result` is `ok` or the code of the error.
        """

    def command_closed(self, request_type: str, state: str) -> None:
        """A command ended: `state` is `done`, `failed` or `cancelled`."""

    def push(self, verdict: str, reason: str | None) -> None:
        """APNs answered a push; `verdict` is a `PushVerdict`, `reason` Apple's word or ours."""

    def dropped(self, records: str, number: int) -> None:
        """Retention removed so many records of one kind."""


@final
class NoMeter:
    """Counts nothing: for tests and for commands that work without a server."""

    def checkin(self, message: str, result: str, seconds: float) -> None:
        """Forget it."""

    def command_closed(self, request_type: str, state: str) -> None:
        """Forget it."""

    def push(self, verdict: str, reason: str | None) -> None:
        """Forget it."""

    def dropped(self, records: str, number: int) -> None:
        """Forget it."""
