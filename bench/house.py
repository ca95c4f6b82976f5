"""The server under measurement: a real `ostiary serve` in processes of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contestants import Contestant
from bench.processes import Family

STARTS_WITHIN_SECONDS = 60.0
STOPS_WITHIN_SECONDS = 30.0
ROOT = Path(__file__).resolve().parents[1]


class ServerDidNotStart(Exception):
    """The server ended, or was not ready in time; its last words follow."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Somebody who serves on loopback."""

    process: Family
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What `ostiary init` made, and where its database is."""

    name: str
    """Of the engine."""
    data: Path
    database_url: str | None = None
    """None: SQLite, in the data."""
    database: Family | None = None
    """The database's processes; None if there are none, or none on this machine."""

    @contextmanager
    def serving(self) -> Iterator[Contestant]:
        """Its server, until the block ends. Its log, at level info, goes to a file beside the data."""
        ready, log_file = self.data.parent / "ready.json", self.data.parent / "log.jsonl"
        ready.unlink(missing_ok=True)
        with _closed_port() as apns, log_file.open("ab") as log:
            process = subprocess.Popen(
                [*_OSTIARY, "serve", "--data", str(self.data), "--ready-file", str(ready)],
                stderr=log,
                env={**os.environ, **self._environment(apns)},
            )
            try:
                port = _wait_for(ready, process, log_file)
                yield self._contestant(Serving(Family(process.pid), port))
            finally:
                stop(process)

    def _environment(self, apns: int) -> dict[str, str]:
        # Nobody listens there: what would be pushed stays on this machine.
        named = {"OSTIARY_APNS__HOST": "127.0.0.1", "OSTIARY_APNS__PORT": str(apns)}
        if self.database_url is not None:
            named["OSTIARY_DATABASE"] = self.database_url
        return named

    def _contestant(self, serving: Serving) -> Contestant:
        return Contestant(
            name=self.name,
            port=serving.port,
            authorization=api_authorization(self.data),
            server=serving.process,
            database=() if self.database is None else (self.database,),
            has_database_elsewhere=self.database_url is not None and self.database is None,
        )


def install(installation: Installation, authority_pem: bytes) -> None:
    """Make it: new, and trusting the bench's CA."""
    data = installation.data
    data.parent.mkdir(parents=True, exist_ok=True)
    authority = data.parent / "bench-ca.pem"
    authority.write_bytes(authority_pem)
    flags = ["--url", "https://bench.invalid", "--listen", "127.0.0.1:0", "--no-tls"]
    if installation.database_url is not None:
        flags += ["--database", installation.database_url]
    done = subprocess.run(
        [*_OSTIARY, "init", "--data", str(data), *flags, "--trust-ca", str(authority)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ServerDidNotStart(done.stderr)


@contextmanager
def serving_bare() -> Iterator[Serving]:
    """The baseline: HTTP and nothing behind it."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "bench" / "bare.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        yield Serving(Family(process.pid), int(process.stdout.readline()))
    finally:
        stop(process)


def api_authorization(data: Path) -> dict[str, str]:
    """The header that lets a program into this installation."""
    token = (data / "api-token").read_text(encoding="ascii").strip()
    return basic_authorization("bench", token)


def basic_authorization(user: str, password: str) -> dict[str, str]:
    """The header that lets a program in."""
    both = b64encode(f"{user}:{password}".encode()).decode("ascii")
    return {"Authorization": f"Basic {both}"}


_OSTIARY = (sys.executable, "-m", "ostiary")


@contextmanager
def _closed_port() -> Iterator[int]:
    """A port of loopback that is taken, so nobody else listens there, and refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def _wait_for(ready: Path, process: subprocess.Popen[bytes], log: Path) -> int:
    ends_at = time.monotonic() + STARTS_WITHIN_SECONDS
    while time.monotonic() < ends_at and process.poll() is None:
        if ready.exists():
            listen: str = json.loads(ready.read_text())["listen"]
            return int(listen.rpartition(":")[2])
        time.sleep(0.02)
    words = log.read_text(errors="replace")[-2000:]
    raise ServerDidNotStart(f"{process.args!s} ended, or took too long; its last words: {words}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOPS_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
