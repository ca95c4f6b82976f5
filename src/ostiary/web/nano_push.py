"""Pushes that the NanoMDM API sends at once, coalesced: twenty commands for one device are one push."""

import asyncio
from collections.abc import Iterable
from typing import Final

from ostiary.domain.token import TenantId
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.push import PushResult, PushService

DEBOUNCE_SECONDS: Final = 2.0

_Key = tuple[TenantId, EnrollmentId]


class CoalescedPushes:
    """Shares one push among all who ask for it within a moment.

    NanoMDM answers an enqueue with APNs' id, so the push cannot be left to the push loop alone; but
    each push of its own for each command of a batch would be twenty. (check-in-and-commands.md 5.2, AP-11)
    """

    def __init__(self, pushes: PushService, debounce_seconds: float = DEBOUNCE_SECONDS) -> None:
        self._pushes = pushes
        self._debounce_seconds = debounce_seconds
        self._under_way: dict[_Key, asyncio.Future[PushResult]] = {}

    async def push(
        self, tenant: TenantId, ids: Iterable[EnrollmentId]
    ) -> dict[EnrollmentId, PushResult]:
        """The result for each id; of a push of this call, or of one that just went before."""
        loop = asyncio.get_running_loop()
        wanted = tuple(dict.fromkeys(ids))
        fresh = [one for one in wanted if (tenant, one) not in self._under_way]
        for one in fresh:
            self._under_way[tenant, one] = loop.create_future()
        shared = {one: self._under_way[tenant, one] for one in wanted}
        if fresh:
            await self._send(tenant, fresh)
        return {one: await self._result(tenant, one, future) for one, future in shared.items()}

    async def _result(
        self, tenant: TenantId, one: EnrollmentId, future: asyncio.Future[PushResult]
    ) -> PushResult:
        await asyncio.wait((future,))
        if not future.cancelled():
            return future.result()
        # Whoever was to send it was interrupted; that is no answer for us.
        (result,) = await self._pushes.push_now(tenant, [one])
        return result

    async def _send(self, tenant: TenantId, ids: list[EnrollmentId]) -> None:
        loop = asyncio.get_running_loop()
        futures = {one: self._under_way[tenant, one] for one in ids}
        try:
            for result in await self._pushes.push_now(tenant, ids):
                futures[result.enrollment_id].set_result(result)
        finally:
            for one, future in futures.items():
                if future.done() and future.result().error is None:
                    loop.call_later(
                        self._debounce_seconds, self._under_way.pop, (tenant, one), None
                    )
                else:  # what failed may be tried again at once
                    del self._under_way[tenant, one]
                    future.cancel()
