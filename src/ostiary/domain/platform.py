"""What kind of device a relationship is with, as far as anything it said tells. None is "not known", never "no"."""

from collections.abc import Iterable
from typing import Final

from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.protocol.mdm.device_information import HardwareFacts
from ostiary.protocol.mdm.platforms import (
    Chip,
    OsVersion,
    Platform,
    chip_of,
    platform_of,
    version_of,
)
from ostiary.protocol.mdm.security_info import SecurityFacts
from ostiary.values import dataclass

_ALWAYS_SUPERVISED_FROM: Final = {
    Platform.IOS: (13,),
    Platform.IPADOS: (13,),
    Platform.TVOS: (13,),
    Platform.MACOS: (11,),
}
"""From these on, whatever Automated Device Enrollment brings is supervised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A device as its Authenticate and its reports describe it."""

    platform: Platform | None
    version: OsVersion | None
    chip: Chip | None
    """Of a Mac."""
    user_enrollment: bool
    """By its kind of id, or by its own word: by profile or account-driven, somebody's own device."""
    shared_ipad: bool | None
    supervised: bool | None
    automated: bool | None
    """Whether Automated Device Enrollment brought it here."""
    awaiting: bool | None
    """Whether it waits in Setup Assistant; not known before its first TokenUpdate."""

    @property
    def is_mac(self) -> bool:
        return self.platform is Platform.MACOS

    @property
    def may_be_mac(self) -> bool:
        """A Mac, or a device that never said what it is."""
        return self.platform in (Platform.MACOS, None)


def machine_of(device: Enrollment, sheets: Iterable[FactSheet] = ()) -> Machine:
    """Everything that is known of a device's kind, from its row and from what it last reported."""
    by_name = {sheet.name: sheet.facts for sheet in sheets}
    hardware = HardwareFacts.read(by_name.get(SheetName.DEVICE, {}))
    security = SecurityFacts.read(by_name.get(SheetName.SECURITY, {}))
    platform, version = platform_of(device.facts), version_of(device.facts)
    user_enrollment = device.type.is_user_enrollment or security.user_enrollment is True
    chip = chip_of(device.facts)
    if platform is Platform.MACOS and hardware.apple_silicon is not None:
        chip = Chip.APPLE_SILICON if hardware.apple_silicon else Chip.INTEL
    supervised = False if user_enrollment else hardware.supervised
    awaiting = None if device.state is State.PENDING else device.awaiting
    return Machine(
        platform=platform,
        version=version,
        chip=chip,
        user_enrollment=user_enrollment,
        shared_ipad=hardware.shared_ipad,
        supervised=supervised,
        automated=_automated(
            said=security.enrolled_by_automation,
            awaiting=awaiting,
            supervised=supervised,
            platform=platform,
            version=version,
        ),
        awaiting=awaiting,
    )


def _automated(
    *,
    said: bool | None,
    awaiting: bool | None,
    supervised: bool | None,
    platform: Platform | None,
    version: OsVersion | None,
) -> bool | None:
    """By its own word; only such a device ever waits; and on current systems none of them is unsupervised."""
    if said is not None:
        return said
    if awaiting:
        return True
    first = _ALWAYS_SUPERVISED_FROM.get(platform) if platform is not None else None
    if supervised is False and first is not None and version is not None and version >= first:
        return False
    return None
