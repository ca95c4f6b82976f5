"""What became of an erase: neither Acknowledged nor Error says it, only what the device does afterwards.

Source: escrowed-secrets.md 4.7, consequences 1 and 2; cases ER-01, ER-02.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from ostiary.domain.enrollment import Enrollment
from ostiary.values import dataclass

ERASED_WITHIN: Final = timedelta(minutes=2)
"""What a device says in these minutes after its answer may be on the way already; erased, it says nothing."""


class Erasure(StrEnum):
    """Where an erase stands, in words."""

    QUEUED = "not sent yet"
    MAYBE = "may have been erased"
    NOT_ERASED = "not erased: it went on polling with the old identity"
    ENROLLED_ANEW = "enrolled anew since"


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseCommand:
    """The latest EraseDevice of a device, as far as it matters here."""

    queued_at: datetime
    sent_at: datetime | None
    """Not kept of a command that has ended."""
    closed_at: datetime | None
    hand_outs: int


def erasure_of(device: Enrollment, erase: EraseCommand | None) -> Erasure | None:
    """What is to be believed of a device's data; None if no erase was ever handed out, and none waits."""
    if erase is None:
        return None
    if erase.hand_outs == 0:
        return Erasure.QUEUED if erase.closed_at is None else None
    if device.enrolled_at is not None and device.enrolled_at > erase.queued_at:
        return Erasure.ENROLLED_ANEW
    last_word = erase.closed_at or erase.sent_at or erase.queued_at
    seen = device.last_seen_at
    if seen is not None and seen > last_word + ERASED_WITHIN:
        return Erasure.NOT_ERASED
    return Erasure.MAYBE
