"""`ostiary api-token`: what programs sign in with."""

from typing import Annotated, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.durations import duration
from ostiary.cli.output import say
from ostiary.services.caller import SCOPE_MEANINGS, Scope

app = typer.Typer(help="Tokens that programs sign in with.", no_args_is_help=True)

# Without \b the lines would be run together.
_SCOPES: Final = "\b\nScopes:\n" + "\n".join(
    f"  {scope:<21} {meaning}" for scope, meaning in SCOPE_MEANINGS.items()
)


@app.command("create", epilog=_SCOPES)
def create(
    name: Annotated[str, typer.Argument(help="What it is for; shown in the audit.")],
    scope: Annotated[
        list[Scope],
        typer.Option(metavar="SCOPE", help="What it may do, as below; may be given again."),
    ],
    data: DataOption = DEFAULT_DATA,
    valid: Annotated[str, typer.Option(help="For how long: 24h, 365d.")] = "365d",
    replace: Annotated[
        bool, typer.Option("--replace", help="End the token of this name that is in force.")
    ] = False,
) -> None:
    """Make an API token and print it. Only its digest is kept, so nobody can show it a second time.

    A name that is in force is refused; with --replace, its old token ends at once and the new one takes its place.

    Example: ostiary api-token create prometheus --scope read --valid 90d
    """
    content = {
        "name": name,
        "scopes": [one.value for one in scope],
        "valid_seconds": int(duration(valid).total_seconds()),
        "replace": replace,
    }
    print(ask(data, "POST", "/api-tokens", content=content)["token"])
    say(f"{name}: {', '.join(scope)}, for {valid}.")
