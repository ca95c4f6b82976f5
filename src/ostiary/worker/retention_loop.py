"""The loop that forgets: on one node at a time, a little every few seconds."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import structlog

from ostiary.errors import OstiaryError

_LONGEST_BACK_OFF: Final = timedelta(minutes=5)

log = structlog.get_logger()


class DoneOrNot(Protocol):
    """What a round came to."""

    @property
    def is_done(self) -> bool: ...


class Forgets(Protocol):
    """What the loop needs of `services.retention.RetentionService`."""

    async def take_turn(self) -> bool: ...

    async def tend(self) -> DoneOrNot: ...

    async def sweep(self) -> DoneOrNot: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRhythm:
    """How often the loop looks."""

    tend_every: timedelta = timedelta(seconds=10)
    sweep_each: int = 30
    """Times that it tends between two sweeps, unless the last sweep left something."""


async def run_retention_loop(
    service: Forgets, stop: asyncio.Event, rhythm: RetentionRhythm | None = None
) -> None:
    """Forget what may be forgotten until `stop` is set; a round under way is cut off between two of its steps.

    Nothing is lost by that: each step is a transaction of its own, and the next round finds the rest.
    """
    rhythm = rhythm or RetentionRhythm()
    async with asyncio.TaskGroup() as group:
        forgetting = group.create_task(_forget(service, rhythm))
        await stop.wait()
        forgetting.cancel()


async def _forget(service: Forgets, rhythm: RetentionRhythm) -> None:
    until_sweep = 0
    back_off = rhythm.tend_every
    while True:
        try:
            if await service.take_turn():
                await service.tend()
                until_sweep -= 1
                if until_sweep < 0:
                    until_sweep = rhythm.sweep_each if (await service.sweep()).is_done else 0
        except Exception as trouble:  # noqa: BLE001 - the loop outlives whatever its parts do
            name = trouble.code if isinstance(trouble, OstiaryError) else type(trouble).__name__
            log.error("retention_loop_failed", error=name, wait=back_off.total_seconds())
            back_off = min(back_off * 2, _LONGEST_BACK_OFF)
        else:
            back_off = rhythm.tend_every
        await asyncio.sleep(back_off.total_seconds())
