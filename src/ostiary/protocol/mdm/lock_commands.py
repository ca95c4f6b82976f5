"""DeviceLock and EraseDevice: the commands that put a device out of somebody's hands. (escrowed-secrets.md 4.6, 4.7)"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ostiary.errors import Malformed
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.commands import Command
from ostiary.secret import Secret

PIN_DIGITS: Final = 6


class UnusablePin(Malformed):
    """A lock PIN is six digits, no more and no less; nothing was queued."""

    hint = "Give six digits, 0 to 9; or leave the PIN out: where a Mac needs one it is drawn, kept, and shown on request."


class Obliteration(StrEnum):
    """What a Mac with T2 or Apple silicon does where erasing its keys alone fails. (4.7, second table)"""

    DEFAULT = "Default"
    DO_NOT = "DoNotObliterate"
    WITH_WARNING = "ObliterateWithWarning"
    ALWAYS = "Always"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnToService:
    """Come back enrolled after the erase. (4.7)

    A profile that is given here goes out as it is; one that is minted at hand-out is a matter of the hand-out. (ER-05)
    """

    wifi_profile: bytes | None = None
    """Needed without Ethernet or cellular."""
    mdm_profile: bytes | None = None
    """Needed where Automated Device Enrollment does not bring the device back. (ER-04)"""
    keeps_apps: bool = False
    """Leaves room for the bootstrap token, the latest of which is filled in at hand-out. (ER-06, ER-07)"""


def require_pin(pin: Secret) -> Secret:
    """The same PIN, if it is six digits. Raises UnusablePin."""
    digits = pin.reveal()
    if len(digits) != PIN_DIGITS or not digits.isdigit():
        raise UnusablePin(field="PIN")
    return pin


def device_lock(
    *, pin: Secret | None = None, message: str | None = None, phone_number: str | None = None
) -> Command:
    """Lock the device. (4.6)

    A Mac takes a PIN of six digits. One that is given stands in the command until `given_secrets.lift`
    takes it out; a drawn one is a reference, pinned.

    Raises:
        UnusablePin
    """
    command: dict[str, PlistValue] = {"RequestType": "DeviceLock"}
    if pin is not None:
        command["PIN"] = require_pin(pin).reveal().decode("ascii")
    if message is not None:
        command["Message"] = message
    if phone_number is not None:
        command["PhoneNumber"] = phone_number
    return command


def erase_device(
    *,
    pin: Secret | None = None,
    preserve_data_plan: bool = False,
    disallow_proximity_setup: bool = False,
    obliteration: Obliteration | None = None,
    return_to_service: ReturnToService | None = None,
) -> Command:
    """Erase the device. (4.7)

    The PIN as with `device_lock`. Whether the target can do what is asked is `domain/erasing.py`'s to say.

    Raises:
        UnusablePin
    """
    command: dict[str, PlistValue] = {"RequestType": "EraseDevice"}
    if pin is not None:
        command["PIN"] = require_pin(pin).reveal().decode("ascii")
    if preserve_data_plan:
        command["PreserveDataPlan"] = True
    if disallow_proximity_setup:
        command["DisallowProximitySetup"] = True
    if obliteration is not None:
        command["ObliterationBehavior"] = obliteration.value
    if return_to_service is not None:
        command["ReturnToService"] = _return_to_service(return_to_service)
    return command


def _return_to_service(wish: ReturnToService) -> dict[str, PlistValue]:
    wanted: dict[str, PlistValue] = {"Enabled": True}
    if wish.wifi_profile is not None:
        wanted["WiFiProfileData"] = wish.wifi_profile
    if wish.mdm_profile is not None:
        wanted["MDMProfileData"] = wish.mdm_profile
    if wish.keeps_apps:
        wanted["BootstrapToken"] = b""
    return wanted
