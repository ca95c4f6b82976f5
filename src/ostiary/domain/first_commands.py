"""The commands that every enrollment begins with, decided together with its first TokenUpdate."""

from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from ostiary.domain.command import CommandState, LiveCommand, Priority
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.token import RecordId, SealedValue
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentType

DEVICE_INFORMATION: Final = "DeviceInformation"
SECURITY_INFO: Final = "SecurityInfo"
USER_LIST: Final = "UserList"
SETTINGS: Final = "Settings"
DEVICE_CONFIGURED: Final = "DeviceConfigured"
USER_CONFIGURED: Final = "UserConfigured"

SECURITY_QUERIES: Final = 1024
"""AccessRights bit that SecurityInfo needs. (6.1)"""

STANDARD_PAYLOAD: Final = SealedValue(b"")
"""An empty payload: the standard form of its request type, rendered at hand-out. It holds no secret to seal.

Only commands get it whose CommandUUID this server derives from what they follow (`protocol.mdm.connect.is_derived`);
whatever else is queued is sealed. Earlier versions gave it to every command that was word for word the standard one.
"""


def after_enrollment(device: Enrollment, seed: RecordId, now: datetime) -> tuple[LiveCommand, ...]:
    """What a device is asked as soon as it is enrolled.

    DeviceInformation; SecurityInfo where the profile allows it; UserList of a Mac, whose accounts say who could hand a
    bootstrap token over, unless it has none yet because it awaits; the MDMOptions setting on macOS 10.15 alone, whose
    profile key for bootstrap tokens came later (BT-18, BT-19); DeviceConfigured last if the device awaits (TU-10).
    `seed` names the record that brought this about; the commands' UUIDs follow from it.
    """
    wanted = [DEVICE_INFORMATION]
    rights = device.profile.access_rights if device.profile else None
    if not device.type.is_user_enrollment and (rights is None or rights & SECURITY_QUERIES):
        wanted.append(SECURITY_INFO)
    if _has_accounts(device) and not device.awaiting:
        wanted.append(USER_LIST)
    if needs_bootstrap_option(device):
        wanted.append(SETTINGS)
    if device.awaiting:
        wanted.append(DEVICE_CONFIGURED)
    return tuple(_command(device, name, seed, now) for name in wanted)


def after_login(device: Enrollment, seed: RecordId, now: datetime) -> tuple[LiveCommand, ...]:
    """What a Mac is asked once a user of it has enrolled: who holds a SecureToken now. (4.2)"""
    if not device.state.is_served or not _has_accounts(device):
        return ()
    return (_command(device, USER_LIST, seed, now),)


def release(channel: Enrollment, seed: RecordId, now: datetime) -> LiveCommand:
    """The command that lets a waiting device, or a Shared iPad's waiting user, out of Setup Assistant. (3.5)"""
    on_user = channel.type is EnrollmentType.SHARED_IPAD
    return _command(channel, USER_CONFIGURED if on_user else DEVICE_CONFIGURED, seed, now)


def needs_bootstrap_option(device: Enrollment) -> bool:
    """Whether this is macOS 10.15, where Settings/MDMOptions announces support for bootstrap tokens. (4.2)"""
    version, is_mac = device.facts.os_version or "", is_macos(device)
    return is_mac and (version == "10.15" or version.startswith("10.15."))


def _has_accounts(device: Enrollment) -> bool:
    """Whether it answers UserList with accounts and their SecureTokens."""
    return is_macos(device) and not device.type.is_user_enrollment


def is_macos(device: Enrollment) -> bool:
    """Whether the device says it is a Mac: by its product name, or by fields that only macOS sends. (1.3.2)"""
    product = device.facts.product_name or device.facts.model or ""
    if product:
        return "Mac" in product or product.startswith("VirtualMac")
    return device.facts.model_name is not None and "Mac" in device.facts.model_name


def _command(channel: Enrollment, name: str, seed: RecordId, now: datetime) -> LiveCommand:
    releases = name in (DEVICE_CONFIGURED, USER_CONFIGURED)
    return LiveCommand(
        uuid=CommandUuid(str(uuid5(UUID(hex=seed), name)).upper()),
        enrollment_key=channel.key,
        request_type=name,
        priority=Priority.RELEASE if releases else Priority.NORMAL,
        payload=STANDARD_PAYLOAD,
        references=(),
        state=CommandState.QUEUED,
        queued_at=now,
        source="enrollment",
    )
