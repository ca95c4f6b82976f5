"""`ostiary queue`: the commands that wait for devices, and those that ended."""

from typing import Annotated, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask, ask_all
from ostiary.cli.output import OUTPUT, Form, print_facts, print_list, say

app = typer.Typer(help="Commands that wait for devices.", no_args_is_help=True)

COLUMNS: Final = {
    "enrollment": "ENROLLMENT",
    "uuid": "COMMAND",
    "request_type": "REQUEST TYPE",
    "state": "STATE",
    "queued": "QUEUED",
    "hand_outs": "SENT",
    "source": "SOURCE",
}
"""What a table shows; the result, which may be long, is in `queue show` and the other forms."""


@app.command("list")
def list_commands(
    enrollment: Annotated[
        str | None, typer.Argument(help="Only of this one: an enrollment id or a serial number.")
    ] = None,
    data: DataOption = DEFAULT_DATA,
    ended: Annotated[bool, typer.Option("--all", help="Ended commands as well.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1000)] = 500,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """List commands in the order in which they are handed out.

    Example: ostiary queue list 4C0E7700-0000-4000-8000-000000000001 --all -o json
    """
    params = {"id": enrollment, "all": "1" if ended else None}
    columns = COLUMNS if output is Form.TABLE else {**COLUMNS, "result": "RESULT"}
    print_list(ask_all(data, "/commands", params, limit), columns, output)


@app.command("show")
def show_command(
    command: Annotated[str, typer.Argument(help="The command's UUID, as `queue list` shows it.")],
    data: DataOption = DEFAULT_DATA,
    enrollment: Annotated[
        str | None, typer.Option(help="Only of this one: an enrollment id or a serial number.")
    ] = None,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Show all that is known of one command, once for each enrollment that it was queued for.

    Example: ostiary queue show 1B6F0D2A-0000-4000-8000-000000000001
    """
    found = ask(data, "GET", "/command", params={"uuid": command, "id": enrollment})["items"]
    if output is not Form.TABLE:
        print_list(found, dict.fromkeys(found[0], ""), output)
        return
    for number, line in enumerate(found):
        if number:
            print()
        print_facts(line, Form.TABLE)


@app.command("cancel")
def cancel(
    enrollment: Annotated[str, typer.Argument(help="The enrollment id, or the serial number.")],
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
