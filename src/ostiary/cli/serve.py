"""`ostiary serve`: the server, web and worker in one process."""

import asyncio
import json
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import structlog
import typer

from ostiary.app import Served, open_house
from ostiary.app import serve as serve_house
from ostiary.cli.background import run_async
from ostiary.cli.desk import DEFAULT_DATA, DataOption
from ostiary.errors import Unavailable
from ostiary.settings import Settings, load_settings
from ostiary.web.journal import open_journal


class ReadyFileUnusable(Unavailable):
    """The ready file cannot be written."""

    hint = "Make its directory first, or name another with --ready-file."


def serve(
    data: DataOption = DEFAULT_DATA,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Written once connections are accepted: JSON with url, listen and pid."),
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
) -> None:
    """Serve devices, programs and commands, and wake devices, until SIGTERM or Ctrl-C.

    With SQLite this is one process; a second one is refused. At the end, requests that are under way are
    answered first.

    Example: ostiary serve --data /var/lib/ostiary --ready-file /run/ostiary/ready
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
    open_journal(settings.log.format, settings.log.level)
    _allow_many_connections()
    try:
        run_async(_serve(settings, ready_file))
    finally:
        if ready_file is not None:
            with suppress(OSError):
                ready_file.unlink()


async def _serve(settings: Settings, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def ready(served: Served) -> None:
        if ready_file is not None:
            _write_at_once(ready_file, served)

    async with open_house(settings) as house:
        await serve_house(house, stop, ready=ready)
    structlog.get_logger().info("stopped")


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
