"""The server of the run and its Apple: processes of their own on loopback, and how to start, stop and move them."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Family
from bench.scale.talk import HOST
from ostiary_sim.apns import PushAuthority

STARTS_WITHIN_SECONDS = 120.0
STOPS_WITHIN_SECONDS = 120.0
_LOOK_SECONDS = 0.05


class ServerDidNotStart(Exception):
    """The server ended, or was not ready in time; its log, in the run's folder, says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """One installation, and where its Apple is."""

    folder: Path
    apple_port: int
    database_url: str | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def database(self) -> Path:
        """SQLite's file."""
        return self.data / "ostiary.sqlite"

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that can be reached."""

    process: Process
    port: int

    @property
    def measured(self) -> Family:
        """What the kernel counts of it."""
        return Family(self.process.pid)

    async def skip(self, seconds: float) -> str:
        """Set its clock forward; the moment that it has now. Only for `serving(…, moved=True)`."""
        return await self._tell(f"skip {seconds}")

    async def run_at(self, factor: float) -> str:
        """Let its clock run so many times as fast; the moment that it has now."""
        return await self._tell(f"run {factor}")

    async def _tell(self, line: str) -> str:
        pipe, answers = self.process.stdin, self.process.stdout
        if pipe is None or answers is None:
            raise RuntimeError("this server's clock is the machine's")
        pipe.write(f"{line}\n".encode())
        return (await answers.readline()).decode().strip()


def make_house(folder: Path, device_ca_pem: bytes, database_url: str | None) -> House:
    """A new installation that trusts the fleet's CA and pushes to an Apple on loopback."""
    authority = folder / "fleet-ca.pem"
    authority.write_bytes(device_ca_pem)
    (folder / "apple").mkdir()
    (folder / "apple-ca.pem").write_bytes(PushAuthority.open(folder / "apple").ca_pem)
    house = House(folder=folder, apple_port=_free_port(), database_url=database_url)
    flags = ["--url", "https://scale.invalid", "--listen", f"{HOST}:0", "--no-tls"]
    if database_url is not None:
        flags += ["--database", database_url]
    words = ["init", "--data", str(house.data), *flags, "--trust-ca", str(authority)]
    subprocess.run([sys.executable, "-m", "ostiary", *words], check=True, capture_output=True)
    return house


def api_authorization(house: House) -> dict[str, str]:
    """The header that lets a program in."""
    token = (house.data / "api-token").read_text(encoding="ascii").strip()
    return {"Authorization": f"Basic {b64encode(f'scale:{token}'.encode()).decode('ascii')}"}


def push_certificate(house: House, topic: str) -> bytes:
    """Certificate and key in PEM, of the Apple of this house."""
    return PushAuthority.open(house.folder / "apple").issue_push_certificate(topic=topic).pem


@asynccontextmanager
async def serving(house: House, *, moved: bool = False) -> AsyncIterator[Running]:
    """The server until the block ends: `ostiary serve`, or with `moved` one whose clock can be set forward."""
    ready = house.folder / "ready.json"
    words = [str(house.data), str(ready)]
    command = ["-m", "bench.scale.moved", *words]
    if not moved:
        command = ["-m", "ostiary", "serve", "--data", words[0], "--ready-file", words[1]]
    with house.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            stdin=PIPE if moved else DEVNULL,
            stdout=PIPE if moved else DEVNULL,
            stderr=log,
            env={**os.environ, **_environment(house)},
        )
    try:
        port = await _wait_for(ready, process)
        yield Running(process, port)
    finally:
        await end(process)
        ready.unlink(missing_ok=True)


@asynccontextmanager
async def apple(house: House, hear: Callable[[bytes], None]) -> AsyncIterator[Process]:
    """The push service until the block ends; `hear` is told the token of every push that it takes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.scale.apple",
        str(house.folder / "apple"),
        str(house.apple_port),
        stdin=PIPE,
        stdout=PIPE,
    )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    await process.stdout.readline()
    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(_hear(process.stdout, hear))
        try:
            yield process
        finally:
            await end(process)
            hearing.cancel()


async def end(process: Process) -> None:
    """Ask a process of ours to stop, then make it."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOPS_WITHIN_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _hear(pipe: asyncio.StreamReader, hear: Callable[[bytes], None]) -> None:
    while line := await pipe.readline():
        hear(bytes.fromhex(line.decode("ascii").strip()))


def _environment(house: House) -> dict[str, str]:
    return {
        "OSTIARY_APNS__HOST": HOST,
        "OSTIARY_APNS__PORT": str(house.apple_port),
        "OSTIARY_APNS__CA": str(house.folder / "apple-ca.pem"),
    }


async def _wait_for(ready: Path, process: Process) -> int:
    try:
        async with asyncio.timeout(STARTS_WITHIN_SECONDS):
            while not _is_there(ready):
                if process.returncode is not None:
                    raise ServerDidNotStart
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise ServerDidNotStart from None
    return _port_in(ready)


def _port_in(ready: Path) -> int:
    listen: str = json.loads(ready.read_text())["listen"]
    return int(listen.rpartition(":")[2])


def _is_there(file: Path) -> bool:
    return file.exists()


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
