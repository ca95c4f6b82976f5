"""What a tester may pull on the simulated push service.

Source: check-in-and-commands.md 5.5.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from http import HTTPStatus

from ostiary_sim.apns.requests import Verdict


class Break(Enum):
    """Ways to end a connection instead of answering."""

    GOAWAY = "goaway"
    RESET = "reset"


@dataclass(slots=True, kw_only=True)
class ApnsLevers:
    """Faults to come. Nothing set: everything well-formed is accepted."""

    silent: bool = False
    """Accept, and deliver nothing."""
    strict_tokens: bool = False
    """Refuse tokens nobody ever listened on (BadDeviceToken) instead of keeping the push for later."""
    holding: bool = False
    """Take requests in and answer none, until `SimulatedApns.release` or `leave_amid`."""
    push_type_required: bool = True
    goaway_reason: str = "Shutdown"
    _next: deque[Verdict] = field(default_factory=deque)
    _next_for: dict[bytes, deque[Verdict]] = field(default_factory=lambda: defaultdict(deque))
    _breaks: deque[Break] = field(default_factory=deque)
    _dead: dict[bytes, Verdict] = field(default_factory=dict)
    _distrusted: set[int] = field(default_factory=set)

    def fail_next(
        self,
        status: int,
        reason: str,
        *,
        count: int = 1,
        token: bytes | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        """Answer the next `count` requests (to `token`, or at all) with this error."""
        verdict = Verdict(status=status, reason=reason, timestamp=timestamp)
        self.script([verdict] * count, token=token)

    def script(self, verdicts: list[Verdict], *, token: bytes | None = None) -> None:
        """Answer the next requests (to `token`, or at all) with these verdicts, in order."""
        (self._next if token is None else self._next_for[token]).extend(verdicts)

    def throttle(self, *, count: int = 1, token: bytes | None = None) -> None:
        """429 TooManyRequests for the next `count` requests."""
        self.fail_next(HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequests", count=count, token=token)

    def kill(self, token: bytes, at: datetime, reason: str = "Unregistered") -> None:
        """410 for this token from now on, dead since `at`."""
        self._dead[token] = Verdict(status=HTTPStatus.GONE, reason=reason, timestamp=at)

    def revive(self, token: bytes) -> None:
        """Undo `kill`."""
        self._dead.pop(token, None)

    def break_next(self, how: Break, *, count: int = 1) -> None:
        """End the connection instead of answering, `count` times."""
        self._breaks.extend([how] * count)

    def distrust(self, certificate_serial: int) -> None:
        """403 BadCertificate for whoever shows the certificate with this serial number."""
        self._distrusted.add(certificate_serial)

    def heal(self) -> None:
        """Forget every fault that was ordered."""
        self._next.clear()
        self._next_for.clear()
        self._breaks.clear()
        self._dead.clear()
        self._distrusted.clear()
        self.silent = False
        self.holding = False

    def next_break(self) -> Break | None:
        """Take the next ordered end of a connection."""
        return self._breaks.popleft() if self._breaks else None

    def next_fault(self, token: bytes | None, certificate_serial: int) -> Verdict | None:
        """Take the fault that meets this request, if any."""
        if certificate_serial in self._distrusted:
            return Verdict(status=HTTPStatus.FORBIDDEN, reason="BadCertificate")
        if token is not None and self._next_for.get(token):
            return self._next_for[token].popleft()
        if self._next:
            return self._next.popleft()
        return None if token is None else self._dead.get(token)
