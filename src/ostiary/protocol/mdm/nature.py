"""The table of request types: what each may do, and what it needs of channel, profile and device.

Source: escrowed-secrets.md 4.1 to 4.11, the lines on platforms, rights and channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from ostiary.protocol.mdm.platforms import Chip, OsVersion, Platform


class Kind(Enum):
    """What a request type may do; everything that is not ordinary takes the typed path and its own scope. (design.md 5)"""

    ORDINARY = "ordinary"
    SECRET = "secret"  # noqa: S105 - the name of a kind, not a secret
    DESTRUCTIVE = "destructive"


class Waiting(Enum):
    """What a command wants of a device that may be waiting in Setup Assistant."""

    NO_MATTER = "no matter"
    REQUIRED = "required"
    FORBIDDEN = "forbidden"


class SharedIpad(Enum):
    """What a command says to an iPad with many users."""

    WELCOME = "welcome"
    REQUIRED = "required"
    FORBIDDEN = "forbidden"


Systems = Mapping[Platform, OsVersion]
"""The platforms that know a command, each with its first version."""

_NO_PLATFORMS: Final[frozenset[Platform]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """What the schemas say of a request type, as far as we refuse by it."""

    kind: Kind = Kind.ORDINARY
    device_channel_only: bool = False
    urgent: bool = False
    right: int = 0
    """Bit of AccessRights that the installed profile must grant; 0 for none."""
    systems: Systems | None = None
    """None: we refuse on no platform."""
    user_enrollment: bool = True
    no_user_enrollment_on: frozenset[Platform] = _NO_PLATFORMS
    """Platforms where User Enrollment forbids it although others allow it."""
    shared_ipad: SharedIpad = SharedIpad.WELCOME
    supervised: bool = False
    automated: bool = False
    """Only where Automated Device Enrollment brought the device here."""
    waiting: Waiting = Waiting.NO_MATTER
    chip: Chip | None = None


LOCK_RIGHT: Final = 4
ERASE_RIGHT: Final = 8
SECURITY_RIGHT: Final = 1024

_ORDINARY: Final = Nature()
_DESTRUCTIVE: Final = Nature(kind=Kind.DESTRUCTIVE, device_channel_only=True, user_enrollment=False)


def _systems(
    *,
    ios: OsVersion | None = None,
    macos: OsVersion | None = None,
    tvos: OsVersion | None = None,
    visionos: OsVersion | None = None,
    watchos: OsVersion | None = None,
) -> Systems:
    """First versions by platform; what the schemas say of iOS holds for iPadOS."""
    firsts = {
        Platform.IOS: ios,
        Platform.IPADOS: ios,
        Platform.MACOS: macos,
        Platform.TVOS: tvos,
        Platform.VISIONOS: visionos,
        Platform.WATCHOS: watchos,
    }
    return MappingProxyType(
        {platform: first for platform, first in firsts.items() if first is not None}
    )


_BYPASS_SYSTEMS: Final = _systems(ios=(7, 1), macos=(10, 15), visionos=(2,))

NATURE: Final[Mapping[str, Nature]] = MappingProxyType(
    {
        # 4.1
        "ClearPasscode": Nature(
            kind=Kind.SECRET,
            device_channel_only=True,
            urgent=True,
            right=LOCK_RIGHT,
            systems=_systems(ios=(4,), visionos=(1, 1), watchos=(10,)),
            user_enrollment=False,
            shared_ipad=SharedIpad.FORBIDDEN,
        ),
        # 4.2
        "SecurityInfo": Nature(device_channel_only=True, right=SECURITY_RIGHT),
        "UserList": Nature(
            device_channel_only=True,
            systems=_systems(ios=(9, 3), macos=(10, 13)),
            user_enrollment=False,
            shared_ipad=SharedIpad.REQUIRED,
        ),
        # 4.3; the newest page asks for supervision, field reports do not: not refused by it
        "RotateFileVaultKey": Nature(
            kind=Kind.SECRET,
            device_channel_only=True,
            right=LOCK_RIGHT,
            systems=_systems(macos=(10, 9)),
            user_enrollment=False,
        ),
        # 4.4
        "SetRecoveryLock": Nature(
            kind=Kind.SECRET,
            device_channel_only=True,
            right=LOCK_RIGHT,
            systems=_systems(macos=(11, 5)),
            user_enrollment=False,
            waiting=Waiting.FORBIDDEN,
            chip=Chip.APPLE_SILICON,
        ),
        "VerifyRecoveryLock": Nature(
            kind=Kind.SECRET,
            device_channel_only=True,
            right=LOCK_RIGHT,
            systems=_systems(macos=(11, 5)),
            user_enrollment=False,
            chip=Chip.APPLE_SILICON,
        ),
        # 4.5
        "SetFirmwarePassword": Nature(
            kind=Kind.SECRET,
            device_channel_only=True,
            right=LOCK_RIGHT,
            systems=_systems(macos=(10, 13)),
            user_enrollment=False,
            chip=Chip.INTEL,
        ),
        "VerifyFirmwarePassword": Nature(
            kind=Kind.SECRET,
            device_channel_only=True,
            systems=_systems(macos=(10, 13)),
            user_enrollment=False,
            chip=Chip.INTEL,
        ),
        # 4.6
        "DeviceLock": Nature(
            kind=Kind.DESTRUCTIVE,
            device_channel_only=True,
            urgent=True,
            right=LOCK_RIGHT,
            systems=_systems(ios=(4,), macos=(10, 7), visionos=(2,), watchos=(10,)),
            no_user_enrollment_on=frozenset({Platform.MACOS}),
        ),
        # 4.7
        "EraseDevice": Nature(
            kind=Kind.DESTRUCTIVE,
            device_channel_only=True,
            urgent=True,
            right=ERASE_RIGHT,
            systems=_systems(ios=(4,), macos=(10, 7), tvos=(10, 2), visionos=(1, 1), watchos=(10,)),
            user_enrollment=False,
        ),
        # 4.8
        "AccountConfiguration": Nature(
            kind=Kind.SECRET,
            device_channel_only=True,
            systems=_systems(macos=(10, 11)),
            user_enrollment=False,
            automated=True,
            waiting=Waiting.REQUIRED,
        ),
        "SetAutoAdminPassword": Nature(
            kind=Kind.SECRET,
            device_channel_only=True,
            systems=_systems(macos=(10, 11)),
            user_enrollment=False,
            automated=True,
        ),
        # 4.9
        "ActivationLockBypassCode": Nature(
            kind=Kind.SECRET,
            device_channel_only=True,
            systems=_BYPASS_SYSTEMS,
            user_enrollment=False,
            shared_ipad=SharedIpad.FORBIDDEN,
            supervised=True,
        ),
        "ClearActivationLockBypassCode": Nature(
            kind=Kind.DESTRUCTIVE,
            device_channel_only=True,
            systems=_BYPASS_SYSTEMS,
            user_enrollment=False,
            shared_ipad=SharedIpad.FORBIDDEN,
            supervised=True,
        ),
        # 4.10
        "UnlockUserAccount": Nature(
            device_channel_only=True,
            right=LOCK_RIGHT,
            systems=_systems(macos=(10, 13)),
            user_enrollment=False,
        ),
        # 4.11
        "LOMSetupRequest": Nature(
            device_channel_only=True,
            right=LOCK_RIGHT,
            systems=_systems(macos=(11,)),
            user_enrollment=False,
        ),
        "LOMDeviceRequest": Nature(
            kind=Kind.DESTRUCTIVE,
            device_channel_only=True,
            right=LOCK_RIGHT,
            systems=_systems(macos=(11,)),
            user_enrollment=False,
        ),
        # not of these tables: what they may do is all we know of them, and that Apple's schemas forbid them under
        # User Enrollment
        "RestartDevice": Nature(device_channel_only=True, user_enrollment=False),
        "ShutDownDevice": _DESTRUCTIVE,
        "DeleteUser": _DESTRUCTIVE,
        "EnableLostMode": _DESTRUCTIVE,
        "ClearRestrictionsPassword": _DESTRUCTIVE,
    }
    # What else Apple's schemas (mdm/commands) call forbidden under User Enrollment, on every platform that knows it
    | {
        name: Nature(user_enrollment=False)
        for name in (
            "AvailableOSUpdates",
            "DeviceConfigured",
            "DeviceLocation",
            "DisableLostMode",
            "DisableRemoteDesktop",
            "EnableRemoteDesktop",
            "LogOutUser",
            "OSUpdateStatus",
            "PlayLostModeSound",
            "RefreshCellularPlans",
            "RequestUnlockToken",
            "Restrictions",
            "ScheduleOSUpdate",
            "ScheduleOSUpdateScan",
            "UserConfigured",
        )
    }
)


_OTHERS: Final = (
    "CertificateList", "DeclarativeManagement", "DeviceInformation", "InstallApplication",
    "InstallEnterpriseApplication", "InstallProfile", "InstalledApplicationList", "ManagedApplicationList",
    "ProfileList", "ProvisioningProfileList", "RemoveApplication", "RemoveProfile", "Settings",
)  # fmt: skip
"""Request types without a line above, whose spelling we know all the same."""
_NATURE_BY_LOWER: Final = {name.lower(): nature for name, nature in NATURE.items()}
_SPELLING_BY_LOWER: Final = {name.lower(): name for name in (*NATURE, *_OTHERS)}


def nature_of(request_type: str) -> Nature:
    """What a request type does and needs; one that we do not list is ordinary, for Apple adds new ones.

    However it is written: whether some device reads `erasedevice` as EraseDevice is not for us to find out.
    """
    return _NATURE_BY_LOWER.get(request_type.lower(), _ORDINARY)


def spelling_of(request_type: str) -> str | None:
    """The one spelling of a request type, whatever capitals it came with; None for one that is not known here."""
    return _SPELLING_BY_LOWER.get(request_type.lower())
