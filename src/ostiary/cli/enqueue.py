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
from ostiary.cli.failure import Exit, Failed, failure_of_problem, malformed_file, report
from ostiary.cli.output import OUTPUT, Form, print_list, say
from ostiary.cli.push import print_results
from ostiary.domain.secret_shell import as_arguments
from ostiary.protocol.mdm.lock_commands import Obliteration

_COLUMNS: Final = {
    "id": "ENROLLMENT",
    "request_type": "REQUEST TYPE",
    "uuid": "COMMAND",
}


_TRIED: Final = {
    "id": "ENROLLMENT",
    "would_be_queued": "WOULD BE QUEUED",
    "name": "NAME",
    "serial": "SERIAL",
    "model": "MODEL",
    "last_seen": "LAST SEEN",
    "error": "WHY NOT",
}
_WHAT_A_FILE_HOLDS: Final = (
    "Nothing was queued. The file of --plist is a property list with a dictionary `Command`, in which RequestType is a word of "
    "Apple's and every key has the type that Apple says; `plutil -lint FILE` on a Mac names what is not well formed."
)


class Word(StrEnum):
    """Commands that have a name of their own here."""

    DEVICE_INFORMATION = "device-information"
    SECURITY_INFO = "security-info"
    USER_LIST = "user-list"
    DEVICE_LOCK = "device-lock"
    ERASE_DEVICE = "erase-device"
    CLEAR_PASSCODE = "clear-passcode"
    UNLOCK_USER_ACCOUNT = "unlock-user-account"
    INSTALL_PROFILE = "install-profile"
    REMOVE_PROFILE = "remove-profile"
    ALLOW_ACTIVATION_LOCK = "allow-activation-lock"
    LOM_SETUP_REQUEST = "lom-setup-request"
    ACCOUNT_CONFIGURATION = "account-configuration"


_BY_PLAIN: Final = MappingProxyType({word.replace("-", ""): word for word in Word})
_RESEMBLANCE: Final = 0.7
_TAKES_ARGUMENT: Final = (Word.INSTALL_PROFILE, Word.REMOVE_PROFILE, Word.UNLOCK_USER_ACCOUNT)
_COMING_BACK: Final = frozenset({"keep_apps", "wifi_profile", "mdm_profile"})


