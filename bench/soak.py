"""An hour of steady load against one server: does memory grow, do files stay open, does it get slower?

python -m bench.soak [--minutes 60] [--engine sqlite|postgres] [--devices 4000] [--rate 30] [--dir DIR] [--csv FILE]

The exit code is 1 if something grew beyond its bound after the warm-up (the first quarter): resident memory, open
files, threads, the write-ahead log, or the time that a device waits.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import uvloop

from bench.fleet import Fleet
from bench.scale.enroll import enroll
from bench.scale.house import apple, serving
from bench.scale.opening import staged
from bench.scale.stage import run_folder
from bench.scale.steady import Steady
from bench.scale.talk import Tally
from bench.scale.watch import Sample

WINDOWS = 12
SHORTEST_BARE_MS = 0.5
WARM_UP = WINDOWS // 4
"""Windows in which caches fill and pools open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How much a figure may grow from the first half of the measured time to its second half."""

    name: str
    unit: str
    of: Callable[[Sequence[Sample]], float]
    share: float
    slack: float

    def judge(self, windows: Sequence[Sequence[Sample]]) -> "Verdict":
        """What it was, what it became, and whether that is too much."""
        values = [self.of(window) for window in windows if window]
        half = len(values) // 2
        before, after = median(values[:half]), median(values[half:])
        return Verdict(
            bound=self, before=before, after=after, holds=after <= before * self.share + self.slack
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One figure, before and after."""

    bound: Bound
    before: float
    after: float
    holds: bool


def _middle(name: str) -> Callable[[Sequence[Sample]], float]:
    return lambda window: median(float(getattr(sample, name)) for sample in window)


def _cpu_ms(window: Sequence[Sample]) -> float:
    """Server and database, per request."""
    first, last = window[0], window[-1]
    used = last.cpu_seconds + last.database_cpu_seconds
    used -= first.cpu_seconds + first.database_cpu_seconds
    return used * 1000 / max(1, last.requests - first.requests)


def _in_bare_answers(name: str) -> Callable[[Sequence[Sample]], float]:
    def of(window: Sequence[Sample]) -> float:
        bare = median(sample.bare_ms for sample in window)
        return _middle(name)(window) / max(bare, SHORTEST_BARE_MS)

    return of


BOUNDS = (
    Bound(name="resident memory", unit="MiB", of=_middle("resident_mib"), share=1.03, slack=1),
    Bound(name="open files", unit="", of=_middle("open_files"), share=1.0, slack=16),
    Bound(name="threads", unit="", of=_middle("threads"), share=1.0, slack=2),
    Bound(name="CPU of a request", unit="ms", of=_cpu_ms, share=1.25, slack=0.05),
    Bound(
        name="p50 of a request", unit="x bare", of=_in_bare_answers("p50_ms"), share=2.0, slack=1
    ),
    Bound(
        name="p99 of a request", unit="x bare", of=_in_bare_answers("p99_ms"), share=3.0, slack=5
    ),
)
"""Waiting times are told in bare answers (`/healthz` in the same second): whatever else runs on the machine slows both."""
WAL_BOUND = Bound(name="write-ahead log", unit="MiB", of=_middle("wal_mib"), share=1.5, slack=8)
"""SQLite's file; PostgreSQL's only counts what was ever written."""


def main() -> int:
    """0 if nothing grew beyond its bound, else 1."""
    options = _options()
    folder = run_folder(Path(tempfile.mkdtemp(prefix="ostiary-soak-", dir=options.dir)))
    try:
        with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
            fleet = Fleet(pool)
            fleet.sign([])
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                verdicts, words = runner.run(_soak(options, folder, fleet))
        if options.csv is not None:
            shutil.copy(folder / "samples.csv", options.csv)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(render(verdicts))
    print(words)
    return 0 if all(one.holds for one in verdicts) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--engine", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--devices", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=30, help="devices that come each second")
    parser.add_argument("--dir", type=Path, help="where the run's folder is made")
    parser.add_argument("--csv", type=Path, help="where to copy the samples of every second")
    return parser.parse_args()


async def _soak(
    options: argparse.Namespace, folder: Path, fleet: Fleet
) -> tuple[list[Verdict], str]:
    async with (
        staged(options.engine, folder, fleet) as stage,
        apple(stage.house, stage.hear),
        serving(stage.house) as running,
        stage.serving(running),
    ):
        await enroll(stage, options.devices)
        stage.watch.act, stage.tally = "soak", Tally()
        steady = Steady(stage, options.rate)
        await steady.run(options.minutes * 60)
        words = (
            f"{len(stage.tally.seconds):,} requests in {options.minutes:g} minutes with {options.devices:,} devices on "
            f"{options.engine}; {sum(stage.tally.refusals.values()):,} refused at first, {steady.left_out:,} visits left out; "
            f"database {stage.watch.samples[-1].database_mib:,.0f} MiB at the end."
        )
        samples = [sample for sample in stage.watch.samples if sample.act == "soak"]
    bounds = (*BOUNDS, WAL_BOUND) if options.engine == "sqlite" else BOUNDS
    windows = split(samples)[WARM_UP:]
    return [bound.judge(windows) for bound in bounds], words


def split(samples: Sequence[Sample]) -> list[Sequence[Sample]]:
    """The samples in WINDOWS parts of equal length."""
    edges = [len(samples) * at // WINDOWS for at in range(WINDOWS + 1)]
    return [samples[start:end] for start, end in pairwise(edges)]


def render(verdicts: Sequence[Verdict]) -> str:
    """A line for each figure."""
    lines = ["| figure | before | after | bound | |", "|---|--:|--:|--:|--:|"]
    for one in verdicts:
        bound, unit = one.bound, f" {one.bound.unit}" if one.bound.unit else ""
        lines.append(
            f"| {bound.name} | {one.before:,.1f}{unit} | {one.after:,.1f}{unit}"
            f" | {one.before * bound.share + bound.slack:,.1f}{unit} | {'holds' if one.holds else '**grew**'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
