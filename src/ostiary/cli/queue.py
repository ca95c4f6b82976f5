"""`ostiary queue`: the commands that wait for devices, and those that ended."""

from typing import Annotated, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask, ask_all
from ostiary.cli.output import OUTPUT, Form, print_list, say

app = typer.Typer(help="Commands that wait for devices.", no_args_is_help=True)

COLUMNS: Final = {
    "enrollment": "ENROLLMENT",
    "uuid": "COMMAND",
    "request_type": "REQUEST TYPE",
    "state": "STATE",
    "queued": "QUEUED",
    "hand_outs": "SENT",
    "source": "SOURCE",
    "result": "RESULT",
}


@app.command("list")
def list_commands(
    enrollment: Annotated[str | None, typer.Argument(help="Only of this enrollment.")] = None,
    data: DataOption = DEFAULT_DATA,
    ended: Annotated[bool, typer.Option("--all", help="Ended commands as well.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1000)] = 500,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """List commands in the order in which they are handed out.

    Example: ostiary queue list 4C0E7700-0000-4000-8000-000000000001 --all -o json
    """
    params = {"id": enrollment, "all": "1" if ended else None}
    print_list(ask_all(data, "/commands", params, limit), COLUMNS, output)


@app.command("cancel")
def cancel(
    enrollment: Annotated[str, typer.Argument(help="The enrollment id.")],
    command: Annotated[str, typer.Argument(help="The command's UUID, as `queue list` shows it.")],
    data: DataOption = DEFAULT_DATA,
    reason: Annotated[str, typer.Option(help="Why; it is kept in the audit.")] = "",
) -> None:
    """Cancel a command that has not ended. What a device already received, it may still do.

    Example: ostiary queue cancel 4C0E7700-… 1B6F0D2A-… --reason "wrong device"
    """
    content = {"id": enrollment, "uuid": command, "reason": reason or None}
    closed = ask(data, "POST", "/commands/cancel", content=content)
    say(f"{closed['uuid']}: {closed['state']}.")
