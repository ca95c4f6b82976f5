"""The scale run and the soak stay alive: a handful of devices go through what a hundred thousand go through."""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.fleet import Fleet
from bench.scale.busy import not_now_for
from bench.scale.enroll import enroll
from bench.scale.forgetting import retention
from bench.scale.house import apple, serving
from bench.scale.opening import staged
from bench.scale.stage import run_folder
from bench.scale.steady import Steady
from bench.scale.talk import Tally

DEVICES = 6
HOURS, FACTOR = 0.5, 900


async def test_a_small_fleet_plays_every_act(tmp_path: Path) -> None:
    """Each act checks every answer; what is left to see here is that everybody was there."""
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        fleet = Fleet(pool)
        async with staged("sqlite", run_folder(tmp_path / "run"), fleet) as stage:
            async with (
                apple(stage.house, stage.hear),
                serving(stage.house) as running,
                stage.serving(running),
            ):
                enrolled = await enroll(stage, DEVICES)
            busy, hours, unlocked = [one async for one in not_now_for(stage, HOURS, FACTOR)]
            forgotten = await retention(stage)
            async with serving(stage.house) as running, stage.serving(running):
                stage.tally = Tally()
                await Steady(stage, per_second=20).run(1)
    assert enrolled.requests == DEVICES * 5 + DEVICES // 2 * 2, (
        "a Mac brings a token and tells its accounts"
    )
    assert stage.tally.kinds["Idle"]
    assert not stage.tally.refusals
    assert busy.requests >= 2 * DEVICES
    assert busy.pushes >= DEVICES
    assert hours.act == "NotNow, 0.5 hours"
    assert unlocked.requests >= 2 * DEVICES
    assert "ended_commands" in forgotten.notes[0]
    assert forgotten.database_mib > 0
