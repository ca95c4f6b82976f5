"""Commands as Apple writes them: what a command is, how a raw one is read, and those that hold no secret."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ostiary.errors import Malformed
from ostiary.formats import plist
from ostiary.formats.plist import Fields, PlistValue

Command = Mapping[str, PlistValue]
"""The dict under the key `Command`, RequestType included."""


class CommandWithoutRequestType(Malformed):
    """The command holds no RequestType."""

    hint = "A command is a property list with a dict `Command` that holds a string `RequestType`."


class UnusableRequestType(Malformed):
    """A RequestType is written in Latin letters alone, as Apple spells it."""


class NothingToSet(Malformed):
    """A Settings command was asked for that sets nothing."""

    hint = "Name at least one option."


def device_information(queries: tuple[str, ...]) -> Command:
    """Ask the device what it is. (Apple, DeviceInformation)"""
    return {"RequestType": "DeviceInformation", "Queries": list(queries)}


def security_info() -> Command:
    """Ask for the security facts. (Apple, SecurityInfo)"""
    return {"RequestType": "SecurityInfo"}


def user_list() -> Command:
    """Ask for the accounts, and on a Mac who of them holds a SecureToken. (escrowed-secrets.md 4.2)"""
    return {"RequestType": "UserList"}


def mdm_options(
    *,
    bootstrap_token_allowed: bool | None = None,
    prompt_for_bootstrap_token: bool | None = None,
    activation_lock_allowed: bool | None = None,
) -> Command:
    """Settings with the one item MDMOptions; None leaves an option as it is. (escrowed-secrets.md 4.2, 4.9)

    Allow a user-linked Activation Lock only after the bypass code was fetched. (AL-03)

    Raises:
        NothingToSet
    """
    wanted = {
        "BootstrapTokenAllowed": bootstrap_token_allowed,
        "PromptUserToAllowBootstrapTokenForAuthentication": prompt_for_bootstrap_token,
        "ActivationLockAllowedWhileSupervised": activation_lock_allowed,
    }
    options: dict[str, PlistValue] = {
        key: value for key, value in wanted.items() if value is not None
    }
    if not options:
        raise NothingToSet
    item: PlistValue = {"Item": "MDMOptions", "MDMOptions": options}
    return {"RequestType": "Settings", "Settings": [item]}


def allow_bootstrap_token() -> Command:
    """Tell macOS 10.15 that bootstrap tokens are welcome; the key is BootstrapTokenAllowed. (escrowed-secrets.md 4.2)"""
    return mdm_options(bootstrap_token_allowed=True)


def clear_passcode() -> Command:
    """Take the passcode off; the UnlockToken is filled in at hand-out. (4.1)"""
    return {"RequestType": "ClearPasscode"}


def install_profile(profile: bytes) -> Command:
    """Install a configuration profile, signed or not. (Apple, InstallProfile)"""
    return {"RequestType": "InstallProfile", "Payload": profile}


def remove_profile(identifier: str) -> Command:
    """Remove a profile by its PayloadIdentifier. (Apple, RemoveProfile)"""
    return {"RequestType": "RemoveProfile", "Identifier": identifier}


def removes_profile(command: Command, identifier: str) -> bool:
    """Whether this command removes that profile; capitals and blanks around are no way past."""
    named = command.get("Identifier")
    if command.get("RequestType") != "RemoveProfile" or not isinstance(named, str):
        return False
    return named.strip().casefold() == identifier.casefold()


_QUERIES: Final = (
    "UDID", "DeviceName", "OSVersion", "BuildVersion", "ModelName", "Model", "ProductName", "SerialNumber",
    "IsSupervised", "IsMultiUser", "AwaitingConfiguration", "IsAppleSilicon", "SupportsLOMDevice",
    "EACSPreflight", "AutoSetupAdminAccounts", "MDMOptions", "ServiceSubscriptions",
    "IsActivationLockSupported", "IsActivationLockEnabled",
)  # fmt: skip
"""A device answers those that it knows and may tell, and leaves the others out."""

_STANDARD: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "DeviceInformation": device_information(_QUERIES),
        "SecurityInfo": security_info(),
        "UserList": user_list(),
        "Settings": allow_bootstrap_token(),
    }
    | {
        # What these carry is filled in at hand-out, or they carry nothing.
        name: {"RequestType": name}
        for name in (
            "DeviceConfigured",
            "UserConfigured",
            "ClearPasscode",
            "SetRecoveryLock",
            "VerifyRecoveryLock",
            "SetFirmwarePassword",
            "VerifyFirmwarePassword",
            "ActivationLockBypassCode",
            "ClearActivationLockBypassCode",
            "LOMSetupRequest",
        )
    }
)


def standard_form(request_type: str) -> Command:
    """The command that an empty queued payload stands for. KeyError for a type that has no standard form."""
    return _STANDARD[request_type]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCommand:
    """A command as somebody wrote it: the whole plist read, its UUID None if they left it to us."""

    uuid: str | None
    request_type: str
    command: Fields


def decode_raw_command(body: bytes) -> RawCommand:
    """Read a command property list: `{CommandUUID?, Command: {RequestType, …}}`.

    Raises:
        Malformed: not a property list, no Command dict, no RequestType.
    """
    fields = plist.read_dict(body)
    command = fields.optional_dict("Command")
    request_type = command.optional_text("RequestType") if command is not None else None
    if command is None or not request_type:
        raise CommandWithoutRequestType
    if not (request_type.isascii() and request_type.isalpha()):
        # Blanks and look-alikes would slip past the classification, and no device knows them.
        raise UnusableRequestType(field="RequestType")
    return RawCommand(
        uuid=fields.optional_text("CommandUUID") or None, request_type=request_type, command=command
    )
