"""`ostiary enroll`: invitations for people, and a second pair of eyes for enrollment profiles."""

from pathlib import Path
from typing import Annotated

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.durations import duration
from ostiary.cli.failure import Exit, malformed_file
from ostiary.cli.output import OUTPUT, Form, print_facts, print_list, say
from ostiary.house import SystemClock
from ostiary.protocol.mdm.profile_linter import Severity, compare_for_renewal, lint_profile

app = typer.Typer(help="How devices come in.", no_args_is_help=True)


@app.command("invite")
def invite(
    data: DataOption = DEFAULT_DATA,
    serial: Annotated[
        str | None, typer.Option(help="Only the device with this serial number.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Whom it is for.")] = None,
    valid: Annotated[str, typer.Option(help="For how long: 30m, 24h, 7d.")] = "24h",
    uses: Annotated[int, typer.Option(help="How many devices may enroll with it.", min=1)] = 1,
    output: Annotated[Form | None, OUTPUT] = None,
) -> None:
    """Print an address where a device gets its enrollment profile. It is shown once and works as often as allowed.

    Example: ostiary enroll invite --serial C02XK1ZGJGH5 --valid 2h
    """
    content = {
        "serial": serial,
        "user": user,
        "valid_seconds": int(duration(valid).total_seconds()),
        "uses": uses,
    }
    invitation = ask(data, "POST", "/invitations", content=content)
    can_enroll = invitation.pop("can_enroll", True)
    if output is not None:
        print_facts(invitation, output)
    else:
        print(invitation["url"])
        said = f"Code {invitation['code']}, until {invitation['valid_until']}"
        say(f"{said}, for {invitation['uses']} device(s).")
    if not can_enroll:
        say(
            "Warning: no usable push certificate is held, and nobody can enroll without: `ostiary apns csr`."
        )


@app.command("lint")
def lint(
    profile: Annotated[
        Path, typer.Argument(help="A .mobileconfig, signed or not.", exists=True, dir_okay=False)
    ],
    installed: Annotated[
        Path | None,
        typer.Option(
            help="The profile on the devices: say also what would keep this one from renewing it.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Name what an enrollment profile lacks: a missing capability is why tokens never arrive.

    Exit code 0: nothing to say; 4: something to look at; 5: devices would fail.

    Example: ostiary enroll lint enroll.mobileconfig
    """
    with malformed_file(
        "A .mobileconfig is a property list, signed or not: name the file that devices get."
    ):
        findings = lint_profile(profile.read_bytes(), now=SystemClock().now())
        if installed is not None:
            findings += compare_for_renewal(installed.read_bytes(), profile.read_bytes())
    rows = [
        {"severity": finding.severity.value, "key": finding.key, "finding": finding.sentence}
        for finding in findings
    ]
    if not rows and output is Form.TABLE:
        say("Nothing to complain about.")
        return
    print_list(rows, {"severity": "SEVERITY", "key": "KEY", "finding": "FINDING"}, output)
    found = {finding.severity for finding in findings}
    if Severity.ERROR in found:
        raise typer.Exit(Exit.HEALTH_CRITICAL)
    if Severity.WARNING in found:
        raise typer.Exit(Exit.HEALTH_WARNING)
