"""What a device tells about itself: the answers to DeviceInformation and SecurityInfo.

Source: check-in-and-commands.md 3.1; escrowed-secrets.md 4.2 to 4.11.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from ostiary_sim import erasing
from ostiary_sim.personality import Platform, UserChannels

if TYPE_CHECKING:
    from ostiary_sim.device import Device

Answers = dict[str, object]

_SUPPORTS_BOOTSTRAP_ANSWERS: Final = (11,)
_SUPPORTS_RECOVERY_LOCK: Final = (11, 5)
_SUPPORTS_PREFLIGHT: Final = (13, 3)
_PREFLIGHT: Final = "EACSPreflight"
_ADMINS: Final = "AutoSetupAdminAccounts"


async def device_answers(device: "Device", queries: Collection[object]) -> Answers:
    """Every DeviceInformation query this device can answer, with its answer.

    Those of `queries` that cost something, a message to the server or a count, are left out unless asked.
    """
    told = device.personality
    known: Answers = {
        "DeviceName": device.device_name,
        "OSVersion": told.os_version,
        "BuildVersion": told.build_version,
        "ModelName": told.model_name,
        "Model": told.model,
        "ProductName": told.product_name,
        "IsSupervised": told.supervised,
        "IsMultiUser": told.user_channels is UserChannels.SHARED_IPAD,
        "AwaitingConfiguration": device.awaiting,
        "DeviceCapacity": 128.0,
        "AvailableDeviceCapacity": 96.0,
        "BatteryLevel": 0.87,
        "MDMOptions": dict(device.mdm_options),
        "IsActivationLockEnabled": _is_activation_locked(device),
    }
    if not told.user_enrollment:
        known |= {"UDID": device.udid, "SerialNumber": device.serial}
        if told.cellular:
            known["IMEI"] = device.imei
    if told.platform is Platform.MACOS:
        known |= {
            "HostName": device.device_name,
            "LocalHostName": device.device_name,
            "IsAppleSilicon": told.apple_silicon,
            "IsActivationLockSupported": told.can_be_activation_locked,
            "SupportsLOMDevice": told.lights_out,
        }
        if _PREFLIGHT in queries and told.version >= _SUPPORTS_PREFLIGHT:
            known[_PREFLIGHT] = await erasing.preflight(device)
        if _ADMINS in queries and told.automated:
            admins = device.auto_admin.listed(device.levers.admin_guid_hidden_for)
            known |= {} if admins is None else {_ADMINS: admins}
    return known


def _is_activation_locked(device: "Device") -> bool:
    told = device.levers.activation_lock_told
    return device.activation_lock.in_force is not None if told is None else told


def security_answers(device: "Device") -> Answers:
    """The SecurityInfo dictionary of this device."""
    told = device.personality
    management: Answers = {
        "EnrolledViaDEP": told.automated,
        "IsUserEnrollment": told.user_enrollment,
        "UserApprovedEnrollment": True,
    }
    known: Answers = {"ManagementStatus": management}
    if told.platform is not Platform.MACOS:
        return known | {
            "HardwareEncryptionCaps": 3,
            "PasscodePresent": device.passcode_set,
            "PasscodeCompliant": device.passcode_set,
            "PasscodeCompliantWithProfiles": device.passcode_set,
        }
    management["IsActivationLockManageable"] = told.supervised and told.can_be_activation_locked
    known |= {
        "SystemIntegrityProtectionEnabled": True,
        "FirewallSettings": {"FirewallEnabled": True, "BlockAllIncoming": False},
    }
    known |= device.volume.answers()
    if told.apple_silicon and told.version >= _SUPPORTS_RECOVERY_LOCK:
        known["IsRecoveryLockEnabled"] = device.recovery_lock.password is not None
    if not told.apple_silicon:
        known["FirmwarePasswordStatus"] = device.firmware.answers()
    if told.version >= _SUPPORTS_BOOTSTRAP_ANSWERS and not told.user_enrollment:
        known |= _bootstrap_answers(device)
    return known


def _bootstrap_answers(device: "Device") -> Answers:
    if not device.personality.apple_silicon:
        return {"BootstrapTokenAllowedForAuthentication": "not supported"}
    allowed = "allowed" if device.personality.automated else "disallowed"
    return {
        "BootstrapTokenAllowedForAuthentication": allowed,
        "BootstrapTokenRequiredForSoftwareUpdate": True,
        "BootstrapTokenRequiredForKernelExtensionApproval": True,
    }
