"""What the kernel and the database say once a second, in a CSV file; the peaks of each act."""

import asyncio
import csv
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import asyncpg

from bench.processes import Family
from bench.scale.house import House

_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One second of a run."""

    seconds: float
    act: str
    resident_mib: float
    peak_mib: float
    cpu_seconds: float
    database_cpu_seconds: float
    database_mib: float
    wal_mib: float
    """SQLite: how large the file is. PostgreSQL: how much was written since the start."""
    open_files: int
    threads: int
    requests: int
    pushes: int
    p50_ms: float
    """Of what was answered since the sample before."""
    p99_ms: float
    bare_ms: float
    """How long an answer took lately that asks for nothing: what else runs on the machine shows in both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What the data takes on disk."""

    database_mib: float
    wal_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the devices saw: requests of this act, pushes of this run, and how long the latest answers took."""

    requests: int = 0
    pushes: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    bare_ms: float = 0.0


class Watch:
    """Looks every second until it is cancelled."""

    def __init__(
        self,
        file: Path,
        sizes: Callable[[], Awaitable[Sizes]],
        database: Family | None,
    ) -> None:
        self.act = "start"
        self.server: Family | None = None
        self.samples: list[Sample] = []
        self._file = file
        self._sizes = sizes
        self._database = database
        self._counts: Callable[[], Counts] = Counts
        self._began = time.monotonic()

    async def run(self, counts: Callable[[], Counts]) -> None:
        """Look once a second; `counts` says what the devices saw."""
        self._counts = counts
        with self._file.open("w", newline="") as out:
            writer = csv.DictWriter(out, [one.name for one in fields(Sample)])
            writer.writeheader()
            while True:
                if self.server is not None:
                    sample = await self.look()
                    if sample is not None:
                        self.samples.append(sample)
                        writer.writerow(asdict(sample))
                        out.flush()
                await asyncio.sleep(1)

    async def look(self) -> Sample | None:
        """This moment; None while the server is away."""
        server = self.server
        if server is None:
            return None
        try:
            status = _status(server.pid)
            cpu = server.cpu_seconds()
            open_files = _open_files(server.pid)
        except (OSError, KeyError):
            return None
        sizes = await self._sizes()
        counts = self._counts()
        return Sample(
            seconds=round(time.monotonic() - self._began, 2),
            act=self.act,
            resident_mib=round(status["VmRSS"] / 1024, 1),
            peak_mib=round(status["VmHWM"] / 1024, 1),
            cpu_seconds=round(cpu, 3),
            database_cpu_seconds=round(self._database.cpu_seconds() if self._database else 0.0, 2),
            database_mib=round(sizes.database_mib, 2),
            wal_mib=round(sizes.wal_mib, 2),
            open_files=open_files,
            threads=status["Threads"],
            requests=counts.requests,
            pushes=counts.pushes,
            p50_ms=round(counts.p50_ms, 2),
            p99_ms=round(counts.p99_ms, 2),
            bare_ms=round(counts.bare_ms, 2),
        )


def _open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _status(pid: int) -> dict[str, int]:
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM", "Threads"):
            found[name] = int(value.split()[0])
    return found


def sizes_of(house: House) -> Callable[[], Awaitable[Sizes]]:
    """How to ask what the database takes on disk."""
    if house.database_url is not None:
        return _PostgresSizes(house.database_url)

    async def look() -> Sizes:
        wal = house.database.with_name(house.database.name + "-wal")
        return Sizes(database_mib=_size(house.database), wal_mib=_size(wal))

    return look


def _size(file: Path) -> float:
    try:
        return file.stat().st_size / _MIB
    except OSError:
        return 0.0


class _PostgresSizes:
    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def __call__(self) -> Sizes:
        if self._connection is None:
            self._connection = await asyncpg.connect(self._url)
        row = await self._connection.fetchrow(
            "SELECT pg_database_size(current_database()), pg_current_wal_lsn() - '0/0'"
        )
        if row is None:
            return Sizes(database_mib=0, wal_mib=0)
        return Sizes(database_mib=row[0] / _MIB, wal_mib=float(row[1]) / _MIB)
