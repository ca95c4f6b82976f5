"""The loop that looks after escrowed secrets: what is due is taken by one node at a time."""

import asyncio
from datetime import timedelta
from typing import Final, Protocol

import structlog

from ostiary.errors import OstiaryError

LOOK_EVERY: Final = timedelta(seconds=5)
_LONGEST_BACK_OFF: Final = timedelta(minutes=5)

log = structlog.get_logger()


class Tends(Protocol):
    """What the loop needs of `services.escrow_due.EscrowWatch`."""

    async def tend(self) -> int: ...


async def run_escrow_loop(
    service: Tends, stop: asyncio.Event, every: timedelta = LOOK_EVERY
) -> None:
    """Tend what is due until `stop` is set; a round that is cut off leaves the rest due."""
    async with asyncio.TaskGroup() as group:
        tending = group.create_task(_tend(service, every))
        await stop.wait()
        tending.cancel()


async def _tend(service: Tends, every: timedelta) -> None:
    back_off = every
    while True:
        found = 0
        try:
            found = await service.tend()
        except Exception as trouble:  # noqa: BLE001 - the loop outlives whatever its parts do
            name = trouble.code if isinstance(trouble, OstiaryError) else type(trouble).__name__
            log.error("escrow_loop_failed", error=name, wait=back_off.total_seconds())
            back_off = min(back_off * 2, _LONGEST_BACK_OFF)
        else:
            back_off = every
        # More may be due than one round takes.
        await asyncio.sleep(0 if found and back_off == every else back_off.total_seconds())
