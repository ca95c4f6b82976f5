"""A process to be killed: it rotates keys on a real database and seals old values anew, until it dies.

It reads one order a line, forks a child that carries it out, and then says `died`. A child counts the instants that it
passes: before and after each thing it asks of storage, each step of a commit, each file that it flushes or renames. It
kills itself at the one that it was told, or the kernel ends it after some microseconds, wherever it is.
"""

import asyncio
import faulthandler
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import structlog

from conformance.storage_values import NOON, MovedClock
from ostiary import house as house_wiring
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.errors import Unavailable
from ostiary.keys.root_file import RootKeyFile
from ostiary.services.key_rotation import KeyRotation
from ostiary.services.resealing import ResealingPace, ResealingService
from ostiary.storage.opening import Storage, open_storage

PATIENCE_SECONDS = 120.0
NOT_PLAYED = 75
BETWEEN_LIVES = timedelta(minutes=10)
"""Longer than a node that died keeps others from the work, and than an epoch rests."""
SMALL = ResealingPace(
    batch=5, together=2, batches=3, pause=timedelta(0), settle=timedelta(seconds=1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to do on which database, and when to die: at the nth instant, after microseconds, or not (both 0)."""

    database_url: str
    root_key: str
    number: int
    """Which life this is: each begins later than the one before."""
    rotates_root: bool = False
    instant: int = 0
    microseconds: int = 0

    def encode(self) -> str:
        return json.dumps(
            [
                self.database_url,
                self.root_key,
                self.number,
                self.rotates_root,
                self.instant,
                self.microseconds,
            ]
        )

    @classmethod
    def decode(cls, line: str) -> "Order":
        url, root_key, number, rotates_root, instant, microseconds = json.loads(line)
        return cls(
            database_url=url,
            root_key=root_key,
            number=number,
            rotates_root=rotates_root,
            instant=instant,
            microseconds=microseconds,
        )


class Trap:
    """Kills at the nth instant."""

    def __init__(self, instant: int) -> None:
        self._left = instant

    def __call__(self, _step: str) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Mortal:
    """A part of storage, with an instant before and after each thing that it is asked."""

    def __init__(self, inner: object, trap: Trap) -> None:
        self._inner, self._trap = inner, trap

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        asked = getattr(self._inner, name)

        async def ask(*values: Any, **named: Any) -> Any:
            self._trap(f"before {name}")
            answer = await asked(*values, **named)
            self._trap(f"after {name}")
            return answer

        return ask


def mortal_files(trap: Trap) -> None:
    """An instant before and after each file is flushed, linked or renamed; the process is a child of its own."""
    for name in ("fsync", "link", "replace", "rename"):
        setattr(os, name, _trapped(getattr(os, name), trap))


def _trapped(call: Callable[..., Any], trap: Trap) -> Callable[..., Any]:
    @wraps(call)
    def run(*values: Any, **named: Any) -> Any:
        trap("before")
        answer = call(*values, **named)
        trap("after")
        return answer

    return run


async def opened(
    storage: Storage, root_key: Path, clock: MovedClock
) -> tuple[KeyRotation, ResealingService]:
    """Keys and services as a server opens them; the epochs of an earlier life have rested."""
    sealer, rotation = await house_wiring._open_keys(RootKeyFile(root_key), storage, clock)
    service = ResealingService(storage.sealed_values, storage.retention, sealer, clock, SMALL)
    clock.advance(minutes=1)
    await rotation.refresh()
    return rotation, service


async def live(order: Order) -> None:
    """Go on with what is under way, or begin with another rotation."""
    trap = Trap(order.instant)
    clock = MovedClock(NOON + order.number * BETWEEN_LIVES)
    storage = open_storage(order.database_url, clock, trap)
    parts = {
        name: Mortal(getattr(storage, name), trap)
        for name in ("epochs", "sealed_values", "retention")
    }
    storage = replace(storage, **parts)  # type: ignore[arg-type]  # each answers as its inner one
    mortal_files(trap)
    rotation, service = await opened(storage, Path(order.root_key), clock)
    if order.rotates_root:
        kept = await rotation.rotate_root(DEFAULT_TENANT, "crash")
        os.write(1, f"root {kept}\n".encode())
    else:
        await _reseal(rotation, service, clock)
    await storage.close()


async def _reseal(rotation: KeyRotation, service: ResealingService, clock: MovedClock) -> None:
    if (await service.stand()).is_done:
        rotated = await rotation.rotate(DEFAULT_TENANT, "crash")
        os.write(1, f"epoch {rotated.epoch}\n".encode())
        clock.advance(minutes=1)
        await rotation.refresh()
    while not (await service.stand()).is_done:
        assert await service.take_turn()
        if await service.run_round():
            clock.advance(seconds=2)
    os.write(1, b"done 1\n")


def main() -> None:
    # Standard output is for what is acknowledged.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    for line in sys.stdin:
        order = Order.decode(line)
        if (child := os.fork()) == 0:
            faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True)
            if order.microseconds:
                # Nobody handles SIGALRM, so the kernel ends the process wherever it is.
                signal.setitimer(signal.ITIMER_REAL, order.microseconds / 1_000_000)
            try:
                asyncio.run(live(order))
            except Unavailable:
                os._exit(
                    NOT_PLAYED
                )  # the machine is too busy, or PostgreSQL has not heard of a death yet
            except BaseException as error:  # noqa: BLE001 - the child must never become a second parent
                os.write(2, f"{order}: {error!r}\n".encode())
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.write(1, f"died {os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    main()
