"""`ostiary serve`: the server, web and worker in one process, or shared out over several."""

import asyncio
import gc
import json
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer

from ostiary.app import Part, Served, open_doors
from ostiary.app import serve as serve_house
from ostiary.cli.background import run_async
from ostiary.cli.current_house import open_current_house
from ostiary.cli.desk import DEFAULT_DATA, DataOption
from ostiary.cli.failure import Exit
from ostiary.cli.processes import Patience, Processes, Voice
from ostiary.errors import Refused, Unavailable
from ostiary.settings import Settings, load_settings
from ostiary.web.doors import Duty, OpenDoors
from ostiary.web.figures import SharedFigures
from ostiary.web.journal import open_journal

MOST_PROCESSES: Final = 64
_BEAT_SECONDS: Final = 1.0
_END_GRACE_SECONDS: Final = 20.0
"""What a process may take to end beyond the time that its requests have."""


class ReadyFileUnusable(Unavailable):
    """The ready file cannot be written."""

    hint = "Make its directory first, or name another with --ready-file."


class SqliteIsOneProcess(Refused):
    """SQLite has one writer, which is this server's one process."""

    hint = (
        "Leave out --only and --processes; or give the installation a PostgreSQL database, which any number of"
        " processes and nodes may share."
    )


def serve(
    data: DataOption = DEFAULT_DATA,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            help="Written once connections are accepted, by all processes: JSON with url, listen and pid."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain in PEM.", exists=True, dir_okay=False)
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="Its key in PEM, mode 0600.", exists=True, dir_okay=False)
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT to listen on; as ostiary.toml says by default.")
    ] = None,
    only: Annotated[
        Duty | None,
        typer.Option(
            help="web: serve, but leave pushing to other processes. worker: push, and answer only /healthz, /readyz"
            " and /metrics. PostgreSQL only; without it a process does both."
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_PROCESSES,
            metavar="N",
            help="Processes that share the port and the work, one for each processor core. PostgreSQL only.",
        ),
    ] = 1,
) -> None:
    """Serve devices, programs and commands, and wake devices, until SIGTERM or Ctrl-C.

    With SQLite this is one process; a second one is refused. On PostgreSQL --processes uses all cores of a machine,
    and any number of machines may serve one database, each with a copy of the data directory. At the end, requests
    that are under way are answered first.

    Example: ostiary serve --data /var/lib/ostiary --ready-file /run/ostiary/ready

    Example: ostiary serve --processes 4
    """
    flags: dict[str, object] = {"listen": listen}
    if tls_cert is not None or tls_key is not None:
        flags["tls"] = {
            "certificate": tls_cert.absolute() if tls_cert else None,
            "key": tls_key.absolute() if tls_key else None,
        }
    if ready_file is not None and not os.access(ready_file.absolute().parent, os.W_OK):
        raise ReadyFileUnusable(path=ready_file)
    settings = load_settings(data, **flags)
    _require_one_process(settings, only, processes)
    open_journal(settings.log.format, settings.log.level)
    _allow_many_connections()

    def ready(served: Served) -> None:
        if ready_file is not None:
            _write_at_once(ready_file, served)

    try:
        if processes == 1:
            run_async(_serve(settings, Part(only=only), ready))
        else:
            raise typer.Exit(_serve_in_several(settings, only, processes, ready))
    finally:
        if ready_file is not None:
            with suppress(OSError):
                ready_file.unlink()


def _require_one_process(settings: Settings, only: Duty | None, processes: int) -> None:
    if settings.database_url.startswith("sqlite:") and (only is not None or processes > 1):
        asked = f"--only {only}" if only is not None else f"--processes {processes}"
        raise SqliteIsOneProcess(
            f"this installation is on SQLite, which is one process: no {asked}"
        )


async def _serve(
    settings: Settings,
    part: Part,
    ready: Callable[[Served], None],
    beat: Callable[[], None] | None = None,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def keep_beating() -> None:
        if beat is not None:
            beat()
            loop.call_later(_BEAT_SECONDS, keep_beating)

    keep_beating()
    async with open_current_house(settings) as house:
        # What there is by now stays: looking through it again would cost devices a wait of 50 ms now and then.
        gc.collect()
        gc.freeze()
        await serve_house(house, stop, ready=ready, part=part)
    structlog.get_logger().info("stopped")


def _serve_in_several(
    settings: Settings, only: Duty | None, processes: int, ready: Callable[[Served], None]
) -> int:
    """Be the parent of them; the exit code."""
    doors = open_doors(settings, only, processes)
    figures = SharedFigures(processes)
    served = Served(url=settings.url, host=doors.address[0], port=doors.address[1])

    def work(number: int, voice: Voice) -> int:
        part = Part(only=only, number=number, doors=doors, figures=figures)
        run_async(_serve(settings, part, lambda _served: voice.ready(), voice.beat))
        return Exit.FINE

    patience = Patience(end_seconds=settings.bounds.drain_seconds + _END_GRACE_SECONDS)
    posts = _Posts(doors, figures)
    try:
        code = Processes(processes, work, posts, lambda: ready(served), patience).run()
    finally:
        doors.close()
    structlog.get_logger().info("stopped", processes=processes)
    return code


class _Posts:
    """What a process that died leaves to its successor."""

    def __init__(self, doors: OpenDoors, figures: SharedFigures) -> None:
        self._doors = doors
        self._figures = figures

    def hand_over(self, number: int) -> None:
        self._doors.hand_over(number)

    def renew(self, number: int) -> None:
        self._figures.bury(number)
        self._doors.renew(number)

    def close_ports(self) -> None:
        self._doors.close_ports()


def _write_at_once(path: Path, served: Served) -> None:
    """The whole file or none: whoever waits for it may read it as soon as it is there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    content = {"url": served.url, "listen": f"{served.host}:{served.port}", "pid": os.getpid()}
    beside.write_text(json.dumps(content) + "\n")
    beside.replace(path)


def _allow_many_connections() -> None:
    """As many open files as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
