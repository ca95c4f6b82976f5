"""A server whose clock can be moved: the real house and the real loops, wired as `ostiary serve` wires them.

python -m bench.scale.moved DATA READY_FILE; on standard input `skip SECONDS` sets the clock forward and `run FACTOR` lets
it run so many times as fast, each answered with the moment that it has now. The product has no such flag: whoever could move a server's time could make certificates expire and
retention delete.
"""

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from ostiary.app import Served, serve
from ostiary.cli.background import run_async
from ostiary.house import open_house
from ostiary.ports.storage import Wakes
from ostiary.settings import load_settings
from ostiary.web.journal import open_journal

POKED_EVERY_SECONDS = 0.2


class FastClock:
    """The machine's time, until it is set forward or made to run faster."""

    def __init__(self) -> None:
        self._real = self._shown = _machine_time()
        self.factor = 1.0

    def now(self) -> datetime:
        return self._shown + (_machine_time() - self._real) * self.factor

    def skip(self, seconds: float) -> None:
        self._shown, self._real = self.now() + timedelta(seconds=seconds), _machine_time()

    def run_at(self, factor: float) -> None:
        self.skip(0)
        self.factor = factor


def _machine_time() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - this is where the clock comes from that everybody else is given


class PokedWakes:
    """Wakes whose wait ends when the clock has moved, too: a loop that sleeps until a moment would not notice."""

    def __init__(self, inner: Wakes) -> None:
        self._inner = inner
        self.moved = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        """Everything else, as it is."""
        return getattr(self._inner, name)

    async def wait(self, timeout_seconds: float) -> None:
        async with asyncio.TaskGroup() as group:
            waits = [
                group.create_task(self._inner.wait(timeout_seconds)),
                group.create_task(self.moved.wait()),
            ]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for one in waits:
                one.cancel()
        self.moved.clear()

    def poke_while(self, is_fast: Callable[[], bool]) -> None:
        """Let nobody sleep longer than a moment while the clock runs fast."""
        if is_fast():
            self.moved.set()
        asyncio.get_running_loop().call_later(POKED_EVERY_SECONDS, self.poke_while, is_fast)


async def main(data: Path, ready_file: Path) -> None:
    """Serve until SIGTERM."""
    settings = load_settings(data)
    open_journal(settings.log.format, settings.log.level)
    clock, stop = FastClock(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_house(settings, clock=clock) as house:
        wakes = PokedWakes(house.storage.wakes)
        _hear(clock, wakes)

        def ready(served: Served) -> None:
            content = {"listen": f"{served.host}:{served.port}", "pid": os.getpid()}
            beside = ready_file.with_suffix(".new")
            beside.write_text(json.dumps(content))
            beside.replace(ready_file)

        wakes.poke_while(lambda: clock.factor > 1)
        storage = replace(house.storage, wakes=cast(Wakes, wakes))
        await serve(replace(house, storage=storage), stop, ready=ready)


def _hear(clock: FastClock, wakes: PokedWakes) -> None:
    moves = {"skip": clock.skip, "run": clock.run_at}

    def hear() -> None:
        line = sys.stdin.readline()
        if not line:
            asyncio.get_running_loop().remove_reader(sys.stdin)
            return
        verb, number = line.split()
        moves[verb](float(number))
        wakes.moved.set()
        print(clock.now().isoformat(), flush=True)

    asyncio.get_running_loop().add_reader(sys.stdin, hear)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    run_async(main(Path(sys.argv[1]), Path(sys.argv[2])))
