"""`ostiary filevault`: disks that are encrypted, and their recovery keys escrowed here."""

from typing import Annotated

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.output import say

app = typer.Typer(
    help="Encrypt Macs, and have their recovery keys escrowed here.", no_args_is_help=True
)


@app.callback()
def filevault() -> None:
    """Encrypt Macs, and have their recovery keys escrowed here."""


@app.command("install")
def install(
    enrollment: Annotated[str, typer.Argument(help="The enrollment id of a Mac.")],
    location: Annotated[
        str, typer.Option(help="Where the key goes, in words that the Mac shows to its user.")
    ],
    data: DataOption = DEFAULT_DATA,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Do not wait until a user logs out.")
    ] = False,
    bypasses: Annotated[
        int | None, typer.Option(help="How often a user may say later at login; 0: never.")
    ] = None,
    in_setup_assistant: Annotated[
        bool, typer.Option("--in-setup-assistant", help="macOS 14, automated enrollment.")
    ] = False,
    hide_key: Annotated[
        bool, typer.Option("--hide-key", help="Do not show the recovery key to the user.")
    ] = False,
) -> None:
    """Send a Mac the profile that turns FileVault on and encrypts its recovery key to a key pair of its own, held here.

    A Mac that was encrypted before escrows nothing until its key is rotated: `ostiary token rotate ID filevault-key`.

    Example: ostiary filevault install 4C0E7700-0000-4000-8000-000000000001 --location "the help desk"
    """
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
