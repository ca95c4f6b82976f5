"""The commands that people name in words, built from what they gave; everything else is a property list."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ostiary.errors import Malformed, OstiaryError
from ostiary.formats.mobileconfig import read_profile
from ostiary.protocol.mdm.commands import (
    Command,
    clear_passcode,
    device_lock,
    install_profile,
    remove_profile,
    standard_form,
)
from ostiary.secret import Secret
from ostiary.web.asks import Fields, decoded, optional_text, text


class CommandNotTyped(Malformed):
    """There is no command of this name."""

    hint = "`ostiary enqueue --help` lists them; any other is sent as a property list with --plist."


class NotAProfile(Malformed):
    """The file is no configuration profile."""

    hint = "A .mobileconfig is a property list, signed or not, with the PayloadType Configuration."


def build_command(name: str, ask: Fields) -> Command:
    """The command that `name` and its arguments make.

    Raises:
        CommandNotTyped, AskUnreadable, UnusablePin
    """
    if (build := _BUILDERS.get(name)) is None:
        raise CommandNotTyped(command=name)
    return build(ask)


def _install_profile(ask: Fields) -> Command:
    """What is no configuration profile is refused here; the device would only say error 4001."""
    profile = decoded(text(ask, "profile"))
    try:
        kind = read_profile(profile).optional_text("PayloadType")
    except OstiaryError:
        raise NotAProfile from None
    if kind != "Configuration":
        raise NotAProfile
    return install_profile(profile)


def _device_lock(ask: Fields) -> Command:
    pin = optional_text(ask, "pin")
    return device_lock(
        pin=Secret(pin.encode()) if pin else None,
        message=optional_text(ask, "message"),
        phone_number=optional_text(ask, "phone"),
    )


_BUILDERS: Final[Mapping[str, Callable[[Fields], Command]]] = MappingProxyType(
    {
        "device-information": lambda _ask: standard_form("DeviceInformation"),
        "security-info": lambda _ask: standard_form("SecurityInfo"),
        "device-lock": _device_lock,
        "clear-passcode": lambda _ask: clear_passcode(),
        "install-profile": _install_profile,
        "remove-profile": lambda ask: remove_profile(text(ask, "identifier")),
    }
)
