"""The loop that renews identities: on one node at a time, a look a minute."""

import asyncio
from datetime import timedelta
from typing import Final, Protocol

import structlog

from ostiary.errors import OstiaryError

EVERY: Final = timedelta(minutes=1)
_LONGEST_BACK_OFF: Final = timedelta(minutes=10)

log = structlog.get_logger()


class Renews(Protocol):
    """What the loop needs of `services.identity_renewal.IdentityRenewalService`."""

    async def take_turn(self) -> bool: ...

    async def run_round(self) -> object: ...


async def run_renewal_loop(service: Renews, stop: asyncio.Event, every: timedelta = EVERY) -> None:
    """Look and ask until `stop` is set; the first time after a while, for nothing of it is in a hurry.

    A round that is cut off is harmless: a device is noted as asked before it is, and the next look finds out.
    """
    async with asyncio.TaskGroup() as group:
        renewing = group.create_task(_renew(service, every))
        await stop.wait()
        renewing.cancel()


async def _renew(service: Renews, every: timedelta) -> None:
    wait = every
    while True:
        await asyncio.sleep(wait.total_seconds())
        try:
            if await service.take_turn():
                await service.run_round()
        except Exception as trouble:  # noqa: BLE001 - the loop outlives whatever its parts do
            name = trouble.code if isinstance(trouble, OstiaryError) else type(trouble).__name__
            wait = min(wait * 2, _LONGEST_BACK_OFF)
            log.error("renewal_loop_failed", error=name, wait=wait.total_seconds())
        else:
            wait = every
