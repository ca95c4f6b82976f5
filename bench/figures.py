"""What was measured: one measurement beside its bar, and several of the same as one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Self

from bench.wire import Timings

P99_BAR_MS = 20.0
BAR_CONNECTIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One measurement. Processor times are per request, None where nobody could look."""

    contestant: str
    scenario: str
    connections: int
    requests: int
    per_second: float
    server_ms: float | None
    database_ms: float | None
    """Of a database beside the server; None also where it is inside."""
    load_ms: float
    """What the load itself took."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    bar_ms: float | None
    """The most processor time that design.md 8 allows; None where it says nothing."""

    @classmethod
    def of(
        cls,
        scenario: str,
        connections: int,
        timings: Timings,
        *,
        contestant: str,
        server_seconds: float | None,
        database_seconds: float | None,
        load_seconds: float,
        wall_seconds: float,
        bar_ms: float | None,
    ) -> Self:
        """The figures of one run of the load."""
        seconds = sorted(timings.all)
        return cls(
            contestant=contestant,
            scenario=scenario,
            connections=connections,
            requests=len(seconds),
            per_second=len(seconds) / wall_seconds,
            server_ms=_each_ms(server_seconds, len(seconds)),
            database_ms=_each_ms(database_seconds, len(seconds)),
            load_ms=load_seconds * 1000 / len(seconds),
            p50_ms=percentile(seconds, 50) * 1000,
            p95_ms=percentile(seconds, 95) * 1000,
            p99_ms=percentile(seconds, 99) * 1000,
            bar_ms=bar_ms,
        )

    @property
    def cpu_ms(self) -> float | None:
        """Server and database together."""
        return None if self.server_ms is None else self.server_ms + (self.database_ms or 0)

    @property
    def missed(self) -> tuple[str, ...] | None:
        """Which of its bars it misses: "CPU", "p99"; None if there is none for it.

        The bars are for 16 connections: with one, every request pays for a commit of its own.
        """
        if self.bar_ms is None or self.cpu_ms is None or self.connections != BAR_CONNECTIONS:
            return None
        bars = (("CPU", self.cpu_ms, self.bar_ms), ("p99", self.p99_ms, P99_BAR_MS))
        return tuple(name for name, value, bar in bars if value > bar)

    @property
    def holds(self) -> bool | None:
        """Whether it is within its bars; None if there is none for it."""
        return None if self.missed is None else not self.missed


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of them do not exceed."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def medians(laps: Sequence[Figures]) -> list[Figures]:
    """The same measurements, once each, in the order of their first: of every value the median."""
    by_what: dict[tuple[str, str, int], list[Figures]] = {}
    for one in laps:
        by_what.setdefault((one.contestant, one.scenario, one.connections), []).append(one)
    return [_median(same) for same in by_what.values()]


def _median(same: Sequence[Figures]) -> Figures:
    return replace(
        same[0],
        requests=sum(one.requests for one in same),
        per_second=median(one.per_second for one in same),
        server_ms=_median_if_any([one.server_ms for one in same]),
        database_ms=_median_if_any([one.database_ms for one in same]),
        load_ms=median(one.load_ms for one in same),
        p50_ms=median(one.p50_ms for one in same),
        p95_ms=median(one.p95_ms for one in same),
        p99_ms=median(one.p99_ms for one in same),
    )


def _median_if_any(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _each_ms(seconds: float | None, requests: int) -> float | None:
    return None if seconds is None else seconds * 1000 / requests
