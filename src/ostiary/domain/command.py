"""A command in the queue, its life, and the words for its priority."""

from datetime import datetime
from enum import IntEnum, StrEnum

from ostiary.domain.token import SealedValue
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.values import dataclass


class CommandState(StrEnum):
    """Live: queued, sent, deferred. Closed: done, failed, cancelled. (check-in-and-commands.md 3.4)"""

    QUEUED = "queued"
    SENT = "sent"
    DEFERRED = "deferred"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Priority(IntEnum):
    """Who goes first; smaller is sooner. Ties go by the time of enqueueing."""

    URGENT = 0
    """ClearPasscode, DeviceLock, EraseDevice. (3.4 rule 9)"""
    NORMAL = 10
    RELEASE = 90
    """DeviceConfigured, UserConfigured: only once nothing else is left to send."""


class TokenReference(StrEnum):
    """A hole in a queued command, filled at hand-out with the latest value of a token. (escrowed-secrets.md 4.0.2)"""

    LATEST_UNLOCK = "latest-unlock"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCommand:
    """A command that is not closed.

    `payload` is the sealed Command dict as an XML property list, or empty for the standard form of its
    request type, which is rendered at hand-out. `sequence` is storage's arrival number (0 before it is appended).
    """

    uuid: CommandUuid
    enrollment_key: str
    request_type: str
    priority: Priority
    payload: SealedValue
    reference: TokenReference | None
    state: CommandState
    queued_at: datetime
    source: str
    """Who asked: `operator`, `enrollment`, the name of an API token."""
    sequence: int = 0
    sent_at: datetime | None = None
    hand_outs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedCommand:
    """A command that ended. `result` is a redacted, human-readable JSON text; never the body."""

    uuid: CommandUuid
    enrollment_key: str
    request_type: str
    state: CommandState
    queued_at: datetime
    closed_at: datetime
    source: str
    result: str
    hand_outs: int
