"""`ostiary device`: who is enrolled, and what people decide about them."""

import sys
from typing import Annotated, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask, ask_all
from ostiary.cli.failure import Exit, Failed
from ostiary.cli.output import OUTPUT, Form, print_facts, print_list, say
from ostiary.domain.enrollment import State

app = typer.Typer(help="Enrolled devices and their users.", no_args_is_help=True)

COLUMNS: Final = {
    "id": "ID",
    "type": "TYPE",
    "state": "STATE",
    "standing": "STANDING",
    "serial": "SERIAL",
    "name": "NAME",
    "model": "MODEL",
    "os": "OS",
    "push": "PUSH",
    "last_seen": "LAST SEEN",
}
_CERTIFICATES: Final = {
    "fingerprint": "CERTIFICATE",
    "proof": "PROOF",
    "bound": "BOUND",
    "not_after": "ENDS",
    "superseded": "SUPERSEDED",
}
_TOKENS: Final = {
    "holder": "HOLDER",
    "kind": "TOKEN",
    "generation": "GEN",
    "state": "STATE",
    "received": "RECEIVED",
    "proven_by": "PROVEN BY",
}
_COMMANDS: Final = {
    "uuid": "COMMAND",
    "request_type": "REQUEST TYPE",
    "state": "STATE",
    "queued": "QUEUED",
    "hand_outs": "SENT",
}

_ALERTS: Final = {"kind": "ALERT", "count": "TIMES", "last": "LAST", "sentence": "WHAT TO DO"}

ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit.")]
OutputOption = Annotated[Form, OUTPUT]


@app.command("list")
def list_devices(
    data: DataOption = DEFAULT_DATA,
    state: Annotated[str | None, typer.Option(help=f"Only those: {', '.join(State)}.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 10_000,
    output: OutputOption = Form.TABLE,
) -> None:
    """List devices and user channels.

    Example: ostiary device list --data /var/lib/ostiary --state enrolled -o csv
    """
    print_list(ask_all(data, "/devices", {"state": state}, limit), COLUMNS, output)


@app.command("show")
def show_device(
    enrollment: Annotated[
        str,
        typer.Argument(help="The enrollment id, as `device list` shows it, or the serial number."),
    ],
    data: DataOption = DEFAULT_DATA,
    output: OutputOption = Form.TABLE,
) -> None:
    """Show all that is known of one device: its relationships, certificates, tokens, waiting commands, alerts.

    Example: ostiary device show 4C0E7700-0000-4000-8000-000000000001
    """
    found = ask(data, "GET", "/device", params={"id": enrollment})
    if output is not Form.TABLE:
        # What belongs together in several lists has no form as a table of one kind: csv is json here.
        print_facts(found, Form.JSON if output is Form.CSV else output)
        return
    for row in found["enrollments"]:
        print_facts(row, Form.TABLE)
        print()
    for part, columns in (
        ("certificates", _CERTIFICATES),
        ("tokens", _TOKENS),
        ("commands", _COMMANDS),
        ("alerts", _ALERTS),
    ):
        if found[part]:
            print_list(found[part], columns, Form.TABLE)
            print()


@app.command("accept-certificate")
def accept_certificate(
    enrollment: Annotated[str, typer.Argument(help="The enrollment id, or the serial number.")],
    data: DataOption = DEFAULT_DATA,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            help="SHA-256 of the certificate, in hexadecimal; needed where nobody contests the enrollment."
        ),
    ] = None,
    reason: ReasonOption = "",
) -> None:
    """Vouch for the certificate of a device: settle a contest, or let a new certificate in once.

    Example: ostiary device accept-certificate 4C0E7700-… --reason "logic board replaced"
    """
    content = {"id": enrollment, "fingerprint": fingerprint, "reason": reason or None}
    row = ask(data, "POST", "/device/accept-certificate", content=content)
    when = "accepted" if fingerprint is None else "accepted at its next check-in"
    say(f"{row['id']}: the certificate is {when}.")


@app.command("keep-certificate")
def keep_certificate(
    enrollment: Annotated[str, typer.Argument(help="The enrollment id, or the serial number.")],
    data: DataOption = DEFAULT_DATA,
    reason: ReasonOption = "",
) -> None:
    """Settle a contest for the certificate in use: every newcomer that claims the device is turned away.

    Example: ostiary device keep-certificate 4C0E7700-… --reason "the Mac is on my desk, untouched"
    """
    content = {"id": enrollment, "reason": reason or None}
    row = ask(data, "POST", "/device/keep-certificate", content=content)
    say(f"{row['id']}: the newcomers are turned away.")


@app.command("release")
def release(
    enrollment: Annotated[str, typer.Argument(help="The enrollment id, or the serial number.")],
    data: DataOption = DEFAULT_DATA,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: ReasonOption = "",
) -> None:
    """Let a device go: at its next request it is told to leave management.

    Its tokens are kept, retired; its waiting commands are cancelled.

    Example: ostiary device release 4C0E7700-… --yes --reason "sold"
    """
    if not yes and not sys.stdin.isatty():
        raise Failed(
            "--yes is needed when nobody can be asked; nothing was released",
            "Add --yes if the device is to leave; on a terminal the question is asked.",
            Exit.USAGE,
        )
    if not yes:
        typer.confirm(
            f"Device {enrollment} will remove its enrollment profile. Release it?", abort=True
        )
    content = {"id": enrollment, "reason": reason or None}
    row = ask(data, "POST", "/device/release", content=content)
    say(f"{row['id']} is released: it leaves at its next contact.")
