"""The demo's run: a real server, simulated devices and a simulated Apple, until it ends or somebody ends it."""

import asyncio
import shlex
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import typer
from rich.console import Console

from ostiary.cli.demo_board import Board
from ostiary.cli.demo_house import (
    make_house,
    push_through,
    serve_house,
)
from ostiary.cli.demo_scenes import play
from ostiary.cli.demo_screen import WIDE, Screen
from ostiary.cli.demo_stage import Stage
from ostiary.cli.desk import open_desk
from ostiary.cli.output import say
from ostiary.house import SystemClock
from ostiary_sim.connections import TlsClients
from ostiary_sim.world import SimulatedApple

_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERRUPTED: Final = 130
_LOOK_SECONDS: Final = 5.0


async def run_demo(data: Path, *, keep: bool, pause_seconds: float) -> None:
    """The demo until it ends, or somebody ends it."""
    playing = asyncio.ensure_future(_perform(data, keep=keep, pause_seconds=pause_seconds))
    _on_ending(playing.cancel)
    try:
        await playing
    except asyncio.CancelledError:
        say(f"Ended early; nothing runs any more. What there is of it is in {data}.")
        raise typer.Exit(_INTERRUPTED) from None


async def _perform(data: Path, *, keep: bool, pause_seconds: float) -> None:
    board = Board()
    screen = Screen(board, Console(highlight=False, width=None if sys.stdout.isatty() else WIDE))
    began = time.monotonic()
    try:
        async with _open_stage(data, board, screen, pause_seconds) as stage:
            await play(stage, stay=keep)
            seconds = time.monotonic() - began
            if keep:
                await _stay(stage, seconds)
    except BaseException:
        screen.freeze()  # how far it came
        raise
    if not keep:
        screen.freeze()
        _say_what_happened(stage, seconds)


@asynccontextmanager
async def _open_stage(
    data: Path, board: Board, screen: Screen, pause_seconds: float
) -> AsyncIterator[Stage]:
    """A new house that is served, an Apple, and no device yet; all of it gone afterwards but the files."""

    def tell(command: str) -> None:
        board.tell(SystemClock().now(), command)
        screen.refresh()

    board.act = "A new installation, and a server"
    house = await make_house(data, tell)
    async with AsyncExitStack() as stack:
        apple = await stack.enter_async_context(SimulatedApple(data / "apple"))
        push_through(house, apple.port, apple.ca_file)
        server = await stack.enter_async_context(serve_house(house))
        desk = await stack.enter_async_context(open_desk(data))
        clients = TlsClients(house.ca_file)
        stack.push_async_callback(clients.aclose)
        stage = Stage(
            house=house,
            server=server,
            apple=apple,
            desk=desk,
            board=board,
            screen=screen,
            pause_seconds=pause_seconds,
            clients=clients,
        )
        stack.push_async_callback(stage.close)
        async with stage.looked_at():
            yield stage


async def _stay(stage: Stage, seconds: float) -> None:
    """Let everything run until Ctrl-C."""
    stop = asyncio.Event()
    _on_ending(stop.set)
    await stage.look()
    stage.screen.freeze()
    _say_what_happened(stage, seconds)
    print(
        f"  {_program()} push {stage.devices[1].udid} --data {shlex.quote(str(stage.house.data))}"
    )
    print("Server and devices run until Ctrl-C; what they do appears here.", flush=True)
    while not stop.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await stop.wait()
        if not stop.is_set():
            stage.require_server()
            await stage.come_back()
    say("Ended; nothing runs any more.")


def _on_ending(act: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in _ENDINGS:
        loop.add_signal_handler(number, act)


def _say_what_happened(stage: Stage, seconds: float) -> None:
    accepted = [each for each in stage.apple.apns.requests if each.verdict.reason is None]
    users = sum(row.is_user for row in stage.board.rows)
    first, *_, mac = stage.devices
    program = _program()
    data = shlex.quote(str(stage.house.data))
    print()
    print(
        f"Every step happened, in {seconds:.0f} seconds: {len(stage.devices)} devices and {users} users,"
        f" {len(accepted)} pushes over HTTP/2, {len(stage.answered)} answers to commands."
    )
    print(
        f"Its files are in {data}; the server's log is {stage.house.log.name} there. Look closer:"
    )
    print(f"  {program} token list --all --data {data}")
    print(f"  {program} token history {first.udid} --data {data}")
    print(f"  {program} token escrow {mac.udid} --all --data {data}")
    print(f"  {program} device show {first.udid} --data {data}")
    print(f"  {program} queue list --all --data {data}")


def _program() -> str:
    """How this program was called, as a person would type it here again."""
    called = Path(sys.argv[0])
    if called.name != "ostiary":
        return "python -m ostiary"
    return "ostiary" if shutil.which("ostiary") == str(called) else str(called)
