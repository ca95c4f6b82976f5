"""The loop that wakes devices: takes the channels that are due, pushes them, stores what followed."""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import Final, Protocol

import structlog

from ostiary.domain.push_schedule import WEEKLY, is_repeat
from ostiary.errors import OstiaryError
from ostiary.ports.clock import Clock
from ostiary.ports.storage import DueWake, Wakes, WakeStep
from ostiary.worker.push_pace import PushPace, RepeatPace

__all__ = ["PushPace", "RepeatPace", "push_due", "run_push_loop", "wake_silent_devices"]

_SHORTEST_WAIT: Final = 0.02
_LONGEST_BACK_OFF: Final = timedelta(seconds=60)
_LOOK_FOR_SILENT_EVERY: Final = timedelta(hours=1)
_MOST_SILENT: Final = 1000
"""Woken with one look; whoever is left is woken with the next."""

log = structlog.get_logger()


class PushesOne(Protocol):
    """What the loop needs of `services.push.PushService`."""

    async def push(self, due: DueWake) -> WakeStep: ...


async def run_push_loop(
    wakes: Wakes,
    service: PushesOne,
    clock: Clock,
    stop: asyncio.Event,
    pace: PushPace | None = None,
    repeats: RepeatPace | None = None,
) -> None:
    """Push what is due until `stop` is set; returns soon after, with what was answered stored.

    Whatever goes wrong is logged and waited out: a channel that was taken and not settled is due again
    after its lease, and one push too many does no harm. (check-in-and-commands.md 5.2)
    """
    loop = _PushLoop(wakes, service, clock, stop, pace or PushPace(), repeats or RepeatPace())
    await loop.run()


async def push_due(
    wakes: Wakes,
    service: PushesOne,
    clock: Clock,
    stop: asyncio.Event,
    pace: PushPace,
    repeats: RepeatPace | None = None,
) -> int:
    """Push one batch of what is due now and settle it; how many channels were taken.

    Pushes that may wait for their turn are put off first; then nobody's settling waits for theirs.
    """
    due = await wakes.claim(clock.now(), limit=pace.batch, lease=pace.lease)
    if due:
        await _push_batch(wakes, service, clock, stop, pace, repeats or RepeatPace(), due)
    return len(due)


async def wake_silent_devices(wakes: Wakes, clock: Clock) -> int:
    """Push whoever was neither heard of nor pushed for a week; how many that are. (5.2)"""
    now = clock.now()
    return await wakes.wake_silent(now, silent_since=now - WEEKLY, limit=_MOST_SILENT)


class _PushLoop:
    """One run of the loop: a few batches under way, each claimed, pushed and settled by itself."""

    def __init__(
        self,
        wakes: Wakes,
        service: PushesOne,
        clock: Clock,
        stop: asyncio.Event,
        pace: PushPace,
        repeats: RepeatPace,
    ) -> None:
        self._wakes = wakes
        self._service = service
        self._clock = clock
        self._stop = stop
        self._pace = pace
        self._repeats = repeats
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(self._look_for_silent())
            back_off = self._pace.first_back_off
            while not self._stop.is_set():
                try:
                    await self._turn(group)
                except Exception as trouble:  # noqa: BLE001 - the loop outlives whatever its parts do
                    await self._wait_out(trouble, back_off)
                    back_off = min(back_off * 2, _LONGEST_BACK_OFF)
                else:
                    back_off = self._pace.first_back_off
            looking.cancel()

    async def _turn(self, group: asyncio.TaskGroup) -> None:
        """Begin one batch if something is due; return once the next is worth beginning."""
        pace = self._pace
        due = await self._wakes.claim(self._clock.now(), limit=pace.batch, lease=pace.lease)
        if due:
            batch = group.create_task(self._batch(due))
            self._under_way.add(batch)
            batch.add_done_callback(self._under_way.discard)
            await asyncio.wait([batch], timeout=pace.slow_after.total_seconds())
            if len(self._under_way) >= pace.batches:
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        if len(due) < pace.batch:
            await _wait_for_work(self._wakes, self._clock, self._stop, pace)

    async def _batch(self, due: Sequence[DueWake]) -> None:
        try:
            await _push_batch(
                self._wakes,
                self._service,
                self._clock,
                self._stop,
                self._pace,
                self._repeats,
                due,
            )
        except Exception as trouble:  # noqa: BLE001 - what was taken and not settled comes again after its lease
            await self._wait_out(trouble, self._pace.first_back_off)

    async def _wait_out(self, trouble: Exception, back_off: timedelta) -> None:
        log.error("push_loop_failed", error=_name(trouble), wait=back_off.total_seconds())
        await _first_of(self._stop.wait(), asyncio.sleep(back_off.total_seconds()))

    async def _look_for_silent(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_FOR_SILENT_EVERY.total_seconds())
            try:
                woken = await wake_silent_devices(self._wakes, self._clock)
            except Exception as trouble:  # noqa: BLE001 - the next look may do better
                log.error("silent_devices_not_woken", error=_name(trouble))
            else:
                if woken:
                    log.info("silent_devices_woken", devices=woken)


