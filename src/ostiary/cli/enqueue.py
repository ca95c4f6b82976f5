"""`ostiary enqueue`: commands for devices, by name or as a property list."""

import base64
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ostiary.cli.desk import DEFAULT_DATA, DataOption, ask
from ostiary.cli.failure import Exit, Failed
from ostiary.cli.output import OUTPUT, Form
from ostiary.cli.push import print_results

_COLUMNS: Final = {
    "id": "ENROLLMENT",
    "request_type": "REQUEST TYPE",
    "uuid": "COMMAND",
}


class Word(StrEnum):
    """Commands that have a name of their own here."""

    DEVICE_INFORMATION = "device-information"
    SECURITY_INFO = "security-info"
    DEVICE_LOCK = "device-lock"
    CLEAR_PASSCODE = "clear-passcode"
    INSTALL_PROFILE = "install-profile"
    REMOVE_PROFILE = "remove-profile"


_TAKES_ARGUMENT: Final = (Word.INSTALL_PROFILE, Word.REMOVE_PROFILE)


def enqueue(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="ID… COMMAND [ARGUMENT]",
            help="Enrollment ids, then a command and its argument; only ids with --plist.",
        ),
    ],
    data: DataOption = DEFAULT_DATA,
    plist: Annotated[
        Path | None,
        typer.Option(help="A command as a property list.", exists=True, dir_okay=False),
    ] = None,
    pin: Annotated[
        str | None, typer.Option(help="Six digits, for device-lock of a Mac.", envvar="OSTIARY_PIN")
    ] = None,
    message: Annotated[str | None, typer.Option(help="What a locked device shows.")] = None,
    phone: Annotated[str | None, typer.Option(help="A number that a locked device shows.")] = None,
    no_push: Annotated[bool, typer.Option("--no-push", help="Do not wake the devices.")] = False,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Queue a command for devices, and wake them.

    Commands: device-information, security-info, device-lock, clear-passcode, install-profile FILE,
    remove-profile IDENTIFIER; any other with --plist FILE. Exit code 0: queued for all; 3: for some;
    the first error's: for none.

    Example: ostiary enqueue 4C0E7700-… 4C0E7701-… install-profile wifi.mobileconfig
    """
    content = _ask(words, plist) | {"pin": pin, "message": message, "phone": phone}
    enqueued = ask(data, "POST", "/commands", content=content | {"push": not no_push})
    common = {"uuid": enqueued["uuid"], "request_type": enqueued["request_type"]}
    results = [result | common for result in enqueued["results"]]
    raise typer.Exit(print_results(results, _COLUMNS, output))


def _ask(words: list[str], plist: Path | None) -> dict[str, Any]:
    if plist is not None:
        return {"ids": words, "plist": base64.b64encode(plist.read_bytes()).decode()}
    for at, text in enumerate(words):
        if text in list(Word):
            return {"ids": words[:at]} | _command(Word(text), words[at + 1 :])
    raise Failed(
        "no command is named",
        f"Commands are {', '.join(Word)}; any other with --plist FILE.",
        Exit.USAGE,
    )


def _command(word: Word, rest: list[str]) -> dict[str, Any]:
    if len(rest) != (word in _TAKES_ARGUMENT):
        wanted = "one argument" if word in _TAKES_ARGUMENT else "no argument"
        raise Failed(f"{word} takes {wanted}", "Ids stand before the command.", Exit.USAGE)
    match word:
        case Word.INSTALL_PROFILE:
            return {"command": word, "profile": base64.b64encode(_read(Path(rest[0]))).decode()}
        case Word.REMOVE_PROFILE:
            return {"command": word, "identifier": rest[0]}
        case _:
            return {"command": word}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}", "", Exit.MISSING) from None
