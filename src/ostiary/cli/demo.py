"""`ostiary demo`: a real server, simulated devices and a simulated Apple, live in this terminal."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from ostiary.cli.background import run_async
from ostiary.cli.demo_board import Board
from ostiary.cli.demo_house import (
    DemoFailed,
    DemoHouse,
    forget_settings_of_environment,
    make_house,
    push_through,
    serve_house,
)
from ostiary.cli.demo_scenes import play
from ostiary.cli.demo_screen import Screen, open_screen, render
from ostiary.cli.demo_stage import Stage
from ostiary.cli.desk import open_desk
from ostiary.cli.output import say
from ostiary.settings import Places
from ostiary_sim.connections import TlsClients
from ostiary_sim.world import SimulatedApple

PAUSE_SECONDS: Final = 2.5
_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERRUPTED: Final = 130


def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="A new directory for it; a temporary one by default.", file_okay=False),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="At the end let server and devices run, until Ctrl-C.")
    ] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Without pauses to look.")] = False,
) -> None:
    """Watch simulated devices enroll in a real server on this machine, be woken, obey, and leave.

    An iPhone, an iPad, a Shared iPad with two users and a Mac with a user; a simulated push service of Apple's;
    everything on loopback. It takes about a minute, ends by itself and leaves nothing running. Exit code 0 if
    every step happened.

    Example: ostiary demo --keep --data ./demo-data
    """
    forget_settings_of_environment()
    where = Path(tempfile.mkdtemp(prefix="ostiary-demo-")) if data is None else data.absolute()
    run_async(_run(where, keep=keep, pause_seconds=0 if fast else PAUSE_SECONDS))


async def _run(data: Path, *, keep: bool, pause_seconds: float) -> None:
    """The demo until it ends or somebody ends it."""
    playing = asyncio.ensure_future(_perform(data, keep=keep, pause_seconds=pause_seconds))
    loop = asyncio.get_running_loop()
    for number in _ENDINGS:
        loop.add_signal_handler(number, playing.cancel)
    try:
        await playing
    except asyncio.CancelledError:
        if Places(data).settings_file.exists():
            say(f"Ended before its end. What there is of it is in {data}.")
        raise typer.Exit(_INTERRUPTED) from None


async def _perform(data: Path, *, keep: bool, pause_seconds: float) -> None:
    began = time.monotonic()
    board, console = Board(), Console(highlight=False)
    async with AsyncExitStack() as stack:
        screen = stack.enter_context(open_screen(board, console))
        ...
