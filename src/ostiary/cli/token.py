"""`ostiary token`: the ledger of tokens, without any value; its other half is in token_secrets.py."""

from typing import Annotated, Final

import typer

from ostiary.cli import token_changes, token_missing, token_secrets
from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask_all
from ostiary.cli.output import OUTPUT, Form, print_list

app = typer.Typer(
    help="Every token's life: what is held, since when, and why.", no_args_is_help=True
)

app.command("health")(token_secrets.health)
app.command("missing")(token_missing.missing)
app.command("escrow")(token_secrets.escrow)
app.command("reveal")(token_secrets.reveal)
app.command("rotate")(token_changes.rotate)
app.command("set")(token_changes.set_value)
app.command("clear")(token_changes.clear)
app.command("verify")(token_changes.verify)

_LIST: Final = {
    "holder": "HOLDER",
    "kind": "KIND",
    "generation": "GEN",
    "state": "STATE",
    "received": "RECEIVED",
    "proven": "PROVEN",
    "consequence": "MEANS",
}
_HISTORY: Final = {
    "kind": "KIND",
    "generation": "GEN",
    "holder": "HOLDER",
    "state": "STATE",
    "received": "RECEIVED",
    "changed": "CHANGED",
    "source": "SOURCE",
    "size": "BYTES",
    "digest": "DIGEST",
    "cause": "CAUSE",
    "proven_by": "PROVEN BY",
}


_DEAD: Final = {
    "id": "ENROLLMENT",
    "type": "TYPE",
    "model": "MODEL",
    "dead_since": "DEAD SINCE",
    "reason": "REASON",
    "last_seen": "LAST SEEN",
    "why": "WHY",
    "heals": "WHAT HEALS IT",
}


@app.command("list")
def list_tokens(
    data: DataOption = DEFAULT_DATA,
    kind: Annotated[
        str | None, typer.Option(help="Only this kind: push, unlock, bootstrap, identity, …")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Superseded and dead ones as well.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 10_000,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """List the tokens that are held: states, never values.

    Example: ostiary token list --kind unlock -o csv
    """
    params = {"kind": kind, "all": "1" if every else None}
    found = ask_all(data, "/tokens", params, limit)
    if output is Form.TABLE:
        found.sort(key=lambda line: (line["holder"], line["kind"], line["generation"]))
    print_list(found, _LIST, output)


@app.command("dead")
def dead_pushes(
    data: DataOption = DEFAULT_DATA,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 10_000,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """List push tokens that APNs declared dead: why, since when, and what would heal each.

    Such a device stays enrolled, and what is queued for it waits; only nobody can wake it.

    Example: ostiary token dead -o csv
    """
    print_list(ask_all(data, "/tokens/dead-pushes", {}, limit), _DEAD, output)


@app.command("history")
def history(
    enrollment: Annotated[
        str, typer.Argument(help="The enrollment id, the serial number, or another holder.")
    ],
    data: DataOption = DEFAULT_DATA,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Every generation of every token of one device and its users: what brought it, what became of it.

    Example: ostiary token history 4C0E7700-0000-4000-8000-000000000001
    """
    lines = ask_all(data, "/tokens/history", {"id": enrollment}, 1)
    print_list(lines, _HISTORY, output)
