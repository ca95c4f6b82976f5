"""Who is measured: a server with its database, how it is reached, and which bars it is held against."""

import time
from dataclasses import dataclass
from typing import Final, Literal

from bench.figures import Figures
from bench.processes import Family
from bench.wire import Timings

Kind = Literal["bare", "enroll", "idle", "write"]

IDLE_BARS_MS: Final = {"SQLite": 0.25, "PostgreSQL": 0.40}
WRITE_BARS_MS: Final = {"SQLite": 0.35, "PostgreSQL": 0.55}
"""Server and database together, at 16 connections. Source: docs/design.md 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One server; requests to several of them are measured in turns."""

    name: str
    port: int
    authorization: dict[str, str]
    """The header that lets a program in."""
    server: Family | None
    """None: it is not known, or runs elsewhere."""
    database: tuple[Family, ...] = ()
    """What runs beside the server for it; nothing if there is nothing, or it runs elsewhere."""
    has_database_elsewhere: bool = False
    """Then half of the cost is out of sight, and no bar is held against the other half."""

    def bar_ms(self, kind: Kind) -> float | None:
        """The most processor time a request may cost; None where nothing is said."""
        if self.has_database_elsewhere or kind not in ("idle", "write"):
            return None
        return (IDLE_BARS_MS if kind == "idle" else WRITE_BARS_MS).get(self.name)

    def start_watch(self) -> "Watch":
        """Begin to count."""
        return Watch(
            self,
            _database_seconds(self),
            _seconds(self.server),
            time.process_time(),
            time.perf_counter(),
        )


@dataclass(frozen=True, slots=True)
class Watch:
    """What the clocks said before the load."""

    contestant: Contestant
    database_seconds: float | None
    server_seconds: float | None
    load_seconds: float
    wall_seconds: float

    def stop(self, scenario: str, kind: Kind, connections: int, timings: Timings) -> Figures:
        """The figures of the load that ran meanwhile."""
        wall = time.perf_counter() - self.wall_seconds
        load = time.process_time() - self.load_seconds
        server = _since(self.contestant.server, self.server_seconds)
        database = _database_seconds(self.contestant)
        if database is not None and self.database_seconds is not None:
            database -= self.database_seconds
        return Figures.of(
            scenario,
            connections,
            timings,
            contestant=self.contestant.name,
            server_seconds=server,
            database_seconds=database,
            load_seconds=load,
            wall_seconds=wall,
            bar_ms=self.contestant.bar_ms(kind),
        )


def _database_seconds(contestant: Contestant) -> float | None:
    families = contestant.database
    return sum(family.cpu_seconds() for family in families) if families else None


def _seconds(family: Family | None) -> float | None:
    return None if family is None else family.cpu_seconds()


def _since(family: Family | None, before: float | None) -> float | None:
    if family is None or before is None:
        return None
    return family.cpu_seconds() - before
