"""Storage as the renewal of identities sees it: which certificates end, whom to look at, and what is remembered.

Every engine implements these and passes tests/conformance/test_storage_renewals.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Binding, EnrollmentKey
from ostiary.domain.renewal import Renewal, Sight
from ostiary.domain.renewal_wave import Tally
from ostiary.domain.token import Fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class EndingPlace:
    """Where a walk over certificates in force goes on, in the order in which they end."""

    not_after: datetime
    fingerprint: Fingerprint


class EndingIdentities(Protocol):
    """Certificates in force, by their end, and what hangs on them."""

    async def list_ending(
        self, after: EndingPlace | None, until: datetime, *, limit: int
    ) -> tuple[Binding, ...]:
        """The next ones that end by then, the first to end in front."""

    async def look(self, keys: Sequence[EnrollmentKey]) -> tuple[Sight, ...]:
        """What is to be seen of these relationships, each once; those that do not exist are left out."""


class Renewals(EndingIdentities, Protocol):
    """All that the renewal of identities asks of storage."""

    async def list_unscheduled(
        self, after: EndingPlace | None, until: datetime, *, limit: int
    ) -> tuple[Binding, ...]:
        """As `list_ending`, without those of relationships that something is remembered of."""

    async def list_looks(self, now: datetime, *, limit: int) -> tuple[EnrollmentKey, ...]:
        """Those that are to be looked at now and do not want a turn, the longest due first."""

    async def list_due(self, now: datetime, *, limit: int) -> tuple[EnrollmentKey, ...]:
        """Those that want a turn and whose moment has come, the longest due first."""

    async def list_canaries(self, *, limit: int) -> tuple[Renewal, ...]: ...

    async def tally(self, now: datetime) -> Tally: ...

    async def schedule(self, renewals: Sequence[Renewal]) -> None:
        """Remember those of which nothing is known yet; whose relationship is gone is left out."""

    async def move(
        self,
        before: Renewal | None,
        after: Renewal | None,
        at: datetime,
        alerts: Sequence[Alert] = (),
    ) -> bool:
        """Replace what is remembered, and raise the alerts with it; False, and neither, if it is not `before` any more.

        None before: nothing is known. None after: forget it.
        """
