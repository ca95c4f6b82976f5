"""`ostiary enqueue`: commands for devices, by name or as a property list."""

import base64
import re
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
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


_BY_PLAIN: Final = MappingProxyType({word.replace("-", ""): word for word in Word})
_RESEMBLANCE: Final = 0.7
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
        _refuse_second_command(words)
        return {"ids": words, "plist": base64.b64encode(_read(plist)).decode()}
    at = next((at for at, text in enumerate(words) if text in list(Word)), None)
    if at is None:
        raise _no_command(words)
    if at == 0:
        raise Failed(
            "no enrollment is named",
            "Ids stand before the command; `ostiary device list` shows them.",
            Exit.USAGE,
        )
    return {"ids": words[:at]} | _command(Word(words[at]), words[at + 1 :])


def _refuse_second_command(words: list[str]) -> None:
    """With --plist every word is an id; a command among them would be queued for the devices beside it."""
    second = next((text for text in words if _plain(text) in _BY_PLAIN), None)
    if second is not None:
        raise Failed(
            f"{second} is a command, and --plist names another; nothing was queued",
            "Give only ids with --plist, or leave --plist out.",
            Exit.USAGE,
        )


def _no_command(words: list[str]) -> Failed:
    hint = f"Commands are {', '.join(Word)}; any other with --plist FILE."
    for text in words:
        if close := get_close_matches(_plain(text), _BY_PLAIN, n=1, cutoff=_RESEMBLANCE):
            meant = _BY_PLAIN[close[0]]
            return Failed(f"{text} is no command; did you mean {meant}?", hint, Exit.USAGE)
    # Ids of devices are capitals, or hexadecimal: a word with other small letters was meant as a command.
    odd = next((text for text in words if re.search("[g-z]", text) and ":" not in text), None)
    said = "no command is named" if odd is None else f"{odd} is no command"
    return Failed(said, hint, Exit.USAGE)


def _plain(text: str) -> str:
    """A command's name without what people vary: DeviceLock, device_lock and device-lock are one."""
    return text.lower().replace("-", "").replace("_", "")


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
