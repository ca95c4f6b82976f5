"""After an outage: everybody is pushed, everybody comes, everybody answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from bench import messages
from bench.scale.house import apple, serving
from bench.scale.stage import ActFigures, ActMeter, Stage
from bench.scale.woken import enqueue_for_all, new_uuid, sign_answers, waking


async def storm(stage: Stage, away_seconds: float) -> AsyncIterator[ActFigures]:
    """Apple is away, a command is queued for everybody, the server is away too; then all comes back at once."""
    meter = ActMeter(stage, "outage")
    uuid = new_uuid()
    answers = sign_answers(stage, uuid, messages.acknowledged)
    async with serving(stage.house) as running, stage.serving(running):
        failed = await enqueue_for_all(stage, uuid)
        yield await meter.figures(
            len(stage.members),
            f"{failed:,} pushes failed at once: nobody listens at Apple's address",
        )
        await asyncio.sleep(away_seconds)
    meter = ActMeter(stage, "storm")
    async with (
        serving(stage.house) as running,
        stage.serving(running),
        apple(stage.house, stage.hear),
    ):
        began = time.monotonic()
        async with waking(stage, uuid, answers) as woken:
            pass
        times = [at - began for at in woken.answered_at]
        yield await meter.figures(
            len(stage.members),
            f"acknowledged by half after {_part(times, 50):.0f} s, by 99 % after {_part(times, 99):.0f} s, "
            f"by all after {times[-1]:.0f} s",
            f"most devices in contact at once: {woken.most_at_once:,}",
        )


def _part(times: Sequence[float], percent: int) -> float:
    return times[(len(times) - 1) * percent // 100]