def enqueue(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="ID… COMMAND [ARGUMENT]",
            help="Enrollment ids or serial numbers, then a command and its argument; only these with --plist.",
        ),
    ],
    data: DataOption = DEFAULT_DATA,
    plist: Annotated[
        Path | None,
        typer.Option(help="A command as a property list.", exists=True, dir_okay=False),
    ] = None,
    pin: Annotated[
        str | None,
        typer.Option(
            help="Six digits, for device-lock and erase-device of a Mac; drawn where one is needed and none is given, "
            "and kept. While a lock was not answered, further ones carry its PIN. Other devices take none.",
            envvar="OSTIARY_PIN",
        ),
    ] = None,
    message: Annotated[str | None, typer.Option(help="What a locked device shows.")] = None,
    phone: Annotated[str | None, typer.Option(help="A number that a locked device shows.")] = None,
    obliteration: Annotated[
        Obliteration | None,
        typer.Option(help="erase-device: what a Mac does where erasing its keys alone fails."),
    ] = None,
    preserve_data_plan: Annotated[
        bool,
        typer.Option("--preserve-data-plan", help="erase-device: keep the cellular plan."),
    ] = False,
    disallow_proximity_setup: Annotated[
        bool,
        typer.Option(
            "--disallow-proximity-setup",
            help="erase-device: no setting up from a device that lies beside it.",
        ),
    ] = False,
    return_to_service: Annotated[
        bool,
        typer.Option(
            "--return-to-service",
            help="erase-device: come back enrolled by itself: iOS 17, tvOS 18, visionOS 26.",
        ),
    ] = False,
    keep_apps: Annotated[
        bool,
        typer.Option(
            "--keep-apps",
            help="erase-device, with --return-to-service, iOS and visionOS 26: needs the device's bootstrap token.",
        ),
    ] = False,
    wifi_profile: Annotated[
        Path | None,
        typer.Option(
            help="erase-device: to come back over Wi-Fi, with --return-to-service.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    mdm_profile: Annotated[
        Path | None,
        typer.Option(
            help="erase-device: to come back with, in place of the one that is made when the command goes out.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    no_push: Annotated[bool, typer.Option("--no-push", help="Do not wake the devices.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say for each device whether it would be queued; queue nothing."
        ),
    ] = False,
    confirm: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="For a destructive command beyond the hourly cap: how many devices it is for.",
        ),
    ] = None,
    output: Annotated[Form, OUTPUT] = Form.TABLE,
) -> None:
    """Queue a command for devices, and wake them.

    Commands: device-information, security-info, user-list (who has an account, on a Mac who holds a SecureToken),
    device-lock, erase-device, clear-passcode, unlock-user-account NAME (a Mac's account after too many failed
    logins), install-profile FILE, remove-profile IDENTIFIER, allow-activation-lock (the user may lock the device with an
    account of his own: after its bypass code was fetched, not before), lom-setup-request (where a Mac's lights-out
    controller listens), account-configuration (the administrator account that policy names, for a Mac that waits in Setup
    Assistant); any other with --plist FILE. What a device cannot do is refused with the reason, and nothing is queued
    for it. Commands that set a password are `ostiary token rotate`, so that the password is kept. Exit code 0: queued
    for all; 3: for some; the first error's: for none.

    Example: ostiary enqueue 4C0E7700-… 4C0E7701-… install-profile wifi.mobileconfig
    """
    erasing: dict[str, Any] = {
        "obliteration": obliteration,
        "preserve_data_plan": preserve_data_plan,
        "disallow_proximity_setup": disallow_proximity_setup,
        "return_to_service": return_to_service,
        "keep_apps": keep_apps,
        "wifi_profile": wifi_profile,
        "mdm_profile": mdm_profile,
    }
    content = _ask(words, plist) | {"pin": pin, "message": message, "phone": phone}
    content |= _erasing(erasing, content.get("command")) | {"confirm": confirm}
    if dry_run:
        tried = _sent(data, content | {"dry_run": True})
        raise typer.Exit(_print_tried(tried, output))
    enqueued = _sent(data, content | {"push": not no_push})
    common = {"uuid": enqueued["uuid"], "request_type": enqueued["request_type"]}
    results = [result | common for result in enqueued["results"]]
    for result in results:
        if result.get("carries_pending_pin"):
            say(
                f"{result['id']}: the device has not answered an earlier lock or erase, so this carries the same PIN: "
                f"ostiary token reveal {as_arguments(result['id'])} lock-pin"
            )
    raise typer.Exit(print_results(results, _COLUMNS, output))


def _sent(data: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The server's answer. Who wrote a file that it cannot read is told what belongs into one."""
    with malformed_file(_WHAT_A_FILE_HOLDS if "plist" in content else ""):
        answer: dict[str, Any] = ask(data, "POST", "/commands", content=content)
    return answer


def _print_tried(tried: dict[str, Any], form: Form) -> int:
    """Each device with what would become of it; the same exit code as if it had been done."""
    print_list(tried["results"], _TRIED, form)
    refused = [result for result in tried["results"] if result["error"]]
    if (whole := tried["whole"])["error"]:
        failure = failure_of_problem({"detail": whole["error"], **whole})
        report(failure)
        return failure.exit_code
    if not refused:
        return Exit.FINE
    some = len(refused) < len(tried["results"])
    return Exit.PARTLY_DONE if some else failure_of_problem(refused[0]).exit_code


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


def _erasing(options: dict[str, Any], command: str | None) -> dict[str, Any]:
    """The options of erase-device that were given, files read; beside another command they would be forgotten."""
    given = {name: value for name, value in options.items() if value}
    written = [f"--{name.replace('_', '-')}" for name in given]
    if given and command != Word.ERASE_DEVICE:
        raise Failed(
            f"{', '.join(written)}: only erase-device takes that; nothing was queued",
            "Leave it out, or ask for erase-device.",
            Exit.USAGE,
        )
    if "return_to_service" not in given and not _COMING_BACK.isdisjoint(given):
        raise Failed(
            "a device that is erased for good keeps neither profile nor apps; nothing was queued",
            "Add --return-to-service.",
            Exit.USAGE,
        )
    return {
        name: base64.b64encode(_read(value)).decode() if isinstance(value, Path) else value
        for name, value in given.items()
    }


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
        case Word.UNLOCK_USER_ACCOUNT:
            return {"command": word, "name": rest[0]}
        case _:
            return {"command": word}


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Failed(
            f"{path} cannot be read: {error.strerror}; nothing was queued",
            "Name a file that exists and that you may read.",
            Exit.MISSING,
        ) from None
    if not content:
        raise Failed(
            f"{path} is empty; nothing was queued",
            "Name the file that holds the property list.",
            Exit.MALFORMED,
        )
    return content
