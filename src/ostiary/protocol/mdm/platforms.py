"""Which of Apple's systems a device runs, in which version and on which chip, read from what it calls itself."""

import re
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from ostiary.protocol.mdm.checkin import DeviceFacts

OsVersion: TypeAlias = tuple[int, ...]
"""Its numbers, most significant first: `(10, 15, 7)`."""

FIRST_FOR_APPLE_SILICON: Final[OsVersion] = (11,)


class Platform(StrEnum):
    """Apple's operating systems, spelled as Apple spells them."""

    IOS = "iOS"
    IPADOS = "iPadOS"
    MACOS = "macOS"
    TVOS = "tvOS"
    VISIONOS = "visionOS"
    WATCHOS = "watchOS"


class Chip(StrEnum):
    """What a Mac is built on; firmware passwords and Recovery Locks part here."""

    APPLE_SILICON = "Apple silicon"
    INTEL = "Intel"


_IDENTIFIER: Final = re.compile(r"([A-Za-z]+)([0-9]{1,4}),[0-9]{1,4}")
"""What a product name is: `iPhone15,2`, `MacBookPro16,1`."""
_VERSION: Final = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,5}){0,4}")
_BY_FAMILY: Final = (
    ("iPad", Platform.IPADOS),
    ("iPhone", Platform.IOS),
    ("iPod", Platform.IOS),
    ("AppleTV", Platform.TVOS),
    ("Apple TV", Platform.TVOS),
    ("AudioAccessory", Platform.TVOS),
    ("RealityDevice", Platform.VISIONOS),
    ("Apple Vision", Platform.VISIONOS),
    ("Watch", Platform.WATCHOS),
    ("Apple Watch", Platform.WATCHOS),
)
_FIRST_OF_APPLE_SILICON: Final = MappingProxyType(
    {"Mac": 13, "MacBookAir": 10, "MacBookPro": 17, "Macmini": 9, "iMac": 21, "VirtualMac": 2}
)
"""The first number of each family of Macs that is Apple silicon; families that are missing ended before."""
_INTEL_ONLY: Final = frozenset({"MacBook", "MacPro", "iMacPro", "Xserve"})


def platform_of(facts: DeviceFacts) -> Platform | None:
    """The system a device runs, by its product name, else its model or model name; None if none of them tells."""
    for said in (facts.product_name, facts.model, facts.model_name):
        if said and (found := _platform_named(said)) is not None:
            return found
    return None


def version_of(facts: DeviceFacts) -> OsVersion | None:
    """The numbers that an OSVersion begins with: `17.4.1` and `17.4.1 (a)` are `(17, 4, 1)`; None if it has none."""
    found = _VERSION.match(facts.os_version or "")
    return tuple(int(number) for number in found.group().split(".")) if found else None


def chip_of(facts: DeviceFacts) -> Chip | None:
    """What a Mac is built on, by its identifier or a system too old for anything but Intel; None if neither tells."""
    if platform_of(facts) is not Platform.MACOS:
        return None
    version = version_of(facts)
    if version is not None and version < FIRST_FOR_APPLE_SILICON:
        return Chip.INTEL
    for said in (facts.product_name, facts.model):
        if (found := _IDENTIFIER.fullmatch(said or "")) is None:
            continue
        family, number = found.group(1), int(found.group(2))
        if family in _INTEL_ONLY:
            return Chip.INTEL
        if (first := _FIRST_OF_APPLE_SILICON.get(family)) is not None:
            return Chip.APPLE_SILICON if number >= first else Chip.INTEL
    return None


def _platform_named(said: str) -> Platform | None:
    for family, platform in _BY_FAMILY:
        if said.startswith(family):
            return platform
    return Platform.MACOS if "Mac" in said or said.startswith("Xserve") else None
