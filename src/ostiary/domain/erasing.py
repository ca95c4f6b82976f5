"""Whether an erase can do to this device what it says, and what is needed for it. (escrowed-secrets.md 4.7)"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.facts import FactSheet
from ostiary.domain.platform import Machine, machine_of
from ostiary.domain.suitability import CommandNotForThisPlatform, SystemTooOld
from ostiary.errors import Refused
from ostiary.protocol.mdm.commands import Command
from ostiary.protocol.mdm.platforms import Chip, OsVersion, Platform
from ostiary.protocol.mdm.written_commands import ERASE_DEVICE, RETURN
from ostiary.values import dataclass

_RETURNS: Final[Mapping[Platform, OsVersion]] = MappingProxyType(
    {
        Platform.IOS: (17,),
        Platform.IPADOS: (17,),
        Platform.TVOS: (18,),
        Platform.VISIONOS: (26,),
    }
)
_KEEPS_APPS: Final[Mapping[Platform, OsVersion]] = MappingProxyType(
    {Platform.IOS: (26,), Platform.IPADOS: (26,), Platform.VISIONOS: (26,)}
)


class WayBackMissing(Refused):
    """The device would be erased and come back to nobody: no automated enrollment, and no profile to enroll with."""

    hint = (
        "Send an enrollment profile along, or leave MDMProfileData empty and one is made when the command goes out; "
        "`ostiary enqueue ID erase-device --return-to-service` does that by itself."
    )


class NoBootstrapToken(Refused):
    """To keep its apps the device needs its bootstrap token, and none is held."""

    hint = (
        "Devices hand one over after an enrollment whose profile turns Return to Service on; without it, "
        "Return to Service works and the apps are installed anew."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasePlan:
    """What an erase is to do beside erasing."""

    returns_to_service: bool = False
    has_mdm_profile: bool = False
    """The command carries a profile to enroll with; or an empty one, in whose place one is made at hand-out."""
    keeps_apps: bool = False
    """The command has the bootstrap token's key: filled in at hand-out, whatever stands there."""

    @classmethod
    def of(cls, command: Command) -> "ErasePlan":
        """What an EraseDevice command is to do, whoever wrote it; the same keys in another command mean nothing."""
        wish = command.get(RETURN) if command.get("RequestType") == ERASE_DEVICE else None
        if not isinstance(wish, Mapping) or wish.get("Enabled") is not True:
            return cls()
        return cls(
            returns_to_service=True,
            has_mdm_profile="MDMProfileData" in wish,
            keeps_apps="BootstrapToken" in wish,
        )


ERASES_ONLY: Final = ErasePlan()


def require_erasable(device: Enrollment, plan: ErasePlan, sheets: Iterable[FactSheet] = ()) -> None:
    """Refuse an erase after which the device would not be as wished; what is not known never refuses.

    Raises:
        CommandNotForThisPlatform, SystemTooOld: it knows no Return to Service, or none that keeps apps.
        WayBackMissing: (ER-04)
        NoBootstrapToken: (ER-06)
    """
    if not plan.returns_to_service:
        return
    machine = machine_of(device, sheets)
    _require_since(machine, _RETURNS, "Return to Service", device)
    if machine.automated is False and not plan.has_mdm_profile:
        raise WayBackMissing(enrollment_id=device.id)
    if plan.keeps_apps:
        _require_since(machine, _KEEPS_APPS, "Return to Service that keeps apps", device)
        if device.bootstrap is None:
            raise NoBootstrapToken(enrollment_id=device.id)


def erase_needs_pin(machine: Machine) -> bool:
    """Whether an erase carries a PIN: on all that may be a Mac and are not known to be Apple silicon. (4.7 consequence 6)

    Macs with T2 take one and do not use it; which Intel Macs those are, no report says. Others do not look at it.
    """
    return machine.may_be_mac and machine.chip is not Chip.APPLE_SILICON


def _require_since(
    machine: Machine, firsts: Mapping[Platform, OsVersion], what: str, device: Enrollment
) -> None:
    if machine.platform is None:
        return
    first = firsts.get(machine.platform)
    if first is None:
        raise CommandNotForThisPlatform(
            f"{machine.platform} knows no {what}", enrollment_id=device.id
        )
    if machine.version is not None and machine.version < first:
        raise SystemTooOld(
            f"{what} begins with {machine.platform} {first[0]}", enrollment_id=device.id
        )
