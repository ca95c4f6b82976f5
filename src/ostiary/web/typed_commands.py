"""The commands that people name in words, built from what they gave; everything else is a property list."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ostiary.errors import Malformed, OstiaryError
from ostiary.formats.mobileconfig import read_profile
from ostiary.protocol.mdm.account_commands import unlock_user_account
from ostiary.protocol.mdm.commands import (
    Command,
    clear_passcode,
    install_profile,
    mdm_options,
    remove_profile,
    standard_form,
)
from ostiary.protocol.mdm.lock_commands import (
    Obliteration,
    ReturnToService,
    device_lock,
    erase_device,
)
from ostiary.secret import Secret
from ostiary.web.asks import Fields, decoded, flag, one_of, optional_text, text


class CommandNotTyped(Malformed):
    """There is no command of this name."""

    hint = "`ostiary enqueue --help` lists them; any other is sent as a property list with --plist."


class NotAProfile(Malformed):
    """The file is no configuration profile."""

    hint = "A .mobileconfig is a property list, signed or not, with the PayloadType Configuration."


def build_command(name: str, ask: Fields) -> Command:
    """The command that `name` and its arguments make.

    Raises:
        CommandNotTyped, AskUnreadable, WordUnknown, NotAProfile, UnusablePin, UnusableAccountName
    """
    if (build := _BUILDERS.get(name)) is None:
        raise CommandNotTyped(command=name)
    return build(ask)


def _install_profile(ask: Fields) -> Command:
    """What is no configuration profile is refused here; the device would only say error 4001."""
    return install_profile(_profile(text(ask, "profile")))


def _device_lock(ask: Fields) -> Command:
    return device_lock(
        pin=_pin(ask),
        message=optional_text(ask, "message"),
        phone_number=optional_text(ask, "phone"),
    )


def _erase_device(ask: Fields) -> Command:
    obliteration = optional_text(ask, "obliteration")
    return erase_device(
        pin=_pin(ask),
        preserve_data_plan=flag(ask, "preserve_data_plan"),
        disallow_proximity_setup=flag(ask, "disallow_proximity_setup"),
        obliteration=one_of(Obliteration, obliteration, "ObliterationBehavior")
        if obliteration
        else None,
        return_to_service=_return_to_service(ask) if flag(ask, "return_to_service") else None,
    )


def _return_to_service(ask: Fields) -> ReturnToService:
    wifi, mdm = optional_text(ask, "wifi_profile"), optional_text(ask, "mdm_profile")
    return ReturnToService(
        wifi_profile=_profile(wifi) if wifi else None,
        # Empty: one is made when the command goes out, unless the device comes back by itself. (ER-05)
        mdm_profile=_profile(mdm) if mdm else b"",
        keeps_apps=flag(ask, "keep_apps"),
    )


def _profile(encoded: str) -> bytes:
    profile = decoded(encoded)
    try:
        kind = read_profile(profile).optional_text("PayloadType")
    except OstiaryError:
        raise NotAProfile from None
    if kind != "Configuration":
        raise NotAProfile
    return profile


def _pin(ask: Fields) -> Secret | None:
    pin = optional_text(ask, "pin")
    return Secret(pin.encode()) if pin else None


_BUILDERS: Final[Mapping[str, Callable[[Fields], Command]]] = MappingProxyType(
    {
        "device-information": lambda _ask: standard_form("DeviceInformation"),
        "security-info": lambda _ask: standard_form("SecurityInfo"),
        "user-list": lambda _ask: standard_form("UserList"),
        "allow-activation-lock": lambda _ask: mdm_options(activation_lock_allowed=True),
        "lom-setup-request": lambda _ask: standard_form("LOMSetupRequest"),
        "unlock-user-account": lambda ask: unlock_user_account(text(ask, "name")),
        "device-lock": _device_lock,
        "erase-device": _erase_device,
        "clear-passcode": lambda _ask: clear_passcode(),
        "install-profile": _install_profile,
        "remove-profile": lambda ask: remove_profile(text(ask, "identifier")),
    }
)
