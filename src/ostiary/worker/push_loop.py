"""The loop that wakes devices: takes the channels that are due, pushes them, stores what followed."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import structlog

from ostiary.errors import OstiaryError
from ostiary.ports.clock import Clock
from ostiary.ports.storage import DueWake, Wakes, WakeStep

_SHORTEST_WAIT: Final = 0.02
_LONGEST_BACK_OFF: Final = timedelta(seconds=60)

log = structlog.get_logger()


class PushesOne(Protocol):
    """What the loop needs of `services.push.PushService`."""

    async def push(self, due: DueWake) -> WakeStep: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPace:
    """How many channels are taken at once, and how long anything may take."""

    batch: int = 500
    lease: timedelta = timedelta(minutes=2)
    """After which a channel whose pusher died is due again; longer than a push and its repetition may take."""
    gather: timedelta = timedelta(milliseconds=100)
    """Between two looks at what is due, unless a batch was full: many small enqueues make few claims."""
    longest_wait: timedelta = timedelta(seconds=30)
    first_back_off: timedelta = timedelta(seconds=1)
    """After storage failed; doubled each time, up to a minute."""
    drain: timedelta = timedelta(seconds=3)
    """How long pushes under way may go on once the loop is to stop."""


async def run_push_loop(
    wakes: Wakes,
    service: PushesOne,
    clock: Clock,
    stop: asyncio.Event,
    pace: PushPace | None = None,
) -> None:
    """Push what is due until `stop` is set; returns soon after, with what was answered stored.

    Whatever goes wrong is logged and waited out: a channel that was taken and not settled is due again
    after its lease, and one push too many does no harm. (check-in-and-commands.md 5.2)
    """
    pace = pace or PushPace()
    back_off = pace.first_back_off
    while not stop.is_set():
        try:
            taken = await push_due(wakes, service, clock, stop, pace)
            if taken < pace.batch:
                await _wait_for_work(wakes, clock, stop, pace)
        except Exception as trouble:  # noqa: BLE001 - the loop outlives whatever its parts do
            log.error("push_loop_failed", error=_name(trouble), wait=back_off.total_seconds())
            await _first_of(stop.wait(), asyncio.sleep(back_off.total_seconds()))
            back_off = min(back_off * 2, _LONGEST_BACK_OFF)
        else:
            back_off = pace.first_back_off


async def push_due(
    wakes: Wakes, service: PushesOne, clock: Clock, stop: asyncio.Event, pace: PushPace
) -> int:
    """Push one batch of what is due now and settle it; how many channels were taken."""
    due = await wakes.claim(clock.now(), limit=pace.batch, lease=pace.lease)
    if not due:
        return 0
    steps: list[WakeStep] = []
    try:
        await _push_all(due, service, steps, stop, pace.drain)
    finally:
        if steps:
            await wakes.settle(steps)
    return len(due)


async def _push_all(
    due: Sequence[DueWake],
    service: PushesOne,
    steps: list[WakeStep],
    stop: asyncio.Event,
    drain: timedelta,
) -> None:
    """Push all of `due` together, adding a step for each that was answered; hurry once `stop` is set."""
    loop = asyncio.get_running_loop()

    async def push_one(wake: DueWake) -> None:
        try:
            steps.append(await service.push(wake))
        except Exception as trouble:  # noqa: BLE001 - one channel's trouble is not the others'
            log.error("push_failed", enrollment_id=wake.enrollment.id, error=_name(trouble))

    async def hurry(deadline: asyncio.Timeout) -> None:
        await stop.wait()
        deadline.reschedule(loop.time() + drain.total_seconds())

    try:
        async with asyncio.timeout(None) as deadline, asyncio.TaskGroup() as group:
            hurrying = group.create_task(hurry(deadline))
            await asyncio.wait([group.create_task(push_one(wake)) for wake in due])
            hurrying.cancel()
    except TimeoutError:
        log.warning("push_batch_cut_short", unanswered=len(due) - len(steps))


async def _wait_for_work(wakes: Wakes, clock: Clock, stop: asyncio.Event, pace: PushPace) -> None:
    """Return when a channel falls due, a wake is written, or the loop is to stop."""
    longest = pace.longest_wait.total_seconds()
    next_due_at = await wakes.next_due_at()
    seconds = longest
    if next_due_at is not None:
        until_due = (next_due_at - clock.now()).total_seconds()
        seconds = min(max(until_due, _SHORTEST_WAIT), longest)
    await _first_of(stop.wait(), wakes.wait(seconds))
    await _first_of(stop.wait(), asyncio.sleep(pace.gather.total_seconds()))


async def _first_of(*waits: Coroutine[object, object, object]) -> None:
    """Return when the first of them does; the others are cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(wait) for wait in waits]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


def _name(trouble: Exception) -> str:
    """What happened, without the message of a foreign exception: that could hold a token."""
    if isinstance(trouble, ExceptionGroup):
        return ", ".join(_name(one) for one in trouble.exceptions)
    return trouble.code if isinstance(trouble, OstiaryError) else type(trouble).__name__
