"""`ostiary retention`: what is forgotten once it is old, and what would be now."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ostiary.cli.background import run_async
from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask, open_desk
from ostiary.cli.output import OUTPUT, Form, print_list, say

app = typer.Typer(
    help="What is forgotten once it is old; `ostiary policy set` says when.", no_args_is_help=True
)

_COLUMNS: Final = {
    "records": "RECORDS",
    "number": "WOULD GO NOW",
    "policy": "BY POLICY",
    "means": "WHAT THESE ARE",
}
_DROPPED: Final = {"records": "RECORDS", "number": "GONE"}
_STAYS: Final = (
    "What stays for ever: the audit, every token in force, and of older unlock and bootstrap tokens the first, the "
    "last few, the one that served longest and the one that was proven last."
)


@app.command("run")
def run(
    data: DataOption = DEFAULT_DATA,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would go, and remove nothing.")
    ] = False,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Remove what policy says is too old, now. A running server does so by itself, a little at a time.

    Example: ostiary retention run --dry-run
    """
    if dry_run:
        told = ask(data, "GET", "/retention")["items"]
        print_list(
            [_shown(line) for line in told] if output is Form.TABLE else told, _COLUMNS, output
        )
        say(_STAYS)
        return
    dropped = run_async(_sweep(data))
    print_list(
        [{"records": name, "number": n} for name, n in sorted(dropped.items())], _DROPPED, output
    )
    say(_STAYS)


async def _sweep(data: Path) -> Counter[str]:
    """Ask for one round after the other, so that devices have the database in between."""
    dropped: Counter[str] = Counter()
    async with open_desk(data) as desk:
        done = await desk.ask("POST", "/retention", content={"anew": True})
        dropped.update(done["dropped"])
        while not done["is_done"]:
            done = await desk.ask("POST", "/retention", content={})
            dropped.update(done["dropped"])
    return dropped


def _shown(line: dict[str, Any]) -> dict[str, Any]:
    return line if line["is_all"] else {**line, "number": f"{line['number']} or more"}
