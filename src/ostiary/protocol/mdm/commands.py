"""Commands as Apple writes them: the typed ones we send, and what each request type does and needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from ostiary.errors import Malformed
from ostiary.formats import plist
from ostiary.formats.plist import Fields, PlistValue
from ostiary.secret import Secret

Command = Mapping[str, PlistValue]
"""The dict under the key `Command`, RequestType included."""

PIN_DIGITS: Final = 6


class CommandWithoutRequestType(Malformed):
    """The command holds no RequestType."""

    hint = "A command is a property list with a dict `Command` that holds a string `RequestType`."


class UnusableRequestType(Malformed):
    """A RequestType is written in Latin letters alone, as Apple spells it."""


class UnusablePin(Malformed):
    """A lock PIN is six digits."""


class Kind(Enum):
    """What a request type may do; everything that is not ordinary takes the typed path and its own scope. (design.md 5)"""

    ORDINARY = "ordinary"
    SECRET = "secret"  # noqa: S105 - the name of a kind, not a secret
    DESTRUCTIVE = "destructive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """What the schemas say of a request type, as far as we refuse by it."""

    kind: Kind = Kind.ORDINARY
    device_channel_only: bool = False
    urgent: bool = False
    right: int = 0
    """Bit of AccessRights that the installed profile must grant; 0 for none."""
    user_enrollment: bool = True
    answers_with_secret: bool = False
    """The report holds a secret that exists nowhere else once the device has answered."""


_LOCK, _ERASE, _SECURITY, _SETTINGS = 4, 8, 1024, 2048
_ORDINARY: Final = Nature()

NATURE: Final[Mapping[str, Nature]] = MappingProxyType(
    {
        "ClearPasscode": Nature(
            kind=Kind.SECRET,
            device_channel_only=True,
            urgent=True,
            right=_LOCK,
            user_enrollment=False,
        ),
        "DeviceLock": Nature(
            kind=Kind.DESTRUCTIVE, device_channel_only=True, urgent=True, right=_LOCK
        ),
        "EraseDevice": Nature(
            kind=Kind.DESTRUCTIVE,
            device_channel_only=True,
            urgent=True,
            right=_ERASE,
            user_enrollment=False,
        ),
        "SecurityInfo": Nature(device_channel_only=True, right=_SECURITY),
        "DeviceConfigured": Nature(),
        "RestartDevice": Nature(device_channel_only=True),
        "ShutDownDevice": Nature(kind=Kind.DESTRUCTIVE, device_channel_only=True),
        "DeleteUser": Nature(kind=Kind.DESTRUCTIVE, device_channel_only=True),
        "EnableLostMode": Nature(kind=Kind.DESTRUCTIVE, device_channel_only=True),
        "SetRecoveryLock": Nature(
            kind=Kind.SECRET, device_channel_only=True, user_enrollment=False
        ),
        "VerifyRecoveryLock": Nature(
            kind=Kind.SECRET, device_channel_only=True, user_enrollment=False
        ),
        "SetFirmwarePassword": Nature(
            kind=Kind.SECRET, device_channel_only=True, user_enrollment=False
        ),
        "VerifyFirmwarePassword": Nature(
            kind=Kind.SECRET, device_channel_only=True, user_enrollment=False
        ),
        "RotateFileVaultKey": Nature(
            answers_with_secret=True,
            kind=Kind.SECRET,
            device_channel_only=True,
            user_enrollment=False,
        ),
        "SetAutoAdminPassword": Nature(
            kind=Kind.SECRET, device_channel_only=True, user_enrollment=False
        ),
        "AccountConfiguration": Nature(
            kind=Kind.SECRET, device_channel_only=True, user_enrollment=False
        ),
        "UnlockUserAccount": Nature(device_channel_only=True),
        "ActivationLockBypassCode": Nature(
            answers_with_secret=True, kind=Kind.SECRET, device_channel_only=True
        ),
        "LOMDeviceRequest": Nature(kind=Kind.DESTRUCTIVE, device_channel_only=True),
        "ClearRestrictionsPassword": Nature(kind=Kind.DESTRUCTIVE, device_channel_only=True),
        "ClearActivationLockBypassCode": Nature(kind=Kind.DESTRUCTIVE, device_channel_only=True),
    }
)


_NATURE_BY_LOWER: Final = {name.lower(): nature for name, nature in NATURE.items()}


def nature_of(request_type: str) -> Nature:
    """What a request type does and needs; one that we do not list is ordinary, for Apple adds new ones.

    However it is written: whether some device reads `erasedevice` as EraseDevice is not for us to find out.
    """
    return _NATURE_BY_LOWER.get(request_type.lower(), _ORDINARY)


def device_information(queries: tuple[str, ...]) -> Command:
    """Ask the device what it is. (Apple, DeviceInformation)"""
    return {"RequestType": "DeviceInformation", "Queries": list(queries)}


def security_info() -> Command:
    """Ask for the security facts. (Apple, SecurityInfo)"""
    return {"RequestType": "SecurityInfo"}


def allow_bootstrap_token() -> Command:
    """Tell macOS 10.15 that bootstrap tokens are welcome; the key is BootstrapTokenAllowed. (escrowed-secrets.md 4.2)"""
    options: PlistValue = {"Item": "MDMOptions", "MDMOptions": {"BootstrapTokenAllowed": True}}
    return {"RequestType": "Settings", "Settings": [options]}


def device_lock(*, pin: Secret | None, message: str | None, phone_number: str | None) -> Command:
    """Lock the device; a Mac takes a PIN of six digits. (4.6)

    Raises:
        UnusablePin
    """
    command: dict[str, PlistValue] = {"RequestType": "DeviceLock"}
    if pin is not None:
        digits = pin.reveal()
        if len(digits) != PIN_DIGITS or not digits.isdigit():
            raise UnusablePin(field="PIN")
        command["PIN"] = digits.decode("ascii")
    if message is not None:
        command["Message"] = message
    if phone_number is not None:
        command["PhoneNumber"] = phone_number
    return command


def clear_passcode() -> Command:
    """Take the passcode off; the UnlockToken is filled in at hand-out. (4.1)"""
    return {"RequestType": "ClearPasscode"}


def install_profile(profile: bytes) -> Command:
    """Install a configuration profile, signed or not. (Apple, InstallProfile)"""
    return {"RequestType": "InstallProfile", "Payload": profile}


def remove_profile(identifier: str) -> Command:
    """Remove a profile by its PayloadIdentifier. (Apple, RemoveProfile)"""
    return {"RequestType": "RemoveProfile", "Identifier": identifier}


_QUERIES: Final = (
    "UDID", "DeviceName", "OSVersion", "BuildVersion", "ModelName", "Model", "ProductName", "SerialNumber",
    "IsSupervised", "AwaitingConfiguration", "IsActivationLockEnabled",
)  # fmt: skip

_STANDARD: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "DeviceInformation": device_information(_QUERIES),
        "SecurityInfo": security_info(),
        "Settings": allow_bootstrap_token(),
        "DeviceConfigured": {"RequestType": "DeviceConfigured"},
        "UserConfigured": {"RequestType": "UserConfigured"},
        "ClearPasscode": clear_passcode(),
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
