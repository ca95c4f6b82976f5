"""A dry run of one target: the same rule on the same state, and nothing stored."""

from collections.abc import Callable
from datetime import datetime

from ostiary.domain.decision import Change, Snapshot
from ostiary.domain.enrollment import Enrollment
from ostiary.errors import OstiaryError
from ostiary.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """Who a target is, None if nobody, and what stands against the command; None if nothing does."""

    channel: Enrollment | None
    device: Enrollment | None
    refused: OstiaryError | None


def rehearsed(
    rule: Callable[[Snapshot], Change[object]], now: datetime
) -> Callable[[Snapshot], Change[Rehearsed]]:
    """The rule with its answer told instead of done."""

    def told(seen: Snapshot) -> Change[Rehearsed]:
        refused: OstiaryError | None = None
        try:
            rule(seen)
        except OstiaryError as error:
            refused = error
        answer = Rehearsed(channel=seen.channel, device=seen.device, refused=refused)
        return Change(at=now, answer=answer)

    return told
