"""`ostiary filevault`: disks that are encrypted, and their recovery keys escrowed here."""

from typing import Annotated

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.failure import Exit, Failed
from ostiary.cli.output import say

app = typer.Typer(
    help="Encrypt Macs, and have their recovery keys escrowed here.", no_args_is_help=True
)


@app.callback()
def filevault() -> None:
    """Encrypt Macs, and have their recovery keys escrowed here."""


@app.command("install")
def install(
    enrollment: Annotated[
        str, typer.Argument(help="The enrollment id or the serial number of a Mac.")
    ],
    location: Annotated[
        str, typer.Option(help="Where the key goes, in words that the Mac shows to its user.")
    ],
    data: DataOption = DEFAULT_DATA,
    at_once: Annotated[
        bool,
        typer.Option(
            "--at-once",
            help="With --in-setup-assistant: encrypt there or not at all; nobody is asked at a later logout. For Macs that "
            "are handed over encrypted. Without it, who was not asked in Setup Assistant is asked at logout.",
        ),
    ] = False,
    bypasses: Annotated[
        int | None,
        typer.Option(
            help="Ask at login too: so often may a user say later, then FileVault is required; 0: at the next login.",
        ),
    ] = None,
    in_setup_assistant: Annotated[
        bool,
        typer.Option(
            "--in-setup-assistant",
            help="Have Setup Assistant turn it on: macOS 14, a Mac of automated enrollment that still waits there, whose "
            "first user is an administrator.",
        ),
    ] = False,
    hide_key: Annotated[
        bool, typer.Option("--hide-key", help="Do not show the recovery key to the user.")
    ] = False,
) -> None:
    """Send a Mac the profile that turns FileVault on and encrypts its recovery key to a key pair of its own, held here.

    FileVault needs a user's password, so the Mac asks the next user who logs out. --bypasses asks at login too, and
    --in-setup-assistant asks while the Mac is set up. On somebody's own Mac (User Enrollment) Apple forbids all of it.

    A Mac that was encrypted before escrows nothing until its key is rotated: `ostiary token rotate ID filevault-key`.

    Example: ostiary filevault install 4C0E7700-0000-4000-8000-000000000001 --location "the help desk"
    """
    if at_once and not in_setup_assistant:
        raise Failed(
            "--at-once alone would turn FileVault on for nobody: it needs a user's password, and no user would be asked; "
            "nothing was queued",
            "Leave --at-once out: the next user who logs out is asked; with --bypasses 0 the next who logs in. With "
            "--in-setup-assistant it is for Macs that still wait there.",
            Exit.USAGE,
        )
    if at_once and bypasses is not None:
        raise Failed(
            "--at-once asks nobody at login, and --bypasses says how often somebody may put that off; nothing was queued",
            "Leave one of them out.",
            Exit.USAGE,
        )
    content = {
        "id": enrollment,
        "location": location,
        "at_once": at_once,
        "bypasses": bypasses,
        "in_setup_assistant": in_setup_assistant,
        "hide_key": hide_key,
    }
    queued = ask(data, "POST", "/filevault", content=content)
    say(f"{enrollment}: the FileVault profile is queued as InstallProfile {queued['uuid']}.")
