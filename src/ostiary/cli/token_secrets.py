"""`ostiary token health`, `escrow` and `reveal`: what is held of a device's secrets, whether it works, and what it is."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask, ask_all
from ostiary.cli.failure import Exit
from ostiary.cli.output import OUTPUT, Form, print_facts, print_list, printable, say
from ostiary.domain.secret_shell import as_arguments
from ostiary.web.control_secrets import SeverityWord

_HEALTH: Final = {
    "id": "ENROLLMENT",
    "serial": "SERIAL",
    "name": "NAME",
    "os": "OS",
    "severity": "",
    "health": "BOOTSTRAP TOKEN",
    "proven": "PROVEN",
    "causes": "WHY",
    "todo": "TO DO",
}
_PAGE: Final = (
    "id", "serial", "name", "model", "os", "enrollment", "last_seen", "health", "severity",
    "means", "supported", "allowed", "escrowed", "generation", "received", "proven", "proven_by",
    "preflight", "todo",
)  # fmt: skip
_ESCROW: Final = {
    "kind": "SECRET",
    "state": "STATE",
    "generation": "GEN",
    "candidate": "OR GEN",
    "since": "SINCE",
    "disclosed": "SHOWN",
    "rotation_due": "ROTATES",
    "trouble": "TROUBLE",
    "can": "CAN",
}
_GENERATIONS: Final = {
    "kind": "SECRET",
    "generation": "GEN",
    "state": "STATE",
    "received": "RECEIVED",
    "changed": "CHANGED",
    "disclosed": "SHOWN",
    "proven_by": "PROVEN BY",
    "cause": "CAUSE",
}
_VALUES: Final = {
    "generation": "GEN",
    "role": "ROLE",
    "state": "STATE",
    "received": "RECEIVED",
    "value": "VALUE",
}
EXITS: Final[Mapping[str, Exit]] = {
    SeverityWord.FINE: Exit.FINE,
    SeverityWord.WARNING: Exit.HEALTH_WARNING,
    SeverityWord.CRITICAL: Exit.HEALTH_CRITICAL,
}

Line = dict[str, Any]
EnrollmentArgument = Annotated[
    str, typer.Argument(help="The enrollment id, as `device list` shows it, or the serial number.")
]


def health(
    enrollments: Annotated[
        list[str] | None,
        typer.Argument(help="Enrollment ids or serial numbers; all Macs if none is named."),
    ] = None,
    data: DataOption = DEFAULT_DATA,
    severity: Annotated[
        SeverityWord, typer.Option(help="Only those that are at least so bad.")
    ] = SeverityWord.FINE,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 10_000,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Tell whether bootstrap tokens are held and were ever used, why one is missing, and what to type at the Mac.

    The worst come first. One device named alone has a page, with who holds a SecureToken and both `profiles` commands.

    Exit code 0: all is well; 4: something to look at; 5: a token is lost or suspect.

    Example: ostiary token health --severity warning -o csv
    """
    if enrollments:
        found = [ask(data, "GET", "/bootstrap-token", params={"id": one}) for one in enrollments]
        found.sort(key=lambda line: -EXITS[line["severity"]])
    else:
        found = ask_all(data, "/bootstrap-tokens", {"severity": severity.value}, limit)
    if output is Form.TABLE and enrollments and len(found) == 1:
        _print_page(found[0])
    else:
        print_list(found, _HEALTH, output)
    raise typer.Exit(max((EXITS[line["severity"]] for line in found), default=Exit.FINE))


