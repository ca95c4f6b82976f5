"""A real `ostiary serve` in a process of its own, on a free port of loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    ready: dict[str, str | int]
    ready_file: Path
    log: Path

    @property
    def port(self) -> int:
        return int(str(self.ready["listen"]).rpartition(":")[2])

    @property
    def host(self) -> str:
        return str(self.ready["listen"]).rpartition(":")[0]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def served(
    data: Path,
    *flags: str,
    env: dict[str, str] | None = None,
    beside: Path | None = None,
    before: tuple[str, ...] = (),
) -> Iterator[Server]:
    """Start a server, wait until it is ready, and end it at the latest with the `with`.

    Its log and ready file lie in `beside`, or next to the data; `before` stands before its command.
    """
    place = beside or data.parent
    ready_file, log = place / "ready.json", place / "serve.log"
    command = [*before, sys.executable, "-m", "ostiary", "serve", "--data", str(data), *flags]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready_file)],
            stdout=out,
            stderr=out,
            text=True,
            env={**os.environ, **(env or {})},
        )
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while not ready_file.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        yield Server(
            process=process,
            ready=json.loads(ready_file.read_text()),
            ready_file=ready_file,
            log=log,
        )
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE_SECONDS)
