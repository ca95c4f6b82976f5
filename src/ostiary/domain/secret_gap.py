"""A gap: a secret that a device should have here and that is not held, or is in doubt; and what is not known yet."""

from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from ostiary.domain.severity import Severity
from ostiary.domain.token import TokenKind
from ostiary.values import dataclass


class GapState(StrEnum):
    """What is wrong with a secret, for people."""

    MISSING = "missing"
    """The device has such a secret, or should, and no value of it is held that could be in force."""
    IN_DOUBT = "in doubt"
    """A value is held, and nobody can say that it is the one in force."""
    TROUBLE = "trouble"
    """The value in force is known; the last change of it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One secret of one device that somebody should look at."""

    kind: TokenKind
    state: GapState
    severity: Severity
    why: str
    """The fact that tells, in the field's words."""
    since: datetime | None
    """None: nobody knows."""
    told_at: datetime | None
    """When the device last reported that fact; None where it is not the device's word."""
    todo: str
    """One thing to do; the exact command where there is one."""


_WITHOUT_ANOTHER_WAY: Final = frozenset(
    {TokenKind.FILEVAULT_KEY, TokenKind.RECOVERY_LOCK, TokenKind.FIRMWARE_PASSWORD}
)
"""What is lost for good where nobody knows them: the disk, recoveryOS, the start from another disk. (4.0.1)"""


def severity_of(kind: TokenKind) -> Severity:
    """How bad it is that no value of this kind is held which works."""
    return Severity.CRITICAL if kind in _WITHOUT_ANOTHER_WAY else Severity.WARNING


class Report(StrEnum):
    """What a device would have to answer before anything can be said of a secret; the words are `ostiary enqueue`'s."""

    SECURITY_INFO = "security-info"
    DEVICE_INFORMATION = "device-information"
    NOT_ALLOWED = "not-allowed"
    """SecurityInfo, which the profile on the device does not let us ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTold:
    """Whether the device should have this secret is not known, which is not the same as a gap."""

    kind: TokenKind
    report: Report


Finding: TypeAlias = Gap | NotTold
