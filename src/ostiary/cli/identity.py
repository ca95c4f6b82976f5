"""`ostiary identity`: the certificates that devices speak with."""

from typing import Annotated, Any, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask, ask_all
from ostiary.cli.durations import duration
from ostiary.cli.failure import Exit, Failed
from ostiary.cli.output import OUTPUT, Form, print_list, say
from ostiary.cli.push import print_results
from ostiary.web.asks import MOST_LINES

app = typer.Typer(help="The certificates that devices speak with.", no_args_is_help=True)

_COLUMNS: Final = {
    "id": "ENROLLMENT",
    "not_after": "ENDS",
    "life_left": "LIFE LEFT %",
    "proof": "PROOF",
    "renewal": "RENEWAL",
    "renews_at": "RENEWS AT",
    "attempts": "FAILED",
    "outcome": "LAST OUTCOME",
    "mark": "LOOK AT",
}
_SENT: Final = {"id": "ENROLLMENT", "uuid": "COMMAND"}
_GATES: Final = {
    "open": "Devices are asked as their turn comes",
    "unproven": "A few devices are asked first, and the others wait until these have renewed",
    "waiting": "The others wait until those asked first have renewed",
    "stopped": "Nobody else is asked until those that failed have renewed",
}

OutputOption = Annotated[Form, OUTPUT]


@app.command("list")
def list_identities(
    data: DataOption = DEFAULT_DATA,
    expiring: Annotated[
        str | None,
        typer.Option(
            help="Only those that end within this time, or have ended: 30d.", metavar="SPAN"
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 1000,
    output: OutputOption = Form.TABLE,
) -> None:
    """List the certificates in force, the first to end in front: how each was proven, and where its renewal stands.

    A certificate that was taken at its first use is marked: nobody has proven that it is this device's.

    Example: ostiary identity list --expiring 60d -o csv
    """
    within = int(duration(expiring).total_seconds()) if expiring else None
    found = ask_all(data, "/identities", {"within_seconds": within}, limit)
    _print_identities(found, output)


@app.command("renew")
def renew(
    enrollments: Annotated[
        list[str] | None,
        typer.Argument(help="Enrollment ids or serial numbers of devices.", show_default=False),
    ] = None,
    data: DataOption = DEFAULT_DATA,
    due: Annotated[
        bool,
        typer.Option("--due", help="Those whose turn it is by policy, in place of named ones."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --due: tell who and when, and ask nobody.")
    ] = False,
    within: Annotated[
        str | None,
        typer.Option(
            help="With --dry-run: also whose turn comes within this time.", metavar="SPAN"
        ),
    ] = None,
    output: OutputOption = Form.TABLE,
) -> None:
    """Renew devices' identities: send each its enrollment profile again, with a credential for it alone.

    The certificate in use stays valid until the device uses the new one; tokens and waiting commands stay. If
    the device cannot take the new one, it goes on with the old. A running server does this by itself, as
    `ostiary policy list` says.

    Example: ostiary identity renew 4C0E7700-0000-4000-8000-000000000001

    Example: ostiary identity renew --due --dry-run --within 30d
    """
    if due == bool(enrollments):
        raise Failed(
            "name the devices, or say --due, and not both; nobody was asked",
            "`ostiary identity list` shows them, the first to end in front; --due asks those whose turn it is.",
            Exit.USAGE,
        )
    if (dry_run or within) and not (due and dry_run):
        raise Failed(
            "--dry-run and --within tell of those whose turn it is, and go with --due; nobody was asked",
            "Tell who and when: ostiary identity renew --due --dry-run --within 30d",
            Exit.USAGE,
        )
    if enrollments:
        answer = ask(data, "POST", "/identities/renew", content={"ids": enrollments})
        raise typer.Exit(print_results(answer["results"], _SENT, output))
    if dry_run:
        _look_ahead(data, within, output)
        return
    done = ask(data, "POST", "/identities/renew-due", content={})
    say(f"Asked now: {done['asked']}. {_told_gate(done)}")


def _look_ahead(data: Any, within: str | None, output: Form) -> None:
    seconds = int(duration(within).total_seconds()) if within else 0
    params = {"within_seconds": seconds, "limit": MOST_LINES}
    found = ask(data, "GET", "/identities/due", params=params)
    _print_identities(found["items"], output)
    say(_told_gate(found))
    if not found["is_all"]:
        say(f"There is more than these {len(found['items'])}.")


def _told_gate(found: dict[str, Any]) -> str:
    return f"{_GATES[found['gate']]}: {found['why']}."


def _print_identities(items: list[dict[str, Any]], output: Form) -> None:
    told = [line | {"mark": _mark(line)} for line in items]
    print_list(told, _COLUMNS, output)


def _mark(line: dict[str, Any]) -> str:
    """What a person should look at."""
    marks = (
        ("not proven: taken at first use", line["suspicious"]),
        ("has ended", line["life_left"] < 0),
        ("canary", line["canary"]),
    )
    return ", ".join(word for word, holds in marks if holds)
