"""Eight hours in which everybody is busy, compressed by the server's clock; then everybody unlocks."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from bench import messages
from bench.scale.crowd import not_now
from bench.scale.house import apple, serving
from bench.scale.stage import ActFigures, ActMeter, Stage
from bench.scale.woken import Woken, enqueue_for_all, new_uuid, sign_answers, waking
from bench.wire import Exchange

HOUR_SECONDS = 3600
UNLOCKS_PER_BREATH, BREATH_SECONDS = 10, 0.02


async def not_now_for(stage: Stage, hours: float, factor: float) -> AsyncIterator[ActFigures]:
    """A command for everybody and NotNow from everybody at each wake; the server's time runs `factor` times as fast."""
    uuid, count = new_uuid(), len(stage.members)
    busy = sign_answers(stage, uuid, not_now)
    answers = sign_answers(stage, uuid, messages.acknowledged)
    async with (
        apple(stage.house, stage.hear),
        serving(stage.house, moved=True) as running,
        stage.serving(running),
    ):
        meter = ActMeter(stage, "NotNow, the first time")
        async with waking(stage, uuid, busy):
            failed = await enqueue_for_all(stage, uuid)
        yield await meter.figures(count, f"{failed:,} pushes failed")
        meter = ActMeter(stage, f"NotNow, {hours:g} hours")
        pushes = stage.pushes
        async with asyncio.TaskGroup() as group:
            woken = Woken(stage, uuid, busy, group, comes_again=True)
            stage.on_push = woken.wake
            await running.run_at(factor)
            await asyncio.sleep(hours * HOUR_SECONDS / factor)
            await running.run_at(1)
            stage.on_push = None
        each = (stage.pushes - pushes) / count
        yield await meter.figures(
            count,
            f"the clock ran {factor:g} times as fast; {each:.1f} pushes a device, "
            f"{len(woken.answered_at) / count:.1f} times NotNow",
            f"most devices in contact at once: {woken.most_at_once:,}",
        )
        meter = ActMeter(stage, "everybody unlocks")
        await _unlock(stage, uuid, answers)
        yield await meter.figures(count)


async def _unlock(stage: Stage, uuid: str, answers: Sequence[Exchange]) -> None:
    """All come by themselves, spread over a while."""
    async with waking(stage, uuid, answers) as woken:
        for member in stage.members:
            woken.wake(member.number)
            await asyncio.sleep(0 if member.number % UNLOCKS_PER_BREATH else BREATH_SECONDS)
