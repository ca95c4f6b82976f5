"""`ostiary lights-out`: one Mac switches others on or off over the network."""

from typing import Annotated, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.failure import Exit, Failed
from ostiary.cli.output import OUTPUT, Form
from ostiary.cli.push import print_results
from ostiary.web.control_lights_out import SwitchWord

_COLUMNS: Final = {"id": "CONTROLLER", "request_type": "REQUEST TYPE", "uuid": "COMMAND"}


def lights_out(
    controller: Annotated[str, typer.Argument(help="Enrollment id of the Mac that switches.")],
    switch: Annotated[SwitchWord, typer.Argument(help="What it does to the others.")],
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="ID=DNSNAME…",
            help="The Macs to be switched, each with the DNS name in its lights-out certificate.",
        ),
    ],
    data: DataOption = DEFAULT_DATA,
    confirm: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Beyond the hourly cap on destructive commands: how many Macs are switched.",
        ),
    ] = None,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Let one Mac switch others on, off, or start them anew, whatever state they are in.

    All of them need a profile with the payload com.apple.lom. Ask the Macs to be switched first, and again after
    each restart, where they listen: `ostiary enqueue ID lom-setup-request`. The controller's answer has a line for
    each of them: `ostiary queue show COMMAND`.

    Example: ostiary lights-out 4C0E7700-… on 4C0E7701-…=mac-12.lom.example.org
    """
    content = {
        "controller": controller,
        "switch": switch,
        "targets": _named(targets),
        "confirm": confirm,
    }
    enqueued = ask(data, "POST", "/lights-out", content=content)
    common = {"uuid": enqueued["uuid"], "request_type": enqueued["request_type"]}
    results = [result | common for result in enqueued["results"]]
    raise typer.Exit(print_results(results, _COLUMNS, output))


def _named(targets: list[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for written in targets:
        target, equals, dns_name = written.partition("=")
        if not (target and equals and dns_name):
            raise Failed(
                f"{written} does not say both a Mac and its DNS name",
                "Write ID=DNSNAME, for example 4C0E7701-0000-4000-8000-000000000001=mac-12.lom.example.org.",
                Exit.USAGE,
            )
        named[target] = dns_name
    return named
