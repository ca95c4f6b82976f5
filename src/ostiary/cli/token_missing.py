"""`ostiary token missing`: which devices of the whole fleet should have a secret here that is not held, or is in doubt."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Final

import typer

from ostiary.cli.background import run_async
from ostiary.cli.desk import DEFAULT_DATA, PAGE, DataOption, open_desk
from ostiary.cli.failure import Exit
from ostiary.cli.output import OUTPUT, Form, print_list, say
from ostiary.cli.token_secrets import EXITS
from ostiary.domain.secret_shell import as_arguments

_COLUMNS: Final = {
    "id": "ENROLLMENT",
    "serial": "SERIAL",
    "name": "NAME",
    "kind": "SECRET",
    "severity": "",
    "state": "STATE",
    "since": "SINCE",
    "why": "WHY",
    "todo": "TO DO",
}
_ASKS: Final = ("security-info", "device-information")
_FIRST: Final = 5

Line = dict[str, Any]


@dataclass(slots=True)
class _Found:
    """What the walk through the fleet has brought."""

    items: list[Line] = field(default_factory=list)
    looked_at: int = 0
    with_gaps: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    not_known: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[str]] = field(default_factory=dict)
    after: str | None = None

    def add(self, page: Mapping[str, Any]) -> None:
        self.items += page["items"]
        self.looked_at += page["looked_at"]
        self.with_gaps += page["with_gaps"]
        self.by_kind.update(page["by_kind"])
        for report, one in page["not_known"].items():
            self.not_known[report] += one["devices"]
            self.first[report] = [*self.first.get(report, ()), *one["first"]][:_FIRST]
        self.after = page["after"]


def missing(
    data: DataOption = DEFAULT_DATA,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Only this kind: filevault-key, recovery-lock, firmware-password, admin-password, lock-pin, bootstrap, "
            "unlock or activation-bypass-device."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many devices.", min=1)] = 10_000,
    after: Annotated[
        str | None,
        typer.Option(help="Go on behind this place, which a list that was cut off names."),
    ] = None,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """List what the fleet's devices should have escrowed here and have not, or what is held and in doubt.

    One line for each gap, in the order of ids: FileVault on and no recovery key held, or one that may not open the disk; a
    Recovery Lock or firmware password that somebody else set; an administrator that management made, without a
    password; no bootstrap token; a passcode and no unlock token; a supervised device whose bypass code was never told; a
    change whose answer was lost or that was refused. WHY is the fact that tells, TO DO the command that helps. `ostiary
    token escrow` says more of one device.

    What a device never told is not known, which is not the same as missing: how many such devices there are, and what
    to ask them, is in the last lines, on standard error.

    Exit code 0: no gap; 4: something to look at; 5: a secret that may be needed tomorrow is not here.

    Example: ostiary token missing --kind filevault-key -o csv
    """
    found = run_async(_walk(data, kind, limit, after))
    print_list(found.items, _COLUMNS, output)
    for sentence in _summary(found):
        say(sentence)
    raise typer.Exit(max((EXITS[line["severity"]] for line in found.items), default=Exit.FINE))


async def _walk(data: Path, kind: str | None, limit: int, after: str | None) -> _Found:
    """Page by page until the fleet ends, or so many devices with gaps were found."""
    found = _Found(after=after)
    async with open_desk(data) as desk:
        while found.with_gaps < limit:
            step = min(limit - found.with_gaps, PAGE)
            params = {"kind": kind, "limit": step, "after": found.after}
            found.add(await desk.ask("GET", "/secrets/missing", params=params))
            if found.after is None:
                break
    return found


def _summary(found: _Found) -> list[str]:
    """How many devices were looked at, what they lack, and what is not known yet."""
    kinds = ", ".join(f"{kind} {number}" for kind, number in found.by_kind.items())
    told = f": {kinds}" if kinds else ""
    said = [f"Looked at {_devices(found.looked_at)}, {found.with_gaps} with gaps{told}."]
    said += [_ask(report, found) for report in _ASKS if found.not_known[report]]
    if number := found.not_known["not-allowed"]:
        said.append(
            f"Not known of {_devices(number)}: the enrollment profile there does not grant the right to ask (1024). Only a "
            f"new enrollment does, e.g. of {found.first['not-allowed'][0]}."
        )
    if found.after is not None:
        said.append(f"There is more: --after={quote(found.after)} goes on behind these.")
    return said


def _ask(report: str, found: _Found) -> str:
    number, first = found.not_known[report], found.first[report]
    rest = f" (and {number - len(first)} more)" if number > len(first) else ""
    return (
        f"Not known yet of {_devices(number)}, for want of an answer: "
        f"ostiary enqueue {as_arguments(*first)} {report}{rest}"
    )


def _devices(number: int) -> str:
    return f"{number} device{'' if number == 1 else 's'}"
