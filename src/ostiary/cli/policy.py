"""`ostiary policy`: the choices that operators own."""

from typing import Annotated, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.output import OUTPUT, Form, print_list, say

app = typer.Typer(
    help="Choices that the facts leave open; kept in the database.", no_args_is_help=True
)

_COLUMNS: Final = {
    "name": "POLICY",
    "value": "VALUE",
    "choices": "CHOICES",
    "means": "WHAT IT DECIDES",
}


@app.command("list")
def list_policies(
    data: DataOption = DEFAULT_DATA, output: Annotated[Form, OUTPUT] = Form.TABLE
) -> None:
    """List every policy with its value in force, what else it can be, and what it decides.

    Example: ostiary policy list -o json
    """
    print_list(ask(data, "GET", "/policies")["items"], _COLUMNS, output)


@app.command("set")
def set_policy(
    name: Annotated[str, typer.Argument(help="The policy, as `policy list` shows it.")],
    value: Annotated[str, typer.Argument(help="Its new value; `policy list` shows the choices.")],
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Set one policy for everybody; servers take it up within five seconds.

    Spans of time have a unit: 90m, 24h, 30d; a number alone means seconds. The longest is 9999d, as good as for ever.

    Example: ostiary policy set keep_ended_commands 30d
    """
    now = ask(data, "POST", "/policies", content={"name": name, "value": value})
    say(f"{now['name']} is {now['value']}.")
