"""`ostiary api-token`: what programs sign in with."""

from typing import Annotated

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.durations import duration
from ostiary.cli.output import say
from ostiary.services.caller import Scope

app = typer.Typer(help="Tokens that programs sign in with.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What it is for; shown in the audit.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; may be given again.")],
    data: DataOption = DEFAULT_DATA,
    valid: Annotated[str, typer.Option(help="For how long: 24h, 365d.")] = "365d",
) -> None:
    """Make an API token and print it. Only its digest is kept, so nobody can show it a second time.

    Example: ostiary api-token create prometheus --scope read --valid 90d
    """
    content = {
        "name": name,
        "scopes": [one.value for one in scope],
        "valid_seconds": int(duration(valid).total_seconds()),
    }
    print(ask(data, "POST", "/api-tokens", content=content)["token"])
    say(f"{name}: {', '.join(scope)}, for {valid}.")