async def _push_batch(
    wakes: Wakes,
    service: PushesOne,
    clock: Clock,
    stop: asyncio.Event,
    pace: PushPace,
    repeats: RepeatPace,
    due: Sequence[DueWake],
) -> None:
    """Push what may go now and settle it; whoever has to wait for a turn is told when."""
    now_due, later = _sorted_out(due, repeats, clock)
    if later:
        await wakes.settle(later)
        log.info("push_repeats_put_off", channels=len(later), until=str(later[-1].next_due_at))
    steps: list[WakeStep] = []
    try:
        await _push_all(now_due, service, steps, stop, pace.drain)
    finally:
        if steps:
            await wakes.settle(steps)


def _sorted_out(
    due: Sequence[DueWake], repeats: RepeatPace, clock: Clock
) -> tuple[list[DueWake], list[WakeStep]]:
    now = clock.now()
    now_due: list[DueWake] = []
    later: list[WakeStep] = []
    for one in due:
        may_wait = is_repeat(
            attempt=one.attempt,
            failures=one.failures,
            has_new_work=one.has_new_work,
            due_at=one.due_at,
            now=now,
        )
        turn = repeats.put_off(now) if may_wait else None
        if turn is None:
            now_due.append(one)
            continue
        step = WakeStep(
            enrollment_key=one.enrollment.key,
            record_id=one.push_record.id,
            at=now,
            attempt=one.attempt,
            failures=one.failures,
            accepted=False,
            next_due_at=turn,
        )
        later.append(step)
    return now_due, later


async def _push_all(
    due: Sequence[DueWake],
    service: PushesOne,
    steps: list[WakeStep],
    stop: asyncio.Event,
    drain: timedelta,
) -> None:
    """Push all of `due` together, adding a step for each that was answered; hurry once `stop` is set."""
    if not due:
        return
    loop = asyncio.get_running_loop()
    under_way = len(due)

    async def push_one(wake: DueWake, hurrying: asyncio.Task[None]) -> None:
        nonlocal under_way
        try:
            steps.append(await service.push(wake))
        except Exception as trouble:  # noqa: BLE001 - one channel's trouble is not the others'
            log.error("push_failed", enrollment_id=wake.enrollment.id, error=_name(trouble))
        under_way -= 1
        if not under_way:
            hurrying.cancel()

    async def hurry(deadline: asyncio.Timeout) -> None:
        await stop.wait()
        deadline.reschedule(loop.time() + drain.total_seconds())

    try:
        async with asyncio.timeout(None) as deadline, asyncio.TaskGroup() as group:
            hurrying = group.create_task(hurry(deadline))
            for wake in due:
                group.create_task(push_one(wake, hurrying))
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
