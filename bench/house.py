"""The server under measurement: a real `ostiary serve` in a process of its own, and what the kernel counts of it."""

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

STARTS_WITHIN_SECONDS = 30.0
STOPS_WITHIN_SECONDS = 30.0
ROOT = Path(__file__).resolve().parents[1]


class ServerDidNotStart(Exception):
    """The server ended, or was not ready in time; its log says why."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that serves on loopback."""

    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """Processor time so far, user and system, all threads: what /proc/PID/stat has, to the nanosecond."""
        return time.clock_gettime(_cpu_clock(self.pid))

    def peak_mebibytes(self) -> float:
        """The most memory that was resident at once (VmHWM)."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024


def _cpu_clock(pid: int) -> int:
    """The clock of a process's processor time, numbered as clock_getcpuclockid(3) does it on Linux."""
    return (~pid << 3) | 2


def make_house(data: Path, authority_pem: bytes) -> None:
    """A new installation that trusts the bench's CA."""
    authority = data.parent / "bench-ca.pem"
    authority.write_bytes(authority_pem)
    flags = ["--url", "https://bench.invalid", "--listen", "127.0.0.1:0", "--no-tls"]
    subprocess.run(
        [*_OSTIARY, "init", "--data", str(data), *flags, "--trust-ca", str(authority)],
        check=True,
        capture_output=True,
    )


@contextmanager
def serving(data: Path) -> Iterator[Process]:
    """The server, until the block ends. Its log, at level info, goes to a file beside the data."""
    ready = data.parent / "ready.json"
    with _closed_port() as apns, (data.parent / "log.jsonl").open("ab") as log:
        # Nobody listens there: what would be pushed stays on this machine.
        environment = {"OSTIARY_APNS__HOST": "127.0.0.1", "OSTIARY_APNS__PORT": str(apns)}
        process = subprocess.Popen(
            [*_OSTIARY, "serve", "--data", str(data), "--ready-file", str(ready)],
            stderr=log,
            env={**os.environ, **environment},
        )
        try:
            yield Process(process.pid, _wait_for(ready, process))
        finally:
            _stop(process)


@contextmanager
def serving_bare() -> Iterator[Process]:
    """The baseline: HTTP and nothing behind it."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "bench" / "bare.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        yield Process(process.pid, int(process.stdout.readline()))
    finally:
        _stop(process)


def api_authorization(data: Path) -> dict[str, str]:
    """The header that lets a program in."""
    token = (data / "api-token").read_text(encoding="ascii").strip()
    return {"Authorization": f"Basic {b64encode(f'bench:{token}'.encode()).decode('ascii')}"}


_OSTIARY = (sys.executable, "-m", "ostiary")


@contextmanager
def _closed_port() -> Iterator[int]:
    """A port of loopback that is taken, so nobody else listens there, and refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def _wait_for(ready: Path, process: subprocess.Popen[bytes]) -> int:
    ends_at = time.monotonic() + STARTS_WITHIN_SECONDS
    while time.monotonic() < ends_at and process.poll() is None:
        if ready.exists():
            listen: str = json.loads(ready.read_text())["listen"]
            return int(listen.rpartition(":")[2])
        time.sleep(0.02)
    raise ServerDidNotStart


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOPS_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
