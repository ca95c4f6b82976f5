"""What a device tells about itself: the answers to DeviceInformation and SecurityInfo.

Source: check-in-and-commands.md 3.1; escrowed-secrets.md 4.2.
"""

from typing import TYPE_CHECKING, Final

from ostiary_sim.personality import Platform, UserChannels

if TYPE_CHECKING:
    from ostiary_sim.device import Device

Answers = dict[str, object]

_SUPPORTS_BOOTSTRAP_ANSWERS: Final = (11,)
_SUPPORTS_RECOVERY_LOCK: Final = (11, 5)
_SUPPORTS_PREFLIGHT: Final = (13, 3)


def device_answers(device: "Device") -> Answers:
    """Every DeviceInformation query this device can answer, with its answer."""
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
        }
        if told.version >= _SUPPORTS_PREFLIGHT:
            known["EACSPreflight"] = _preflight(device)
    return known


def _preflight(device: "Device") -> str:
    """The practical proof that the server can give the bootstrap token back. Source: escrowed-secrets.md 4.2."""
    return "success" if device.bootstrap.escrowed else "unknown failure"


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
    known |= {
        "SystemIntegrityProtectionEnabled": True,
        "FirewallSettings": {"FirewallEnabled": True, "BlockAllIncoming": False},
    }
    known |= device.volume.answers()
    if told.apple_silicon and told.version >= _SUPPORTS_RECOVERY_LOCK:
        known["IsRecoveryLockEnabled"] = device.recovery_lock.password is not None
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
