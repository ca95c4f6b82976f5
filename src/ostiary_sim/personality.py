"""Which device is played: what it is, what it sends and what it understands, as data.

`PERSONALITIES` maps each name to its `Personality`; `dataclasses.replace` makes variants (another OS
version, unsupervised, awaiting configuration). `draw_names` gives one device its serial number and UDID.

Source: check-in-and-commands.md 1.3.1 to 1.3.3, 2.1, 3.4.8.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final
from uuid import UUID

from ostiary_sim.signature import SignatureForm

SHARED_USER_ID: Final = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"
"""The UserID that every user of every Shared iPad sends. Source: check-in-and-commands.md 1.3.1."""


class Platform(Enum):
    """The operating system family."""

    IOS = "iOS"
    MACOS = "macOS"
    TVOS = "tvOS"
    WATCHOS = "watchOS"
    VISIONOS = "visionOS"


class UdidForm(Enum):
    """How a device of this age writes its UDID. Source: check-in-and-commands.md 2.1."""

    HEX_40 = "forty lower-case hex digits"
    CHIP = "XXXXXXXX-XXXXXXXXXXXXXXXX"
    UUID = "an upper-case UUID"


class UserChannels(Enum):
    """Which users have a channel of their own."""

    NONE = "none"
    MAC = "macOS users by GUID"
    SHARED_IPAD = "Shared iPad users by short name"


UNRECOGNIZED_DEVICE_SINCE: Final[Mapping[Platform, tuple[int, ...]]] = {
    Platform.IOS: (17,),
    Platform.MACOS: (14,),
    Platform.TVOS: (17,),
    Platform.VISIONOS: (1, 1),
    Platform.WATCHOS: (10,),
}
"""From here on, 403 with com.apple.unrecognized.device unenrolls. Source: check-in-and-commands.md 3.7."""

_EVERYWHERE = frozenset(
    {
        "DeviceInformation", "SecurityInfo", "InstallProfile", "RemoveProfile", "ProfileList",
        "DeclarativeManagement",
    }
)  # fmt: skip
_WHOLE_DEVICE = frozenset({"EraseDevice", "RestartDevice", "DeviceConfigured", "Settings"})
_BYPASS_CODE = frozenset({"ActivationLockBypassCode", "ClearActivationLockBypassCode"})
_HANDHELD = _EVERYWHERE | _WHOLE_DEVICE | _BYPASS_CODE | {"DeviceLock", "ClearPasscode"}
_MAC = (
    _EVERYWHERE
    | _WHOLE_DEVICE
    | _BYPASS_CODE
    | {
        "DeviceLock", "UserList", "RotateFileVaultKey", "SetRecoveryLock", "VerifyRecoveryLock",
        "SetFirmwarePassword", "VerifyFirmwarePassword", "AccountConfiguration",
        "SetAutoAdminPassword", "UnlockUserAccount", "LOMSetupRequest", "LOMDeviceRequest",
    }
)  # fmt: skip
_MAC_USER = frozenset(
    {"InstallProfile", "RemoveProfile", "ProfileList", "DeclarativeManagement", "DeviceConfigured"}
)
_SHARED_USER = frozenset(
    {"InstallProfile", "RemoveProfile", "ProfileList", "DeclarativeManagement", "UserConfigured"}
)
_BYOD = _EVERYWHERE | {"DeviceLock", "Settings"}

_NEVER_NOT_NOW_IOS = frozenset(
    {
        "DeviceInformation", "ProfileList", "DeviceLock", "EraseDevice", "ClearPasscode",
        "ProvisioningProfileList", "InstalledApplicationList", "Restrictions",
    }
)  # fmt: skip
_NEVER_NOT_NOW_MAC = frozenset(
    {
        "DeleteUser", "DeviceLock", "EraseDevice", "RestartDevice", "ShutDownDevice", "UserList",
        "ActivationLockBypassCode", "ClearActivationLockBypassCode", "UnlockUserAccount",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Personality:
    """A kind of device. Whatever differs between platforms is a field here, not a branch elsewhere."""

    name: str
    platform: Platform
    product_name: str
    model: str
    model_name: str
    os_version: str
    build_version: str
    udid_form: UdidForm
    commands: frozenset[str]
    """Request types understood on the device channel."""
    user_commands: frozenset[str] = frozenset()
    """Request types understood on a user channel."""
    never_not_now: frozenset[str] = _NEVER_NOT_NOW_IOS
    """Request types never put off, whatever `say_not_now` asks."""
    signature_form: SignatureForm = SignatureForm.ATTRIBUTES_SHA256
    user_agent: str = "MDM/1.0"
    supervised: bool = True
    automated: bool = False
    """Enrolled by Automated Device Enrollment."""
    awaiting: bool = False
    """Waits in Setup Assistant for DeviceConfigured after the first TokenUpdate."""
    user_channels: UserChannels = UserChannels.NONE
    user_enrollment: bool = False
    """BYOD: known by EnrollmentID alone, sends neither UDID nor serial number."""
    sends_unlock_token: bool = False
    bootstrap_tokens: bool = False
    """A Mac that may escrow a bootstrap token."""
    apple_silicon: bool = True
    security_chip: bool = True
    """A Mac with Apple silicon or a T2 chip."""
    lights_out: bool = False
    """A Mac that can be woken while it is off."""
    cellular: bool = False
    initial_users: tuple[str, ...] = ()
    """Short names that a fleet logs in by itself, in this order."""

    @property
    def version(self) -> tuple[int, ...]:
        """The OS version as numbers, to compare."""
        return tuple(int(part) for part in self.os_version.split("."))

    @property
    def obeys_unrecognized_device(self) -> bool:
        """Say whether the 403 body of 3.7 makes this device leave management."""
        return self.version >= UNRECOGNIZED_DEVICE_SINCE[self.platform]

    @property
    def can_be_activation_locked(self) -> bool:
        """Say whether Activation Lock exists on such a device: on Macs, with a security chip."""
        return self.platform is not Platform.MACOS or self.security_chip

    @property
    def announces_model(self) -> bool:
        """Say whether Authenticate carries DeviceName, Model and ModelName (macOS alone)."""
        return self.platform is Platform.MACOS

    @property
    def version_needs_right(self) -> bool:
        """Say whether OS version, build and product go out only with access right 16."""
        return self.platform in (Platform.IOS, Platform.VISIONOS, Platform.WATCHOS)

    @property
    def serial_needs_right(self) -> bool:
        """Say whether the serial number goes out only with access right 16 (not on tvOS)."""
        return self.platform is not Platform.TVOS


def _iphone() -> Personality:
    return Personality(
        name="iphone", platform=Platform.IOS, product_name="iPhone15,4", model="MTMN3",
        model_name="iPhone", os_version="18.5", build_version="22F76", udid_form=UdidForm.CHIP,
        commands=_HANDHELD, sends_unlock_token=True, cellular=True,
    )  # fmt: skip


def _ipad() -> Personality:
    return Personality(
        name="ipad", platform=Platform.IOS, product_name="iPad14,8", model="MUWC3",
        model_name="iPad", os_version="18.5", build_version="22F76", udid_form=UdidForm.CHIP,
        commands=_HANDHELD, sends_unlock_token=True,
    )  # fmt: skip


def _old_ipad() -> Personality:
    return Personality(
        name="old-ipad", platform=Platform.IOS, product_name="iPad5,3", model="MH182",
        model_name="iPad", os_version="15.8.4", build_version="19H390", udid_form=UdidForm.HEX_40,
        commands=_HANDHELD, sends_unlock_token=True,
    )  # fmt: skip


def _shared_ipad() -> Personality:
    return Personality(
        name="shared-ipad", platform=Platform.IOS, product_name="iPad13,18", model="MPQ03",
        model_name="iPad", os_version="18.5", build_version="22F76", udid_form=UdidForm.CHIP,
        commands=(_HANDHELD - _BYPASS_CODE - {"ClearPasscode"}) | {"UserList"},
        user_commands=_SHARED_USER,
        automated=True, user_channels=UserChannels.SHARED_IPAD,
        initial_users=("ada@school.example", "grace@school.example"),
    )  # fmt: skip


def _mac() -> Personality:
    return Personality(
        name="mac", platform=Platform.MACOS, product_name="Mac14,2", model="MacBookAir",
        model_name="MacBook Air", os_version="15.5", build_version="24F74", udid_form=UdidForm.UUID,
        commands=_MAC, user_commands=_MAC_USER, never_not_now=_NEVER_NOT_NOW_MAC,
        signature_form=SignatureForm.BARE_SHA256, user_agent="MDM-OSX/1.0 mdmclient/2014",
        automated=True, user_channels=UserChannels.MAC, bootstrap_tokens=True,
        initial_users=("ada",),
    )  # fmt: skip


def _old_mac() -> Personality:
    return Personality(
        name="mac-10.15", platform=Platform.MACOS, product_name="MacBookPro15,1", model="MacBookPro",
        model_name="MacBook Pro", os_version="10.15.7", build_version="19H15",
        udid_form=UdidForm.UUID, commands=_MAC, user_commands=_MAC_USER,
        never_not_now=_NEVER_NOT_NOW_MAC, signature_form=SignatureForm.BARE_SHA1,
        user_agent="MDM-OSX/1.0 mdmclient/1080", automated=True, user_channels=UserChannels.MAC,
        bootstrap_tokens=True, apple_silicon=False, initial_users=("ada",),
    )  # fmt: skip


def _intel_mac() -> Personality:
    return Personality(
        name="mac-intel", platform=Platform.MACOS, product_name="iMac19,1", model="iMac",
        model_name="iMac", os_version="13.7.6", build_version="22H625", udid_form=UdidForm.UUID,
        commands=_MAC, user_commands=_MAC_USER, never_not_now=_NEVER_NOT_NOW_MAC,
        signature_form=SignatureForm.BARE_SHA256, user_agent="MDM-OSX/1.0 mdmclient/1600",
        automated=True, user_channels=UserChannels.MAC, bootstrap_tokens=True,
        apple_silicon=False, security_chip=False, initial_users=("ada",),
    )  # fmt: skip


def _mac_mini() -> Personality:
    return Personality(
        name="mac-mini", platform=Platform.MACOS, product_name="Mac14,12", model="Macmini",
        model_name="Mac mini", os_version="15.5", build_version="24F74", udid_form=UdidForm.UUID,
        commands=_MAC, user_commands=_MAC_USER, never_not_now=_NEVER_NOT_NOW_MAC,
        signature_form=SignatureForm.BARE_SHA256, user_agent="MDM-OSX/1.0 mdmclient/2014",
        automated=True, user_channels=UserChannels.MAC, bootstrap_tokens=True, lights_out=True,
        initial_users=("ada",),
    )  # fmt: skip


def _apple_tv() -> Personality:
    return Personality(
        name="apple-tv", platform=Platform.TVOS, product_name="AppleTV14,1", model="MN873",
        model_name="Apple TV", os_version="18.5", build_version="22L572", udid_form=UdidForm.CHIP,
        commands=_EVERYWHERE | _WHOLE_DEVICE,
    )  # fmt: skip


def _byod_iphone() -> Personality:
    return Personality(
        name="byod-iphone", platform=Platform.IOS, product_name="iPhone15,4", model="MTMN3",
        model_name="iPhone", os_version="18.5", build_version="22F76", udid_form=UdidForm.CHIP,
        commands=_BYOD, supervised=False, user_enrollment=True, cellular=True,
    )  # fmt: skip


def _byod_mac() -> Personality:
    return Personality(
        name="byod-mac", platform=Platform.MACOS, product_name="Mac14,2", model="MacBookAir",
        model_name="MacBook Air", os_version="15.5", build_version="24F74", udid_form=UdidForm.UUID,
        commands=_BYOD - {"DeviceLock"}, user_commands=_MAC_USER,
        never_not_now=_NEVER_NOT_NOW_MAC, signature_form=SignatureForm.BARE_SHA256,
        user_agent="MDM-OSX/1.0 mdmclient/2014", supervised=False, user_enrollment=True,
        user_channels=UserChannels.MAC, initial_users=("ada",),
    )  # fmt: skip


def _watch() -> Personality:
    return Personality(
        name="watch", platform=Platform.WATCHOS, product_name="Watch7,5", model="MXM23",
        model_name="Apple Watch", os_version="11.5", build_version="22T572",
        udid_form=UdidForm.CHIP, commands=_HANDHELD - _BYPASS_CODE - {"DeviceConfigured"},
        sends_unlock_token=True,
    )  # fmt: skip


def _vision() -> Personality:
    return Personality(
        name="vision", platform=Platform.VISIONOS, product_name="RealityDevice14,1", model="MQL83",
        model_name="Apple Vision Pro", os_version="2.5", build_version="22O473",
        udid_form=UdidForm.CHIP, commands=_HANDHELD, sends_unlock_token=True,
    )  # fmt: skip


PERSONALITIES: Final[Mapping[str, Personality]] = {
    made.name: made
    for made in (
        _iphone(), _ipad(), _old_ipad(), _shared_ipad(), _mac(), _old_mac(), _intel_mac(),
        _mac_mini(), _apple_tv(), _byod_iphone(), _byod_mac(), _watch(), _vision(),
    )
}  # fmt: skip
"""Every kind of device that can be played, by the name used on the command line."""

_SERIAL_LETTERS: Final = (
    "0123456789ABCDEFGHJKLMNPQRTUVWXY"  # Apple's serials avoid letters that look like digits
)
_CHIPS: Final = ("00008030", "00008101", "00008110", "00008120", "00008130")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What one physical device is called for its whole life."""

    serial: str
    udid: str
    imei: str


def draw_names(personality: Personality, rng: random.Random) -> Names:
    """Names for one device, in the forms its platform uses; equal generators give equal names."""
    serial = "".join(rng.choices(_SERIAL_LETTERS, k=10))
    udid: str
    match personality.udid_form:
        case UdidForm.HEX_40:
            udid = rng.randbytes(20).hex()
        case UdidForm.CHIP:
            udid = f"{rng.choice(_CHIPS)}-{rng.randbytes(8).hex().upper()}"
        case UdidForm.UUID:
            udid = draw_uuid(rng)
    return Names(serial=serial, udid=udid, imei="35" + "".join(rng.choices("0123456789", k=13)))


def draw_uuid(rng: random.Random) -> str:
    """An upper-case version 4 UUID from the device's own generator."""
    return str(UUID(bytes=rng.randbytes(16), version=4)).upper()
