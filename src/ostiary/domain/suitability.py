"""Whether a device can carry out a kind of command at all, said before the command is queued, with the reason."""

from collections.abc import Collection, Iterable
from typing import Final

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.facts import FactSheet
from ostiary.domain.platform import Machine, machine_of
from ostiary.errors import Conflicting, Refused
from ostiary.protocol.mdm.nature import Nature, SharedIpad, Waiting, nature_of
from ostiary.protocol.mdm.platforms import OsVersion, Platform

CLEAR_PASSCODE: Final = "ClearPasscode"

_WITH_SHARED_IPADS: Final = frozenset({Platform.IPADOS})


class CommandNotForThisChannel(Refused):
    """This command works on the device channel only, and a user channel was named."""

    hint = "Name the device: the part of the id before the colon."


class CommandNotForThisEnrollment(Refused):
    """Apple forbids this command under User Enrollment."""

    hint = "The device is its owner's; only an enrollment of the whole device would allow it."


class ProfileNotForThisEnrollment(Refused):
    """Apple forbids a payload of this profile under User Enrollment; the device would refuse the profile."""

    hint = (
        "The device is its owner's: only an enrollment of the whole device would allow it. From a profile of your own "
        "leave that payload out."
    )


class CommandNotForThisPlatform(Refused):
    """This kind of device does not know the command."""

    hint = "Nothing on the device can change that; name other devices."


class SystemTooOld(Refused):
    """The device's system does not know this command yet."""

    hint = "Update the device; once it has reported its new version, ask again."


class CommandNotForThisMac(Refused):
    """This command belongs to Macs of the other kind of processor."""

    hint = (
        "Apple silicon has a Recovery Lock, Intel a firmware password; each Mac knows one of them."
    )


class CommandNotForSharedIpad(Refused):
    """This command does not work on an iPad with many users."""

    hint = "Passcodes and locks of a Shared iPad belong to its users' accounts; change them there, or erase the iPad."


class OnlyForSharedIpad(Refused):
    """Of all iPhones and iPads, only a Shared iPad knows this command."""

    hint = "Others have one user, and nothing to list."


class NotSupervised(Refused):
    """This command needs supervision, and the device says that it is not supervised."""

    hint = "Supervision comes with Automated Device Enrollment or Apple Configurator, and needs an erase."


class NotByAutomatedEnrollment(Refused):
    """This command works on Macs that came by Automated Device Enrollment, and this one did not."""

    hint = "Assign the Mac in Apple's portal and erase it; its setup then makes the account."


class NotAwaiting(Conflicting):
    """This command works only while the device waits in Setup Assistant, and it does not wait."""

    hint = "It has to be queued before DeviceConfigured: erase the Mac and let it enroll again."


class StillAwaiting(Conflicting):
    """The device waits in Setup Assistant, where it would acknowledge this command and not carry it out."""

    hint = "Ask again when the device has been released and its setup has ended."


class AccessRightMissing(Refused):
    """The enrollment profile on the device does not grant the access right that the command needs."""

    hint = "Rights cannot be added by renewing a profile; the device has to enroll again with a profile that grants them."


class NoUnlockToken(Refused):
    """The device never handed over an unlock token, so its passcode cannot be cleared from here."""

    hint = (
        "No command can ask for one. Only a new enrollment, with access right 4 in the profile, makes the device "
        "send it; `ostiary token history` shows whether an earlier relationship had one."
    )


def require_suitable(
    channel: Enrollment,
    device: Enrollment,
    request_type: str,
    sheets: Iterable[FactSheet] = (),
) -> None:
    """Refuse, with the reason, a command that this device cannot carry out on this channel.

    `sheets` are the device's last reports. What nobody told us never refuses: a device whose kind, version,
    supervision or processor is not known is asked, and says itself what it cannot do.

    Raises:
        CommandNotForThisChannel, CommandNotForThisEnrollment, CommandNotForThisPlatform, SystemTooOld,
        CommandNotForThisMac, CommandNotForSharedIpad, OnlyForSharedIpad, NotSupervised, NotByAutomatedEnrollment,
        AccessRightMissing, NoUnlockToken: the device is not one for it.
        NotAwaiting, StillAwaiting: it is not the time.

    Source: escrowed-secrets.md 4.1 to 4.11; the table is `protocol/mdm/nature.py`.
    """
    nature = nature_of(request_type)
    facts = {"request_type": request_type, "enrollment_id": channel.id}
    if nature.device_channel_only and channel.is_user_channel:
        raise CommandNotForThisChannel(**facts)
    machine = machine_of(device, sheets)
    _require_enrollment(machine, nature, facts)
    _require_system(machine, nature, facts)
    _require_kind(machine, nature, facts)
    if nature.right and device.profile and not device.profile.access_rights & nature.right:
        raise AccessRightMissing(right=nature.right, **facts)
    _require_moment(machine, nature, facts)
    if request_type == CLEAR_PASSCODE and device.unlock is None:
        raise NoUnlockToken(enrollment_id=device.id)


