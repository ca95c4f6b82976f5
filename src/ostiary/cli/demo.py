"""`ostiary demo`: a real server, simulated devices and a simulated Apple, live in this terminal."""

import sys
import tempfile
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Final

import typer

from ostiary.cli.background import run_async

PAUSE_SECONDS: Final = 2.0


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
    """Watch simulated devices enroll in a real server on this machine, be woken, obey, hand over secrets, and leave.

    An iPhone, an iPad, a Shared iPad with two users and a Mac with a user; a simulated push service of Apple's;
    everything on loopback. It takes about a minute and a half, ends by itself and leaves nothing running. Exit code
    0 if every step happened.

    Example: ostiary demo --keep --data ./demo-data
    """
    # The simulator and the whole server: nobody else's commands should wait for these.
    from ostiary.cli.demo_house import forget_settings_of_environment  # noqa: PLC0415
    from ostiary.cli.demo_run import run_demo  # noqa: PLC0415

    forget_settings_of_environment()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may not know every sign of ours
    where = Path(tempfile.mkdtemp(prefix="ostiary-demo-")) if data is None else data.absolute()
    run_async(run_demo(where, keep=keep, pause_seconds=0 if fast else PAUSE_SECONDS))
