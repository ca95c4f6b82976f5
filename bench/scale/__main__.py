"""A fleet against one server: enroll, an outage and its storm, eight hours of NotNow, retention.

python -m bench.scale [--devices 100000] [--engine sqlite|postgres] [--acts enroll,storm,notnow,retention] [--dir DIR] [--write]
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import uvloop

from bench.fleet import Fleet
from bench.scale.busy import not_now_for
from bench.scale.enroll import enroll
from bench.scale.forgetting import retention
from bench.scale.house import apple, serving
from bench.scale.opening import staged
from bench.scale.report import render, write_page
from bench.scale.stage import ActFigures, run_folder
from bench.scale.storm import storm
from bench.scale.watch import Sample

ACTS = ("enroll", "storm", "notnow", "retention")


def main() -> int:
    """The exit code."""
    options = _options()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = run_folder(Path(tempfile.mkdtemp(prefix="ostiary-scale-", dir=options.dir)))
    _say(f"the run's folder is {folder}")
    try:
        figures, samples = _play(options, folder)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    text = render(options.engine, figures, samples)
    print(text)
    if options.write:
        write_page(options.engine, text)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--engine", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument(
        "--acts", type=_acts, default=ACTS, help=f"of {','.join(ACTS)}; the first is always played"
    )
    parser.add_argument(
        "--away", type=float, default=60, help="seconds of outage once all is queued"
    )
    parser.add_argument("--hours", type=float, default=8, help="how long everybody says NotNow")
    parser.add_argument(
        "--factor", type=float, default=12, help="how fast the server's clock runs then"
    )
    parser.add_argument("--dir", type=Path, help="where the run's folder is made")
    parser.add_argument("--csv", type=Path, help="where to copy the samples of every second")
    parser.add_argument(
        "--keep", action="store_true", help="keep the folder: database, log, samples"
    )
    parser.add_argument("--write", action="store_true", help="put the figures into docs/scale.md")
    return parser.parse_args()


def _acts(text: str) -> tuple[str, ...]:
    named = tuple(text.split(","))
    if unknown := set(named) - set(ACTS):
        raise argparse.ArgumentTypeError(f"there is no act {', '.join(sorted(unknown))}")
    return named


def _play(options: argparse.Namespace, folder: Path) -> tuple[list[ActFigures], list[Sample]]:
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        fleet = Fleet(pool)
        fleet.sign([])  # the workers start now, before this process holds a fleet
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            played = runner.run(_play_all(options, folder, fleet))
    if options.csv is not None:
        shutil.copy(folder / "samples.csv", options.csv)
    return played


async def _play_all(
    options: argparse.Namespace, folder: Path, fleet: Fleet
) -> tuple[list[ActFigures], list[Sample]]:
    figures: list[ActFigures] = []
    async with staged(options.engine, folder, fleet) as stage:
        async with (
            apple(stage.house, stage.hear),
            serving(stage.house) as running,
            stage.serving(running),
        ):
            figures.append(_told(await enroll(stage, options.devices)))
        if "storm" in options.acts:
            figures += [_told(one) async for one in storm(stage, options.away)]
        if "notnow" in options.acts:
            figures += [
                _told(one) async for one in not_now_for(stage, options.hours, options.factor)
            ]
        if "retention" in options.acts:
            figures.append(_told(await retention(stage)))
    return figures, stage.watch.samples


def _told(figures: ActFigures) -> ActFigures:
    """The same; a long run that is interrupted has said what it found."""
    _say(json.dumps(asdict(figures)))
    return figures


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
