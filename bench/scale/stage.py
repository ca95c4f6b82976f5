"""What the acts of a run share: the house, the fleet, who is enrolled, and how each act is measured."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.figures import percentile
from bench.fleet import Fleet
from bench.processes import Family
from bench.scale.crowd import Member, number_of
from bench.scale.house import House, Running
from bench.scale.talk import Tally
from bench.scale.watch import Counts, Sample, Watch
from bench.wire import WrongAnswer, ask, render_request

NAMED_AT_ONCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ActFigures:
    """What one act took and cost."""

    act: str
    devices: int
    seconds: float
    requests: int
    pushes: int
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    server_cpu: float
    database_cpu: float
    peak_mib: float
    """The server's, since it was started."""
    database_mib: float
    wal_mib: float
    refused: int
    longest_refused: float
    notes: tuple[str, ...] = ()

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def cpu_ms(self) -> float:
        """Server and database, per request of a device, with the act's pushes and enqueues in it."""
        return (self.server_cpu + self.database_cpu) * 1000 / max(1, self.requests)


@dataclass(slots=True, kw_only=True)
class Stage:
    """One run."""

    house: House
    fleet: Fleet
    watch: Watch
    database: Family | None
    authorization: dict[str, str]
    members: list[Member] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    pushes: int = 0
    bare_ms: float = 0.0
    """How long the last answer took that asks for nothing."""
    server: Running | None = None
    on_push: Callable[[int], None] | None = None
    """Told the number of each device that is pushed."""

    @property
    def port(self) -> int:
        if self.server is None:
            raise RuntimeError("no server runs")
        return self.server.port

    def hear(self, token: bytes) -> None:
        """A push arrived."""
        self.pushes += 1
        if self.on_push is not None:
            self.on_push(number_of(token))

    def counts(self) -> Counts:
        """What devices saw since this was last asked."""
        recent = self.tally.take_recent()
        return Counts(
            requests=len(self.tally.seconds),
            pushes=self.pushes,
            p50_ms=percentile(recent, 50) * 1000 if recent else 0.0,
            p99_ms=percentile(recent, 99) * 1000 if recent else 0.0,
            bare_ms=self.bare_ms,
        )

    @asynccontextmanager
    async def serving(self, running: Running) -> AsyncIterator[None]:
        """Let the acts and the watch know the server, until the block ends."""
        self.server, self.watch.server = running, running.measured
        try:
            yield
        finally:
            self.server = self.watch.server = None

    async def operate(self, method: str, path: str, body: bytes, *also: int) -> bytes:
        """As a program does through NanoMDM's API. Raises WrongAnswer unless the status is 200 or one of `also`."""
        head, answer = await ask(self.port, render_request(method, path, body, self.authorization))
        if int(head[9:12]) not in (200, *also):
            raise WrongAnswer(f"{path[:60]}: {head[:40]!r} {answer[:300]!r}")
        return answer


class ActMeter:
    """Takes the figures of one act: enter it at the start, ask for `figures` at the end."""

    def __init__(self, stage: Stage, act: str) -> None:
        self._stage = stage
        self._act = act
        stage.tally = Tally()
        stage.watch.act = act
        self._began = time.monotonic()
        self._pushes = stage.pushes
        self._first_sample = len(stage.watch.samples)
        self._database_cpu = stage.database.cpu_seconds() if stage.database else 0.0
        self._server_cpu = self._cpu_now()

    async def figures(self, devices: int, *notes: str) -> ActFigures:
        """What the act took until now."""
        stage, tally = self._stage, self._stage.tally
        last = await stage.watch.look()
        samples = [*stage.watch.samples[self._first_sample :], *([last] if last else [])]
        database_cpu = stage.database.cpu_seconds() if stage.database else 0.0
        return ActFigures(
            act=self._act,
            devices=devices,
            seconds=time.monotonic() - self._began,
            requests=len(tally.seconds),
            pushes=stage.pushes - self._pushes,
            p50_ms=tally.percentile_ms(50),
            p99_ms=tally.percentile_ms(99),
            slowest_ms=tally.percentile_ms(100),
            server_cpu=self._cpu_now() - self._server_cpu,
            database_cpu=database_cpu - self._database_cpu,
            peak_mib=_most(samples, "peak_mib"),
            database_mib=samples[-1].database_mib if samples else 0.0,
            wal_mib=_most(samples, "wal_mib"),
            refused=sum(tally.refusals.values()),
            longest_refused=tally.longest_refused,
            notes=(*notes, *_refusals(tally)),
        )

    def _cpu_now(self) -> float:
        server = self._stage.watch.server
        return server.cpu_seconds() if server else 0.0


def _most(samples: Sequence[Sample], name: str) -> float:
    return max((float(getattr(sample, name)) for sample in samples), default=0.0)


def _refusals(tally: Tally) -> list[str]:
    if not tally.refusals:
        return []
    said = ", ".join(f"{count:,} x {name}" for name, count in tally.refusals.most_common())
    return [f"refused at first: {said}"]


def run_folder(folder: Path) -> Path:
    """The folder, which others may pass through but not look into: a PostgreSQL of somebody else lives there."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    return folder
