"""A Pusher that sends nothing: it remembers what it was given and answers as APNs would, by script."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from ostiary.ports.push import PushOutcome, PushVerdict
from ostiary.protocol.apns.outcome import judge
from ostiary.protocol.apns.request import (
    PushRequest,
    PushTooLarge,
    PushUnwritable,
    render_push,
)
from ostiary.protocol.mdm.checkin import PushAddress

Reply = tuple[int, bytes]
"""APNs' status and body."""


def accepted(_request: PushRequest) -> Reply:
    return 200, b""


@dataclass(slots=True)
class RecordingPusher:
    """Implements `ports.push.Pusher`; `reply` may be changed at any time, or raise ConnectionError."""

    reply: Callable[[PushRequest], Reply] = accepted
    pushed: list[PushAddress] = field(default_factory=list)
    requests: list[PushRequest] = field(default_factory=list)
    shown: str | None = None
    """The record of the certificate that it shows APNs."""

    async def push(self, address: PushAddress, *, expires_at: datetime) -> PushOutcome:
        apns_id = UUID(int=len(self.pushed) + 1)
        try:
            request = render_push(address, expires_at=expires_at, apns_id=apns_id)
        except (PushTooLarge, PushUnwritable) as refused:
            return _unsent(PushVerdict.OUR_BUG, refused.code.replace("_", "-"))
        self.pushed.append(address)
        self.requests.append(request)
        try:
            status, body = self.reply(request)
        except ConnectionError:
            return _unsent(PushVerdict.RETRY, "connection-lost")
        outcome = judge(status, {"apns-id": str(apns_id)}, body)
        is_refused = outcome.verdict is PushVerdict.TOPIC_PAUSED
        return replace(outcome, shown=self.shown) if is_refused else outcome


def _unsent(verdict: PushVerdict, reason: str) -> PushOutcome:
    return PushOutcome(verdict=verdict, apns_id=None, status=None, reason=reason)
