"""What reports say of secrets: whether one was taken, whether one is in force. Devices' words are hostile text.

Source: escrowed-secrets.md 4.2 to 4.5, the columns "Reply".
"""

from collections.abc import Mapping

from ostiary.formats.fields import Fields
from ostiary.formats.plist import PlistValue
from ostiary.values import dataclass

_LONGEST_WORD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareStatus:
    """SecurityInfo's FirmwarePasswordStatus; None where the device did not say."""

    exists: bool | None
    change_pending: bool | None


def password_changed(result: Fields) -> bool | None:
    """SetFirmwarePassword's flag: False is a failure although the status is Acknowledged. (FW-01)"""
    inner = _inner(result, "SetFirmwarePassword")
    return _flag(inner, "PasswordChanged")


def password_verified(result: Fields) -> bool | None:
    """The flag of VerifyRecoveryLock (at the top) or VerifyFirmwarePassword (nested)."""
    said = _flag(result.as_mapping(), "PasswordVerified")
    if said is not None:
        return said
    return _flag(_inner(result, "VerifyFirmwarePassword"), "PasswordVerified")


def firmware_status(result: Fields) -> FirmwareStatus | None:
    """What SecurityInfo says of the firmware password; None where it says nothing."""
    inner = _inner(_security(result), "FirmwarePasswordStatus")
    if not inner:
        return None
    return FirmwareStatus(
        exists=_flag(inner, "PasswordExists"), change_pending=_flag(inner, "ChangePending")
    )


def recovery_lock_enabled(result: Fields) -> bool | None:
    """SecurityInfo's IsRecoveryLockEnabled."""
    return _flag(_security(result), "IsRecoveryLockEnabled")


def filevault_enabled(result: Fields) -> bool | None:
    """SecurityInfo's FDE_Enabled."""
    return _flag(_security(result), "FDE_Enabled")


def recovery_key_envelope(result: Fields) -> bytes | None:
    """The encrypted FileVault recovery key of a SecurityInfo or a RotateFileVaultKey report; empty counts as absent."""
    told = (
        _security(result).get("FDE_PersonalRecoveryKeyCMS"),
        _inner(result, "RotateResult").get("EncryptedNewRecoveryKey"),
    )
    return next((found for found in told if isinstance(found, bytes) and found), None)


def bypass_code(result: Fields) -> str | None:
    """The Activation Lock bypass code that the device made; empty counts as absent. (AL-01)"""
    found = result.as_mapping().get("ActivationLockBypassCode")
    return found if isinstance(found, str) and found.strip() else None


def eacs_preflight(result: Fields) -> str | None:
    """DeviceInformation's EACSPreflight: `success`, `not supported`, or what went wrong."""
    found = _inner(result, "QueryResponses").get("EACSPreflight")
    return found[:_LONGEST_WORD] if isinstance(found, str) and found else None


def _security(result: Fields) -> Mapping[str, PlistValue]:
    """SecurityInfo's facts stand in a dictionary of its own; other reports have them at the top."""
    return _inner(result, "SecurityInfo") or result.as_mapping()


def _inner(fields: Fields | Mapping[str, PlistValue], key: str) -> Mapping[str, PlistValue]:
    mapping = fields.as_mapping() if isinstance(fields, Fields) else fields
    inner = mapping.get(key)
    return inner if isinstance(inner, Mapping) else {}


def _flag(mapping: Mapping[str, PlistValue], key: str) -> bool | None:
    value = mapping.get(key)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value if isinstance(value, bool) else None
