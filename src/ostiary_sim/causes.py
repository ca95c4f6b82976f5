"""The six reasons for which a server hears from a device anew, each as one call, and the device that is a copy.

Source: check-in-and-commands.md 2.3.
"""

from dataclasses import replace
from enum import Enum

from ostiary_sim.device import Device
from ostiary_sim.errors import NotPossible
from ostiary_sim.personality import Platform


class Cause(Enum):
    """Why Authenticate, or TokenUpdate alone, arrives."""

    FIRST_ENROLLMENT = "A"
    RENEWAL = "B"
    """The enrollment profile is replaced by one with the same identifier."""
    ENROLLED_AGAIN = "C"
    """A user removed the profile and enrolled again; the CheckOut was lost."""
    ERASED = "D"
    PROFILES_RENEW = "E"
    """`profiles renew -type enrollment` on a Mac."""
    RESTORED = "F"
    """A backup was restored on the device it came from."""


async def play(cause: Cause, device: Device, document: bytes = b"") -> None:
    """Let it happen.

    Args:
        cause: which.
        device: to whom; enrolled already, except for a first enrollment.
        document: the enrollment profile that the server serves for it; a restored backup needs none.

    Raises:
        NotPossible: not to this kind of device.
        SimulationFailed: as `enroll` and `replace_profile` say.
    """
    match cause:
        case Cause.FIRST_ENROLLMENT:
            await device.enroll(document)
        case Cause.RENEWAL:
            await device.replace_profile(document)
        case Cause.ENROLLED_AGAIN:
            await device.remove_profile(check_out=False)
            await device.enroll(document)
        case Cause.ERASED:
            await device.erase()
            await _enroll_in_setup_assistant(device, document)
        case Cause.PROFILES_RENEW:
            told = device.personality
            if told.platform is not Platform.MACOS or not told.automated:
                raise NotPossible("only Macs of Automated Device Enrollment know `profiles renew`")
            await device.replace_profile(document)
        case Cause.RESTORED:
            await device.restore_from_backup()


def clone(device: Device) -> Device:
    """A copy on other hardware, as of a virtual machine: same names, profile, identity, push address and secrets.

    It is not enrolled by itself: it goes on where the original was. Close it before the original.

    Raises:
        NotEnrolled: there is nothing worth copying.
    """
    copy = Device(
        device.personality,
        http=device.http_source,
        clock=device.clock,
        listener=device.listener,
        push=device.push,
        sleeper=device.sleeper,
        retry=device.retry,
        allow_http=device.allow_http,
        udid=device.udid,
        serial=device.serial,
    )
    copy.begin_relationship(device.installed)
    copy.enrollment_id, copy.enrolled = device.enrollment_id, device.enrolled
    there, here = copy.channel(), device.channel()
    there.push_token, there.push_magic = here.push_token, here.push_magic
    there.updates_accepted = here.updates_accepted
    copy.unlock_token, copy.bootstrap.token = device.unlock_token, device.bootstrap.token
    copy.bootstrap.escrowed = device.bootstrap.escrowed
    copy.volume, copy.recovery_lock = replace(device.volume), replace(device.recovery_lock)
    return copy


async def _enroll_in_setup_assistant(device: Device, document: bytes) -> None:
    """The TokenUpdate says AwaitingConfiguration, if the kind of device can wait at all."""
    usual = device.awaits_when_enrolled
    device.awaits_when_enrolled = usual or "DeviceConfigured" in device.personality.commands
    try:
        await device.enroll(document)
    finally:
        device.awaits_when_enrolled = usual