def require_profile_suitable(
    device: Enrollment, forbidden: Collection[str], sheets: Iterable[FactSheet] = ()
) -> None:
    """Refuse a profile with these payloads, which Apple forbids under User Enrollment, for such a device.

    Raises:
        ProfileNotForThisEnrollment

    Source: escrowed-secrets.md 4.3; `protocol/mdm/profile_payloads.py` tells which they are.
    """
    if forbidden and machine_of(device, sheets).user_enrollment:
        raise ProfileNotForThisEnrollment(
            payload=", ".join(sorted(forbidden)), enrollment_id=device.id
        )


def _require_enrollment(machine: Machine, nature: Nature, facts: dict[str, str]) -> None:
    if not machine.user_enrollment:
        return
    if not nature.user_enrollment:
        raise CommandNotForThisEnrollment(**facts)
    if machine.platform in nature.no_user_enrollment_on:
        raise CommandNotForThisEnrollment(
            f"Apple forbids it for {machine.platform} under User Enrollment", **facts
        )


def _require_system(machine: Machine, nature: Nature, facts: dict[str, str]) -> None:
    if machine.platform is None or nature.systems is None:
        return
    first = nature.systems.get(machine.platform)
    if first is None:
        known = ", ".join(nature.systems)
        raise CommandNotForThisPlatform(
            f"{machine.platform} does not know this command; it exists on {known}", **facts
        )
    # Before the version: no update makes another processor of it.
    if None not in (nature.chip, machine.chip) and machine.chip is not nature.chip:
        raise CommandNotForThisMac(
            f"this command is for Macs with {nature.chip}, and this one has {machine.chip}", **facts
        )
    if machine.version is not None and _older(machine.version, first):
        raise SystemTooOld(
            f"this command begins with {machine.platform} {_written(first)}, "
            f"and the device runs {_written(machine.version)}",
            **facts,
        )


def _require_kind(machine: Machine, nature: Nature, facts: dict[str, str]) -> None:
    if nature.shared_ipad is SharedIpad.FORBIDDEN and machine.shared_ipad:
        raise CommandNotForSharedIpad(**facts)
    if nature.shared_ipad is SharedIpad.REQUIRED and _is_no_shared_ipad(machine):
        raise OnlyForSharedIpad(**facts)
    if nature.supervised and machine.supervised is False:
        raise NotSupervised(**facts)
    if nature.automated and machine.automated is False:
        raise NotByAutomatedEnrollment(**facts)


def _require_moment(machine: Machine, nature: Nature, facts: dict[str, str]) -> None:
    if nature.waiting is Waiting.REQUIRED and machine.awaiting is False:
        raise NotAwaiting(**facts)
    if nature.waiting is Waiting.FORBIDDEN and machine.awaiting:
        raise StillAwaiting(**facts)


def _is_no_shared_ipad(machine: Machine) -> bool:
    """An iPhone never is one; an iPad says so. Other systems know the command for reasons of their own."""
    if machine.platform is Platform.IOS:
        return True
    return machine.platform in _WITH_SHARED_IPADS and machine.shared_ipad is False


def _older(version: OsVersion, first: OsVersion) -> bool:
    """`11` is 11.0, as old as `11.0.0`."""
    length = max(len(version), len(first))
    return _padded(version, length) < _padded(first, length)


def _padded(version: OsVersion, length: int) -> OsVersion:
    return (*version, *(0 for _ in range(length - len(version))))


def _written(version: OsVersion) -> str:
    return ".".join(str(number) for number in version)
