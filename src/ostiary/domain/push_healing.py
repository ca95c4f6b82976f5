"""What a dead push token means, and what would bring another: by APNs' reason, and by the kind of channel."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ostiary.domain.enrollment import Enrollment
from ostiary.protocol.mdm.identity import EnrollmentType

WHY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Unregistered": "APNs no longer knows the token: the device was erased or restored, or its profile removed.",
        "ExpiredToken": "APNs says that the token's time is over: the device has a newer one, or is gone.",
        "BadDeviceToken": "APNs never knew the token: it is damaged, or of the development environment.",
    }
)
"""In Apple's words, as far as they go. (check-in-and-commands.md 5.4, 5.5)"""

_WAITS: Final = "Any TokenUpdate heals it; commands wait until then, and are pushed at once."
_USER_HEALS: Final[Mapping[EnrollmentType, str]] = MappingProxyType(
    {
        EnrollmentType.USER: "The user logs in on the Mac",
        EnrollmentType.USER_ENROLLMENT: "The user logs in on the Mac",
        EnrollmentType.SHARED_IPAD: "The user signs in on the shared iPad",
    }
)
_MAC_HEALS: Final = (
    "The Mac checks in by itself when its token changes; `sudo profiles renew -type enrollment` on it does the same at "
    "once. If it was erased, it enrolls anew"
)
_DEVICE_HEALS: Final = (
    "The device checks in by itself when its token changes, which a restart or an update of the system may do. If "
    "nothing comes in days: it was erased or its profile removed, so it enrolls anew"
)


def why_dead(reason: str | None) -> str:
    """What APNs' reason says of the token."""
    return WHY.get(reason or "", f"APNs refused it ({reason or 'no reason given'}).")


def healing_of(channel: Enrollment) -> str:
    """What would bring this channel a living push token; there is no command that asks a device for one. (TU-6)"""
    heals = _USER_HEALS.get(channel.type) or (_MAC_HEALS if _is_mac(channel) else _DEVICE_HEALS)
    return f"{heals}. {_WAITS}"


def _is_mac(channel: Enrollment) -> bool:
    """By the names that Apple gives its models: iMac, MacBookPro18,3, Mac mini, VirtualMac2,1."""
    named = channel.facts.product_name or channel.facts.model_name or channel.facts.model or ""
    return "mac" in named.lower()