def escrow(
    enrollment: EnrollmentArgument,
    data: DataOption = DEFAULT_DATA,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every generation as well, superseded and retired ones; in json, jsonl and csv these alone.",
        ),
    ] = False,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Tell of every escrowed secret of one device where it stands and what can be done; never a value.

    Where a change is under way or its answer was lost, both generations are named, the one that was in force first.

    Example: ostiary token escrow 4C0E7700-0000-4000-8000-000000000001
    """
    found = ask(data, "GET", "/secrets", params={"id": enrollment})
    generations: list[Line] = found["generations"] if every else []
    if output is not Form.TABLE:
        if every:
            print_list(generations, _GENERATIONS, output)
        else:
            print_list(found["secrets"], _ESCROW, output)
        return
    print_list(found["secrets"], _ESCROW, Form.TABLE)
    for line in found["secrets"]:
        _explain(line)
    if found["erase"]:
        print(f"\nLast erase: {printable(found['erase'])}.")
    if generations:
        print()
        print_list(generations, _GENERATIONS, Form.TABLE)


def reveal(
    enrollment: EnrollmentArgument,
    kind: Annotated[
        str, typer.Argument(help="The secret, as `token escrow` names it, e.g. recovery-lock.")
    ],
    data: DataOption = DEFAULT_DATA,
    reason: Annotated[
        str, typer.Option(help="Why; it is asked for, and kept in the audit with your name.")
    ] = "",
    generation: Annotated[
        int | None,
        typer.Option(help="This generation instead of the one in force; any that is kept.", min=1),
    ] = None,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Show the value of one secret. That you did, and why, is written down before it is shown.

    The value goes to standard output, all else to standard error. Where two values may be in force, both are shown,
    the older one first. What can be replaced by a command is replaced an hour later (policy rotate_after_reveal).

    Example: ostiary token reveal 4C0E7700-0000-4000-8000-000000000001 filevault-key --reason "ticket 4711"
    """
    content = {"id": enrollment, "kind": kind, "reason": reason, "generation": generation}
    found = ask(data, "POST", "/secrets/reveal", content=content)
    values: list[Line] = found["values"]
    if output in (Form.JSON, Form.JSONL):
        print_facts(found, output)
    elif len(values) == 1 and output is Form.TABLE:
        print(printable(values[0]["value"]))
    else:
        print_list(values, _VALUES, output)
    _say_what_follows(found)


def _say_what_follows(found: Line) -> None:
    if found["sentence"]:
        say(found["sentence"])
    if any(one["encoding"] == "base64" for one in found["values"]):
        say("The value is no text; it is written in base64.")
    told = ", ".join(str(one["generation"]) for one in found["values"])
    say(f"{found['id']}: generation {told} of {found['kind']} is marked as shown to you.")
    if found["rotation_due"]:
        say(f"It will be replaced from {found['rotation_due']} on.")
    elif found["never_rotated"]:
        say(f"It cannot be replaced on this device: {found['never_rotated']}.")
    elif found["not_rotated_yet"]:
        say(
            f"Nothing replaces it by itself now: {found['not_rotated_yet']}. Afterwards: "
            f"ostiary token rotate {as_arguments(found['id'])} {found['kind']}"
        )


def _print_page(line: Line) -> None:
    """One device's bootstrap token, for reading."""
    print_facts({key: line[key] for key in _PAGE}, Form.TABLE)
    for cause in line["causes"]:
        print(f"why: {printable(cause)}")
    print()
    _print_holders(line)
    for one in line["at_the_mac"]:
        print(f"\n$ {one['command']}")
        for said in one["says"]:
            print(f"  {said}")
        print(f"  ({one['means']})")


def _print_holders(line: Line) -> None:
    holders = line["secure_token_holders"]
    if holders is None:
        print(
            "Who holds a SecureToken is not known; "
            f"`ostiary enqueue {printable(as_arguments(line['id']))} user-list` asks."
        )
        return
    names = ", ".join(printable(name) for name in holders) or "nobody"
    print(f"SecureToken holders, as of {line['accounts_reported']}: {names}")


def _explain(line: Line) -> None:
    """What the state of one secret means, and what to do."""
    print(f"\n{line['kind']}: {line['state']}. {line['means']}")
    if line["todo"] not in ("", "Nothing."):
        print(f"  To do: {line['todo']}")
    for note in line["notes"]:
        print(f"  {printable(note)}")
    if line["uncertain"] and line["state"] == "waits for a restart" and not line["trouble"]:
        then = line["candidate"]
        print(f"  In force now: generation {line['generation']}; from the restart on: {then}.")
    elif line["uncertain"]:
        told = " then ".join(str(one["generation"]) for one in line["values"])
        print(f"  May be in force, in the order to try: generation {told}.")
