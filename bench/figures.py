"""What was measured, and how it is shown: one line for each scenario and number of connections, beside its bar."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from bench.wire import Timings

P99_BAR_MS = 20.0
P99_BAR_CONNECTIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One measurement."""

    scenario: str
    connections: int
    requests: int
    per_second: float
    cpu_ms: float
    """Of the server's process, per request."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    bar_ms: float | None
    """The most CPU per request that design.md 8 allows; None where it says nothing."""

    @classmethod
    def of(
        cls,
        scenario: str,
        connections: int,
        timings: Timings,
        *,
        cpu_seconds: float,
        wall_seconds: float,
        bar_ms: float | None,
    ) -> Self:
        """The figures of one run of the load."""
        seconds = sorted(timings.all)
        return cls(
            scenario=scenario,
            connections=connections,
            requests=len(seconds),
            per_second=len(seconds) / wall_seconds,
            cpu_ms=cpu_seconds * 1000 / len(seconds),
            p50_ms=percentile(seconds, 50) * 1000,
            p95_ms=percentile(seconds, 95) * 1000,
            p99_ms=percentile(seconds, 99) * 1000,
            bar_ms=bar_ms,
        )

    @property
    def holds(self) -> bool | None:
        """Whether it is within its bars; None if there is none for it.

        The bars are for 16 connections: with one, every request pays for a commit of its own.
        """
        if self.bar_ms is None or self.connections != P99_BAR_CONNECTIONS:
            return None
        return self.cpu_ms <= self.bar_ms and self.p99_ms <= P99_BAR_MS


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of them do not exceed."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


_HEAD = (
    "scenario",
    "connections",
    "requests/s",
    "CPU ms",
    "x bare HTTP",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "bar ms",
    "",
)
_VERDICT = {True: "holds", False: "**missed**", None: ""}


def render_table(figures: Sequence[Figures], bare_ms_by_connections: dict[int, float]) -> str:
    """The figures as a Markdown table that is also readable in a terminal."""
    rows = [_HEAD, *(_row(one, bare_ms_by_connections) for one in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [_line(row, widths) for row in rows]
    rule = "|".join("-" * (width + 1) + (":" if at else "-") for at, width in enumerate(widths))
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def _row(one: Figures, bare_ms_by_connections: dict[int, float]) -> tuple[str, ...]:
    bare = bare_ms_by_connections.get(one.connections)
    return (
        one.scenario,
        str(one.connections),
        f"{one.per_second:,.0f}",
        f"{one.cpu_ms:.3f}",
        f"{one.cpu_ms / bare:.1f}" if bare else "",
        f"{one.p50_ms:.2f}",
        f"{one.p95_ms:.2f}",
        f"{one.p99_ms:.2f}",
        "" if one.bar_ms is None else f"{one.bar_ms:.2f}",
        _VERDICT[one.holds],
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (
        cell.rjust(width) if at else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return f"| {' | '.join(cells)} |"
