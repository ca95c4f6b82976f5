"""The loop that seals old values anew after a rotation: on one node at a time, a little at a time."""

import asyncio
from datetime import timedelta
from typing import Final, Protocol

import structlog

from ostiary.errors import OstiaryError

EVERY: Final = timedelta(seconds=10)
_AT_WORK: Final = timedelta(seconds=1)
_LONGEST_BACK_OFF: Final = timedelta(minutes=5)

log = structlog.get_logger()


class Reseals(Protocol):
    """What the loop needs of `services.resealing.ResealingService`."""

    async def take_turn(self) -> bool: ...

    async def run_round(self) -> bool: ...


async def run_resealing_loop(
    service: Reseals, stop: asyncio.Event, every: timedelta = EVERY
) -> None:
    """Look for something to do until `stop` is set, and sooner again while there is something.

    A round that is cut off is harmless: what is sealed anew stays so, and the next walk goes on from there.
    """
    async with asyncio.TaskGroup() as group:
        resealing = group.create_task(_reseal(service, every))
        await stop.wait()
        resealing.cancel()


async def _reseal(service: Reseals, every: timedelta) -> None:
    wait = every
    while True:
        await asyncio.sleep(wait.total_seconds())
        try:
            is_done = not await service.take_turn() or await service.run_round()
        except Exception as trouble:  # noqa: BLE001 - the loop outlives whatever its parts do
            name = trouble.code if isinstance(trouble, OstiaryError) else type(trouble).__name__
            wait = min(max(wait, every) * 2, _LONGEST_BACK_OFF)
            log.error("resealing_loop_failed", error=name, wait=wait.total_seconds())
        else:
            wait = every if is_done else min(every, _AT_WORK)
