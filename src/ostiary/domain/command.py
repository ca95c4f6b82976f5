"""A command in the queue, its life, and the words for its priority."""

from datetime import datetime
from enum import IntEnum, StrEnum

from ostiary.domain.token import RecordId, SealedValue, TokenKind
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A hole in a queued command, filled at hand-out with the value of a token. (escrowed-secrets.md 4.0.2 rule 6)

    *Pinned* names one generation: a command that goes out twice says the same twice. *Latest*, without a record, is
    whatever is current at hand-out; a hole that is `optional` stays away where nothing is.
    """

    key: str
    """Where in the command, keys separated by a slash: `NewPassword`, `ReturnToService/BootstrapToken`."""
    kind: TokenKind
    record_id: RecordId | None = None
    optional: bool = False

    @property
    def is_minted(self) -> bool:
        """Whether what goes there is made at hand-out, each time anew: an enrollment profile. (4.7 rule 7)"""
        return self.kind is TokenKind.ENROLLMENT_CHALLENGE


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCommand:
    """A command that is not closed.

    `payload` is the sealed Command dict as an XML property list, or empty for the standard form of its request type,
    which is rendered at hand-out (`domain.first_commands.STANDARD_PAYLOAD` says whose). `sequence` is storage's arrival
    number (0 before it is appended).
    """

    uuid: CommandUuid
    enrollment_key: str
    request_type: str
    priority: Priority
    payload: SealedValue
    references: tuple[Reference, ...]
    state: CommandState
    queued_at: datetime
    source: str
    """Who asked: `operator`, `enrollment`, the name of an API token."""
    sequence: int = 0
    sent_at: datetime | None = None
    hand_outs: int = 0
    """How often it went out. Again after NotNow is the same time, so all but the last were never answered."""


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
