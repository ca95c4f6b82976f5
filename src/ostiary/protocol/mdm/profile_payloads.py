"""What a profile that is to be installed holds, as far as a device may be forbidden to take it."""

from collections.abc import Mapping
from typing import Final

from ostiary.errors import OstiaryError
from ostiary.formats.mobileconfig import read_profile
from ostiary.protocol.mdm.commands import Command
from ostiary.protocol.mdm.filevault_profile import ESCROW, FILEVAULT

NOT_UNDER_USER_ENROLLMENT: Final = frozenset(
    {FILEVAULT, ESCROW, "com.apple.security.FDERecoveryRedirect", "com.apple.lom"}
)
"""Payloads around escrowed secrets that Apple forbids on somebody's own device.

Source: escrowed-secrets.md 4.3 and 4.11, the schemas named there, key `userenrollment`.
"""


def forbidden_to_own_devices(command: Command) -> frozenset[str]:
    """The payload types in an InstallProfile that no device under User Enrollment may take; for other commands none.

    A profile that cannot be read here is the device's to judge.
    """
    profile = command.get("Payload")
    if command.get("RequestType") != "InstallProfile" or not isinstance(profile, bytes):
        return frozenset()
    # A type can be spelled in many ways, so that it is looked for in what was read, not in the bytes.
    return NOT_UNDER_USER_ENROLLMENT & _payload_types(profile)


def _payload_types(profile: bytes) -> set[str]:
    try:
        payloads = read_profile(profile).as_mapping().get("PayloadContent")
    except OstiaryError:
        return set()
    if isinstance(payloads, Mapping):
        # No array, as Apple wants it: one payload, or several by name.
        payloads = [payloads, *payloads.values()]
    if not isinstance(payloads, list):
        return set()
    found = (one.get("PayloadType") for one in payloads if isinstance(one, Mapping))
    return {one for one in found if isinstance(one, str)}
