"""Whether a large database slows anybody down: the same devices, among many others and with a long history."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

from bench import growth_postgres, growth_sqlite, scenarios, tables
from bench.contestants import Contestant
from bench.figures import BAR_CONNECTIONS, Figures
from bench.house import Installation
from bench.postgres import PostgresServer
from bench.scenarios import Size, Stage

LAPS: Final = 9
_PART: Final = 4
"""A lap does a quarter of what is measured otherwise: many short laps are fairer than few long ones."""
BAR: Final = 0.10
"""The most that processor time may grow by. Source: docs/design.md 8."""
_GROWN: Final = ", grown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How large the large database is."""

    others: int
    """Other enrollments."""
    answered: int
    """Answered commands of each device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One scenario, to the small and to the large database."""

    contestant: str
    scenario: str
    alone_ms: float
    grown_ms: float
    growth: float
    """The median of what the large database adds in one lap: 0.1 is a tenth more."""
    alone_p99_ms: float
    grown_p99_ms: float
    has_bar: bool

    @property
    def holds(self) -> bool | None:
        """Whether it is within the bar; None if there is none for it."""
        return self.growth <= BAR if self.has_bar else None


async def grow(
    installation: Installation, server: PostgresServer | None, folder: Path, extent: Extent
) -> tuple[Installation, str]:
    """A large copy of an installation that nobody serves, and what it took; PostgreSQL's lies on the same server."""
    began = time.monotonic()
    if server is None:
        grown = growth_sqlite.grow(installation, folder, extent.others, extent.answered)
        mebibytes = growth_sqlite.mebibytes(grown)
    else:
        grown = await growth_postgres.grow(
            installation, server, folder, extent.others, extent.answered
        )
        mebibytes = await growth_postgres.mebibytes(grown)
    took = time.monotonic() - began
    return grown, f"{installation.name}: {mebibytes:,.0f} MiB, written in {took:.0f} s."


async def measure(
    pairs: Sequence[tuple[Installation, Installation]], stage: Stage, size: Size
) -> list[Growth]:
    """The same requests to small and large databases, all served at once, in turns.

    Only the fleet and the devices of the stage are used.
    """
    with ExitStack() as stack:
        contestants: list[Contestant] = []
        for alone, grown in pairs:
            contestants.append(stack.enter_context(alone.serving()))
            large = stack.enter_context(grown.serving())
            contestants.append(replace(large, name=large.name + _GROWN))
        stage = replace(stage, contestants=contestants, figures=[])
        # So that certificates are known, and statements prepared.
        await scenarios.idle(stage, {BAR_CONNECTIONS: 2 * len(stage.devices)})
        stage.figures.clear()
        for _ in range(LAPS):
            await _lap(stage, size)
            stage.rotate()  # a lap has as many measurements as make a full turn: else the same would begin again
    return compare(stage.figures)


async def _lap(stage: Stage, size: Size) -> None:
    writes = {BAR_CONNECTIONS: size.writes[BAR_CONNECTIONS] // _PART}
    await scenarios.idle(stage, {BAR_CONNECTIONS: size.idle[BAR_CONNECTIONS] // _PART})
    await scenarios.token_update(stage, writes)
    await scenarios.bootstrap(stage, writes)
    await scenarios.command(stage, writes)
    newcomers = {BAR_CONNECTIONS: size.enrolling[BAR_CONNECTIONS] // _PART}
    await scenarios.enroll(replace(stage, devices=[]), newcomers)


def compare(figures: Sequence[Figures]) -> list[Growth]:
    """One line for each scenario of each engine; both lists of laps are in order."""
    laps: dict[tuple[str, str], list[Figures]] = {}
    for one in figures:
        laps.setdefault((one.contestant, one.scenario), []).append(one)
    found = [
        _compared(alone, laps[name + _GROWN, scenario])
        for (name, scenario), alone in laps.items()
        if not name.endswith(_GROWN)
    ]
    return sorted(found, key=lambda one: one.contestant, reverse=True)  # SQLite, then PostgreSQL


def _compared(alone: Sequence[Figures], grown: Sequence[Figures]) -> Growth:
    pairs = [
        (before.cpu_ms or 0, after.cpu_ms or 0) for before, after in zip(alone, grown, strict=True)
    ]
    return Growth(
        contestant=alone[0].contestant,
        scenario=alone[0].scenario,
        alone_ms=median(before for before, _ in pairs),
        grown_ms=median(after for _, after in pairs),
        growth=median(after / before - 1 for before, after in pairs),
        alone_p99_ms=median(one.p99_ms for one in alone),
        grown_p99_ms=median(one.p99_ms for one in grown),
        has_bar=alone[0].bar_ms is not None,
    )


def render(found: Sequence[Growth], extent: Extent, took: Sequence[str]) -> str:
    """What was done, and a table of all."""
    said = (
        f"{extent.others:,} other enrollments, {extent.answered:,} answered commands of each device; "
        f"{BAR_CONNECTIONS} connections, medians of {LAPS} laps, small and large in turns. {' '.join(took)}"
    )
    head = ("scenario", "engine", "CPU ms alone", "grown", "growth", "p99 ms alone", "grown", "")
    rows = [
        (
            one.scenario,
            one.contestant,
            f"{one.alone_ms:.3f}",
            f"{one.grown_ms:.3f}",
            f"{one.growth:+.0%}",
            f"{one.alone_p99_ms:.1f}",
            f"{one.grown_p99_ms:.1f}",
            tables.VERDICT[one.holds],
        )
        for one in found
    ]
    return f"{said}\n\n{tables.render([head, *rows])}"
