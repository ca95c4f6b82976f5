"""`ostiary token rotate`, `set`, `clear` and `verify`: secrets that the server puts on devices."""

import sys
from typing import Annotated, Any

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.output import say
from ostiary.domain.escrow_wishes import NAMES
from ostiary.domain.secret_shell import as_arguments
from ostiary.domain.token import TokenKind
from ostiary.errors import Malformed

_KINDS = (
    "recovery-lock, firmware-password or admin-password: drawn here; filevault-key: made by the Mac; "
    "activation-bypass-device: made by the device alone, and asked for."
)
Enrollment = Annotated[
    str, typer.Argument(help="The enrollment id or the serial number of a device.")
]
Kind = Annotated[str, typer.Argument(help=_KINDS)]
Reason = Annotated[str, typer.Option(help="Why; it goes into the audit.")]


_ROTATED = {
    TokenKind.FILEVAULT_KEY.value: "the Mac is told to make another FileVault recovery key",
    TokenKind.BYPASS_DEVICE.value: (
        "the device is asked for the Activation Lock bypass code that it made; the code itself stays as it is"
    ),
}
"""What is rotated otherwise than by a value that is drawn here."""


class NothingOnStdin(Malformed):
    """There is no value on standard input."""

    hint = "Pipe or type one line with the value. To have one drawn, use `ostiary token rotate`."


def rotate(
    enrollment: Enrollment,
    kind: Kind,
    data: DataOption = DEFAULT_DATA,
    reason: Reason = "",
    unlock_with_stdin: Annotated[
        bool,
        typer.Option(
            "--unlock-with-stdin",
            help="Read the password of a FileVault user from standard input, for a Mac whose recovery key is not held.",
        ),
    ] = False,
) -> None:
    """Give a device another secret of this kind, drawn here; or have it make another recovery key, or tell its bypass code.

    What is drawn is stored before the command can leave, and is the one in force once the device has said so. Until
    then both are kept: `ostiary token escrow` shows them, `ostiary token reveal` tells them. A bypass code is not
    replaced: devices make another one by themselves, and this asks for the one in force.

    Example: ostiary token rotate 4C0E7700-0000-4000-8000-000000000001 recovery-lock --reason "helpdesk 4711"
    """
    content = {"id": enrollment, "kind": kind, "reason": reason or None}
    if unlock_with_stdin:
        content["unlock_with"] = _from_stdin()
    _change(data, content, _ROTATED.get(kind, "another {name} is on its way"))


def set_value(
    enrollment: Enrollment,
    kind: Annotated[
        str, typer.Argument(help="recovery-lock, firmware-password or admin-password.")
    ],
    data: DataOption = DEFAULT_DATA,
    reason: Reason = "",
) -> None:
    """Give a device a secret of your own, read from standard input so that no shell remembers it.

    Example: ostiary token set 4C0E7700-0000-4000-8000-000000000001 recovery-lock < password.txt
    """
    content = {"id": enrollment, "kind": kind, "value": _from_stdin(), "reason": reason or None}
    _change(data, content, "your {name} is on its way")


def clear(
    enrollment: Enrollment,
    kind: Annotated[str, typer.Argument(help="recovery-lock or firmware-password.")],
    data: DataOption = DEFAULT_DATA,
    reason: Reason = "",
) -> None:
    """Take a secret off a device, for example before it is sold. What was in force stays in history.

    Example: ostiary token clear 4C0E7700-0000-4000-8000-000000000001 firmware-password --reason sold
    """
    content = {"id": enrollment, "kind": kind, "clears": True, "reason": reason or None}
    _change(data, content, "the {name} is to be taken off the device")


def verify(
    enrollment: Enrollment,
    kind: Annotated[str, typer.Argument(help="recovery-lock or firmware-password.")],
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Ask a device whether it holds the value that we believe it holds.

    Example: ostiary token verify 4C0E7700-0000-4000-8000-000000000001 recovery-lock
    """
    asked = ask(data, "POST", "/secrets/verify", content={"id": enrollment, "kind": kind})
    say(
        f"{enrollment}: the device is asked with command {asked['uuid']} whether it holds the {_name(kind)} that is held here. "
        f"If it says no, `ostiary token escrow {as_arguments(enrollment)}` shows it; "
        f"`ostiary token history {as_arguments(enrollment)}` shows when it was proven last."
    )


def _change(data: DataOption, content: dict[str, Any], what: str) -> None:
    """Have it done and say so; `{name}` in `what` becomes the kind in the field's words."""
    queued = ask(data, "POST", "/secrets/change", content=content)
    enrollment = content["id"]
    if (first := queued.get("waits_for")) is not None:
        say(
            f"{enrollment}: the device is asked for {first} with command {queued['uuid']}; another "
            f"{_name(content['kind'])} follows by itself once it has answered. "
            f"`ostiary token escrow {as_arguments(enrollment)}` shows how it goes."
        )
        return
    say(
        f"{enrollment}: {what.format(name=_name(content['kind']))}, by command {queued['uuid']}; "
        f"`ostiary token escrow {as_arguments(enrollment)}` shows how it goes."
    )


def _name(kind: str) -> str:
    """The kind in the field's words; the server has taken it, so it is one."""
    return NAMES[TokenKind(kind)]


def _from_stdin() -> str:
    given = sys.stdin.readline().rstrip("\r\n")
    if not given:
        raise NothingOnStdin
    return given
