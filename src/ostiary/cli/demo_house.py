"""The demo's Ostiary: a real installation, made and served by the real commands, each a process of its own."""

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ostiary.cli.failure import Exit, Failed
from ostiary.settings import ENV_PREFIX, Places, load_settings

HOST: Final = "127.0.0.1"
LOG_NAME: Final = "server.log"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05
_AS_JSON: Final = ("-o", "json")
_ID: Final = re.compile(r"\b([0-9A-F]{8})-[0-9A-F-]{16,27}")
_ABBREVIATED: Final = r"\1…"
_APNS_TABLE: Final = "[apns]\n"

Tell = Callable[[str], None]
"""Hears each command line before it runs."""


class DemoFailed(Failed):
    """A step of the demo did not happen."""

    def __init__(self, sentence: str, hint: str = "", exit_code: int = Exit.BUG) -> None:
        super().__init__(sentence, hint, exit_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoHouse:
    """One installation, and the commands that work on it."""

    data: Path
    url: str
    tell: Tell

    @property
    def log(self) -> Path:
        """Where the server writes."""
        return self.data / LOG_NAME

    @property
    def ca_file(self) -> Path:
        """What a device must trust to download its profile."""
        return Places(self.data).ca_bundle

    async def run(self, *words: str) -> str:
        """Run `ostiary …` as a person would; its standard output. Raises DemoFailed with its own words."""
        self.tell(self._as_typed(words))
        process = await asyncio.create_subprocess_exec(
            *_command(*words, "--data", str(self.data)), stdout=PIPE, stderr=PIPE
        )
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            await _end(process)
            raise
        if process.returncode != Exit.FINE:
            sentence, hint = _said(err.decode(errors="replace"))
            raise DemoFailed(
                sentence or f"`ostiary {words[0]}` ended with {process.returncode}",
                hint or f"The server's log is {self.log}.",
                process.returncode or Exit.BUG,
            )
        return out.decode()

    async def ask(self, *words: str) -> Any:
        """The JSON that a command prints."""
        return json.loads(await self.run(*words, *_AS_JSON))

    def _as_typed(self, words: Sequence[str]) -> str:
        """A command line that fits on a line: ids abbreviated, files named as seen from the data directory."""
        typed = words[: -len(_AS_JSON)] if tuple(words[-len(_AS_JSON) :]) == _AS_JSON else words
        seen = shlex.join(word.replace(f"{self.data}/", "") for word in typed)
        return f"ostiary {abbreviated(seen)}"


async def make_house(data: Path, tell: Tell) -> DemoHouse:
    """A new installation in `data`, on a free port of the loopback address."""
    address = f"{HOST}:{_free_port()}"
    house = DemoHouse(data=data, url=f"https://{address}", tell=tell)
    await house.run("init", "--url", house.url, "--listen", address)
    return house


def abbreviated(text: str) -> str:
    """The text with every enrollment id in it cut short."""
    return _ID.sub(_ABBREVIATED, text)


def push_through(house: DemoHouse, port: int, ca_file: Path) -> None:
    """Write another push service than Apple's into `ostiary.toml`, so that nothing ever leaves loopback."""
    file = Places(house.data).settings_file
    table = f'{_APNS_TABLE}host = "{HOST}"\nport = {port}\nca = {json.dumps(str(ca_file))}\n'
    file.write_text(file.read_text().replace(_APNS_TABLE, table, 1))
    if load_settings(house.data).apns.port != port:
        raise DemoFailed(f"the simulated push service could not be written into {file}")


@asynccontextmanager
async def serve_house(house: DemoHouse) -> AsyncIterator[Process]:
    """`ostiary serve` while the block runs.

    Raises:
        DemoFailed: it did not start, or did not end in peace.
    """
    ready = house.data / "ready.json"
    words = ("serve", "--ready-file", str(ready))
    house.tell(f"ostiary {words[0]}")
    with house.log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *_command(*words, "--data", str(house.data)), stdout=log, stderr=log
        )
    try:
        await _until_ready(process, ready, house.log)
        yield process
    except BaseException:
        await _end(process)  # what failed is the news, not how the server took it
        raise
    if await _end(process) != Exit.FINE:
        raise DemoFailed(f"the server ended with {process.returncode}", f"Its log is {house.log}.")


def forget_settings_of_environment() -> None:
    """Drop OSTIARY_… from the environment: the demo is a world of its own, and touches no other one."""
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        del os.environ[name]


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "ostiary", *words]


async def _until_ready(process: Process, ready: Path, log: Path) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while not _is_there(ready):
                if process.returncode is not None:
                    raise DemoFailed(
                        f"the server ended with {process.returncode} instead of starting",
                        f"Its log is {log}.",
                    )
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise DemoFailed(
            f"the server was not ready after {START_SECONDS:.0f} seconds", f"Its log is {log}."
        ) from None


def _said(err: str) -> tuple[str, str]:
    """Sentence and hint of a command that failed, out of what it wrote to standard error."""
    found = {"error": "", "hint": ""}
    for line in err.splitlines():
        _, kind, text = [*line.split(": ", 2), "", ""][:3]
        if kind in found:
            found[kind] = text
    return found["error"], found["hint"]


def _is_there(file: Path) -> bool:
    return file.exists()


async def _end(process: Process) -> int:
    """Ask a process of ours to stop, then make it; its exit code."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
    return await process.wait()


def _free_port() -> int:
    """A port that is free now. Devices keep the address for life, so it must be known before the start."""
    with socket.create_server((HOST, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
