"""Retention: four months later, what is old goes, while devices go on polling."""

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.scale.house import House, serving
from bench.scale.stage import ActFigures, ActMeter, Stage
from bench.scale.talk import Visit
from bench.scale.woken import idle_of
from bench.wire import body_size, render_request

SKIPPED_DAYS = 120
"""The policy `keep_ended_commands` is 90 days; time ran fast in the acts before."""
DAY_SECONDS = 86_400
POLLS_PER_SECOND = 50
_ROUND_SECONDS = 10
_FORGOT = b'"event": "retention_dropped"'
_END_OF_HEAD = b"\r\n\r\n"


class RetentionRefused(Exception):
    """The server did not forget; its answer follows."""


async def retention(stage: Stage) -> ActFigures:
    """Skip four months, and ask for one round after the other until nothing old is left."""
    async with serving(stage.house, moved=True) as running, stage.serving(running):
        meter = ActMeter(stage, "retention")
        said_before = stage.house.log.stat().st_size
        await running.skip(SKIPPED_DAYS * DAY_SECONDS)
        async with asyncio.TaskGroup() as group:
            polling = group.create_task(_poll(stage))
            answer = await _control(stage.house, "POST", "/retention", {"anew": True})
            while not answer["is_done"]:
                answer = await _control(stage.house, "POST", "/retention", {})
            polling.cancel()
        dropped = await _told(stage.house.log, said_before)
        said = ", ".join(f"{number:,} {name}" for name, number in sorted(dropped.items()))
        return await meter.figures(
            len(stage.members),
            f"gone: {said or 'nothing'}",
            f"latency is that of {POLLS_PER_SECOND} polls a second meanwhile",
        )


async def _told(log: Path, after: int) -> Counter[str]:
    """What was forgotten. The server's own round may have come before ours, and tells of it when it is through."""
    dropped = _dropped(log, after)
    with suppress(TimeoutError):
        async with asyncio.timeout(_ROUND_SECONDS):
            while not dropped:
                await asyncio.sleep(0.1)
                dropped = _dropped(log, after)
    return dropped


def _dropped(log: Path, after: int) -> Counter[str]:
    """What the log tells since then."""
    dropped: Counter[str] = Counter()
    with log.open("rb") as lines:
        lines.seek(after)
        for line in lines:
            if _FORGOT in line:
                told = json.loads(line)
                dropped.update({name: n for name, n in told.items() if isinstance(n, int)})
    return dropped


async def _poll(stage: Stage) -> None:
    async def come() -> None:
        visit = Visit(stage.port, stage.tally)
        await visit.say(idle_of(random.choice(stage.members)))  # noqa: S311 - anybody will do
        visit.end()

    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(come())
            await asyncio.sleep(1 / POLLS_PER_SECOND)


async def _control(house: House, method: str, path: str, said: dict[str, Any]) -> dict[str, Any]:
    """What the server answers on its control socket, as to a command of `ostiary`."""
    reader, writer = await asyncio.open_unix_connection(house.data / "control.sock")
    try:
        writer.write(render_request(method, path, json.dumps(said).encode(), {}))
        head = await reader.readuntil(_END_OF_HEAD)
        body = await reader.readexactly(body_size(head))
    finally:
        writer.close()
    if head[9:12] != b"200":
        raise RetentionRefused(f"{head[:40]!r} {body[:300]!r}")
    answer: dict[str, Any] = json.loads(body)
    return answer
