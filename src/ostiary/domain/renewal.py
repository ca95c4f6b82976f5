"""The renewal of one relationship's identity: what is remembered, what storage shows, and what a look comes to."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ostiary.domain.command import CommandState
from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Binding, Enrollment, EnrollmentKey
from ostiary.domain.token import Fingerprint, TenantId
from ostiary.protocol.mdm.connect import CommandUuid


class RenewalPhase(StrEnum):
    """Where one relationship stands with the renewal of its identity."""

    SCHEDULED = "scheduled"
    ASKED = "asked"
    FAILED = "failed"
    """Tried again later."""
    UNANSWERED = "unanswered"
    """The device never came for it; asked again once it is heard of."""
    COMPLETED = "completed"
    UNABLE = "unable"
    """The profile on the device is not ours to replace."""

    @property
    def wants_turn(self) -> bool:
        """Whether it is to be asked once its moment has come; the others are only looked at."""
        return self in (self.SCHEDULED, self.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What is remembered of one relationship; `version` counts writes, so that nobody overtakes another."""

    enrollment_key: EnrollmentKey
    tenant: TenantId
    phase: RenewalPhase
    fingerprint: Fingerprint
    """The certificate that is to be replaced: once it is bound no more, another has taken its place."""
    look_at: datetime
    """When to look again, or to ask."""
    attempts: int = 0
    """That failed, in a row."""
    asked_at: datetime | None = None
    command_uuid: CommandUuid | None = None
    is_canary: bool = False
    finished_at: datetime | None = None
    outcome: str = ""
    """What the last attempt came to, for people."""
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSight:
    """What became of the InstallProfile so far."""

    state: CommandState
    hand_outs: int
    closed_at: datetime | None = None
    result: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What storage shows of one relationship, all of one moment."""

    enrollment: Enrollment
    bindings: tuple[Binding, ...]
    """In force, the one that ends first in front."""
    renewal: Renewal | None = None
    command: CommandSight | None = None
    """The one that `renewal` names; None: there is none, or no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be remembered now, and what to do."""

    after: Renewal | None
    """None: forget it, there is nothing to renew."""
    is_due: bool = False
    """Ask the device now, if canaries and the day's wave allow it."""
    cancel: CommandUuid | None = None
    """A command that waited for too long."""
    alerts: tuple[Alert, ...] = ()


def in_order(bindings: Iterable[Binding]) -> tuple[Binding, ...]:
    """As a Sight has them: the one that ends first in front."""
    return tuple(sorted(bindings, key=lambda one: (one.not_after, one.fingerprint)))
