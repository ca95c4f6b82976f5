"""Whether a Mac can be encrypted by a profile of ours, and its key be escrowed: said before the profile is queued."""

from collections.abc import Iterable
from typing import Final

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.facts import FactSheet
from ostiary.domain.platform import Machine, machine_of
from ostiary.domain.suitability import (
    CommandNotForThisPlatform,
    NotAwaiting,
    NotByAutomatedEnrollment,
    SystemTooOld,
)
from ostiary.protocol.mdm.filevault_profile import FileVaultOptions
from ostiary.protocol.mdm.platforms import OsVersion

_ESCROWS: Final = (10, 13)
_IN_SETUP_ASSISTANT: Final = (14,)


def require_filevault(
    device: Enrollment, options: FileVaultOptions, sheets: Iterable[FactSheet] = ()
) -> None:
    """Refuse a FileVault profile that this device would not take, or by which nobody would be asked.

    What is not known never refuses. That it is somebody's own device is refused with the profile itself.

    Raises:
        CommandNotForThisPlatform, SystemTooOld
        NotByAutomatedEnrollment, NotAwaiting: Setup Assistant alone is to ask, and this Mac is not in it.

    Source: escrowed-secrets.md 4.3 (Profile): the versions of the payloads and of ForceEnableInSetupAssistant.
    """
    machine = machine_of(device, sheets)
    if not machine.may_be_mac:
        raise CommandNotForThisPlatform(
            f"FileVault is a Mac's, and this is {machine.platform}", enrollment_id=device.id
        )
    _require_since(machine, _ESCROWS, "the escrow of recovery keys", device)
    if options.defer or not options.force_in_setup_assistant:
        return
    _require_since(machine, _IN_SETUP_ASSISTANT, "FileVault in Setup Assistant", device)
    if machine.automated is False:
        raise NotByAutomatedEnrollment(
            "FileVault in Setup Assistant is for Macs of Automated Device Enrollment, and this one came otherwise",
            enrollment_id=device.id,
        )
    if machine.awaiting is False:
        raise NotAwaiting(
            "FileVault would be turned on in Setup Assistant alone, and this Mac does not wait there: nobody would be asked",
            enrollment_id=device.id,
        )


def _require_since(machine: Machine, first: OsVersion, what: str, device: Enrollment) -> None:
    if machine.is_mac and machine.version is not None and machine.version < first:
        said = ".".join(str(number) for number in first)
        raise SystemTooOld(f"{what} begins with macOS {said}", enrollment_id=device.id)
