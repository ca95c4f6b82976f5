"""Commands that set, prove or fetch a secret. What is secret in them is a hole, filled at hand-out.

| command | holes (`domain/command.py` Reference) |
|---|---|
| SetRecoveryLock, SetFirmwarePassword | NewPassword pinned; CurrentPassword latest, optional |
| VerifyRecoveryLock, VerifyFirmwarePassword | Password pinned |
| RotateFileVaultKey | FileVaultUnlock/Password latest: the recovery key |

To clear a Recovery Lock or a firmware password, NewPassword is empty text: there is nothing to keep secret in it.
Source: escrowed-secrets.md 4.3, 4.4, 4.5, 4.9.
"""

from ostiary.errors import Malformed
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.commands import Command


class ReplyCertificateMissing(Malformed):
    """A rotation without a certificate for the reply would change the key and tell it to nobody."""

    hint = "The escrow key of the device is made first; its certificate goes with the command."


def set_recovery_lock(*, clears: bool = False) -> Command:
    """Set a Mac's Recovery Lock, or with `clears` take it away. (4.4)"""
    return _set("SetRecoveryLock", clears=clears)


def verify_recovery_lock() -> Command:
    """Ask whether a Recovery Lock is in force; the report says PasswordVerified. (4.4)"""
    return {"RequestType": "VerifyRecoveryLock"}


def set_firmware_password(*, allow_oroms: bool | None = None, clears: bool = False) -> Command:
    """Set an Intel Mac's firmware password, in force after its next restart, or with `clears` take it away. (4.5)"""
    command = _set("SetFirmwarePassword", clears=clears)
    if allow_oroms is not None:
        command["AllowOroms"] = allow_oroms
    return command


def verify_firmware_password() -> Command:
    """Ask whether a firmware password is in force. (4.5)"""
    return {"RequestType": "VerifyFirmwarePassword"}


def rotate_filevault_key(*, reply_certificate: bytes) -> Command:
    """Give the disk another personal recovery key, which the reply holds for the certificate (DER) alone. (4.3)

    Raises:
        ReplyCertificateMissing
    """
    if not reply_certificate:
        raise ReplyCertificateMissing
    unlock: dict[str, PlistValue] = {}
    return {
        "RequestType": "RotateFileVaultKey",
        "KeyType": "personal",
        "FileVaultUnlock": unlock,
        "ReplyEncryptionCertificate": reply_certificate,
    }


def activation_lock_bypass_code() -> Command:
    """Ask for the bypass code that the device made. (4.9)"""
    return {"RequestType": "ActivationLockBypassCode"}


def clear_activation_lock_bypass_code() -> Command:
    """Let the device forget its bypass code, so that it makes another. (4.9)"""
    return {"RequestType": "ClearActivationLockBypassCode"}


def _set(request_type: str, *, clears: bool) -> dict[str, PlistValue]:
    command: dict[str, PlistValue] = {"RequestType": request_type}
    if clears:
        command["NewPassword"] = ""
    return command
