"""Measure what a push costs: claimed, unsealed, sent over HTTP/2 with TLS, judged, logged and settled.

python -m bench.push [--quick] [--engine sqlite postgres] [--dir PATH] [--delay SECONDS] [--strict]
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import structlog
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench import postgres
from bench.push_fleet import furnish, wake_all
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.keys.sealer import EpochSealer, open_sealer
from ostiary.outward.apns import ApnsEndpoint, ApnsPusher
from ostiary.protocol.mdm.checkin import Topic
from ostiary.secret import Secret
from ostiary.services.push import PushService
from ostiary.services.push_certificates import PushCertificateService
from ostiary.services.push_count import CountedPusher
from ostiary.storage.opening import Storage, open_storage
from ostiary.web.journal import open_journal
from ostiary.web.metrics import PrometheusMeter
from ostiary.worker.push_loop import PushPace, push_due
from ostiary_sim.apns import PushAuthority

ROOT = Path(__file__).resolve().parents[1]
BAR_MS = 0.15
AIM_MS = 0.06
PUSHES, QUICK_PUSHES = 10_000, 2_000
ROUNDS = 5
ENGINES = ("sqlite", "postgres")
_ENDS_WITHIN_SECONDS = 30.0


class PushesLost(Exception):
    """Not every push that was due arrived, or not every one was booked as accepted: nothing was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushFigures:
    """The median of some rounds, each of so many pushes."""

    engine: str
    pushes: int
    per_second: float
    cpu_ms: float
    """Of the pushing process, all its threads, per push: outbox, client, TLS, the log and the database client."""
    database_cpu_ms: float
    """Of the database's own processes, per push; 0 for SQLite, which has none."""

    @property
    def holds(self) -> bool:
        """Whether it is within the bar of design.md 8."""
        return self.cpu_ms + self.database_cpu_ms <= BAR_MS


def measure_pushes(
    engine: str,
    folder: Path,
    *,
    pushes: int = PUSHES,
    rounds: int = ROUNDS,
    answer_delay_seconds: float = 0.0,
) -> PushFigures:
    """What a push costs with this engine; its database and the log lie in `folder`.

    Raises:
        PushesLost: some did not arrive, or were not booked.
    """
    with ExitStack() as stack:
        authority = PushAuthority.create()
        apple = stack.enter_context(_apple(authority, folder, answer_delay_seconds))
        log = stack.enter_context((folder / "log.jsonl").open("w"))
        open_journal("json", "info", log)
        stack.callback(structlog.reset_defaults)
        server = None
        if engine == "postgres":
            folder.chmod(0o711)  # PostgreSQL refuses to be root, and must get through to its own
            server = stack.enter_context(postgres.running(folder / "postgres"))
        run = _Run(authority=authority, apple=apple, folder=folder, server=server)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(run.measure(pushes, rounds))
    return PushFigures(
        engine=engine,
        pushes=pushes,
        per_second=median(pushes / one.wall for one in found),
        cpu_ms=median(one.cpu for one in found) * 1000 / pushes,
        database_cpu_ms=median(one.database for one in found) * 1000 / pushes,
    )


