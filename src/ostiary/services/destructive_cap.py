"""The cap on destructive commands, counted in the audit, which every node of an installation shares."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ostiary.domain.destructive_cap import CAP_WINDOW, COUNTED_VERBS, require_within_cap
from ostiary.domain.policy import Policy
from ostiary.domain.token import TenantId
from ostiary.ports.audit import AuditCounts
from ostiary.ports.clock import Clock


class DestructiveCap:
    """Says whether a request may be queued, as a whole, before any of its targets is."""

    def __init__(self, audit: AuditCounts, policy: Callable[[], Policy], clock: Clock) -> None:
        self._audit = audit
        self._policy = policy
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def room_for(
        self, tenant: TenantId, wanted: int, confirmed: int | None
    ) -> AsyncIterator[None]:
        """Queue inside: two requests of one process are counted one after the other, those of two nodes may overlap.

        `wanted` is how many devices the request is for; zero for one that is not destructive, which always has room.

        Raises:
            TooManyDestructive, AnotherNumberConfirmed
        """
        if not wanted:
            yield
            return
        async with self._one_at_a_time:
            await self.require(tenant, wanted, confirmed)
            yield

    async def require(self, tenant: TenantId, wanted: int, confirmed: int | None) -> None:
        """The same question without queueing: for a dry run.

        Raises:
            TooManyDestructive, AnotherNumberConfirmed
        """
        if not wanted:
            return
        most = self._policy().most_destructive_an_hour
        already = await self._audit.count_audited(
            tenant, COUNTED_VERBS, since=self._clock.now() - CAP_WINDOW
        )
        require_within_cap(wanted=wanted, already=already, most=most, confirmed=confirmed)