@dataclass(frozen=True, slots=True)
class _Seconds:
    """What one round took."""

    wall: float
    cpu: float
    database: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Apple:
    """The stand-in's process."""

    port: int
    ca_file: Path
    end: Callable[[], int]
    """Stop it; how many pushes it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One engine, one fleet, one Apple."""

    authority: PushAuthority
    apple: _Apple
    folder: Path
    server: postgres.PostgresServer | None

    async def measure(self, pushes: int, rounds: int) -> list[_Seconds]:
        async with AsyncExitStack() as stack:
            storage, sealer = await self._open()
            stack.push_async_callback(storage.close)
            certificates = PushCertificateService(
                certificates=storage.push_certificates, sealer=sealer, clock=_Now()
            )
            issued = self.authority.issue_push_certificate()
            await certificates.import_certificate(
                issued.certificate_pem,
                tenant=DEFAULT_TENANT,
                key_pem=Secret(issued.key_pem),
                actor="bench",
            )
            await furnish(storage.enrollments, sealer, Topic(issued.topic), pushes, _Now().now())
            endpoint = ApnsEndpoint(
                host="127.0.0.1", port=self.apple.port, ca_file=self.apple.ca_file
            )
            pusher = ApnsPusher(certificates, endpoint)
            stack.callback(pusher.close)
            meter = PrometheusMeter()
            service = PushService(
                enrollments=storage.enrollments,
                certificates=storage.push_certificates,
                pusher=CountedPusher(pusher, meter),
                sealer=sealer,
                clock=_Now(),
            )
            await self._round(storage, service, min(pushes, 500))  # connections, caches, plans
            found = [await self._round(storage, service, pushes) for _ in range(rounds)]
        if self.apple.end() != min(pushes, 500) + rounds * pushes:
            raise PushesLost
        return found

    async def _open(self) -> tuple[Storage, EpochSealer]:
        url = f"sqlite:///{self.folder}/push.db"
        if self.server is not None:
            url = await self.server.make_database("push")
        storage = open_storage(url, _Now())
        sealer, rows = open_sealer(Secret(os.urandom(32)), (), now=_Now().now())
        for row in rows:
            await storage.epochs.add_epoch(row)
        return storage, sealer

    async def _round(self, storage: Storage, service: PushService, pushes: int) -> _Seconds:
        await wake_all(storage.enrollments, pushes, _Now().now())
        stop, taken = asyncio.Event(), 0
        wall, cpu, database = time.perf_counter(), time.process_time(), self._database_seconds()
        while more := await push_due(storage.wakes, service, _Now(), stop, PushPace()):
            taken += more
        spent = _Seconds(
            wall=time.perf_counter() - wall,
            cpu=time.process_time() - cpu,
            database=self._database_seconds() - database,
        )
        if taken != pushes:
            raise PushesLost
        return spent

    def _database_seconds(self) -> float:
        return 0.0 if self.server is None else self.server.process.cpu_seconds()


class _Now:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the clock


@contextmanager
def _apple(authority: PushAuthority, folder: Path, delay_seconds: float) -> Iterator[_Apple]:
    identity = authority.issue_server_certificate()
    key = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown, ca_file = folder / "apple.pem", folder / "apple-ca.pem"
    shown.write_bytes(key + identity.certificate.public_bytes(Encoding.PEM))
    ca_file.write_bytes(authority.ca_pem)
    files = (str(shown), str(ca_file))
    command = [sys.executable, "-m", "bench.push_apple", *files, str(delay_seconds)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it was asked for

        def end() -> int:
            answered, _ = process.communicate(timeout=_ENDS_WITHIN_SECONDS)
            return int(answered)

        try:
            yield _Apple(port=int(process.stdout.readline()), ca_file=ca_file, end=end)
        finally:
            process.kill()


def render(figures: Sequence[PushFigures]) -> str:
    """A line for each engine."""
    lines = [
        "| engine   | pushes/s | CPU ms each | of the database | bar ms | aim ms |            |",
        "|----------|---------:|------------:|----------------:|-------:|-------:|------------|",
    ]
    lines += [
        f"| {one.engine:8} | {one.per_second:8,.0f} | {one.cpu_ms:11.3f} | {one.database_cpu_ms:15.3f} "
        f"| {BAR_MS:6.2f} | {AIM_MS:6.2f} | {'holds' if one.holds else '**missed**':10} |"
        for one in figures
    ]
    return "\n".join(lines)


def main() -> int:
    """The exit code: 0, or 1 if the bar was missed and --strict asked for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a fifth of everything")
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--dir", type=Path, help="where the database lies")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds until Apple answers")
    parser.add_argument("--strict", action="store_true", help="fail if the bar is missed")
    options = parser.parse_args()
    pushes = QUICK_PUSHES if options.quick else PUSHES
    figures = []
    for engine in options.engine:
        with tempfile.TemporaryDirectory(prefix="ostiary-push-", dir=options.dir) as folder:
            figures.append(
                measure_pushes(
                    engine, Path(folder), pushes=pushes, answer_delay_seconds=options.delay
                )
            )
    print(render(figures))
    return 1 if options.strict and not all(one.holds for one in figures) else 0


if __name__ == "__main__":
    raise SystemExit(main())
