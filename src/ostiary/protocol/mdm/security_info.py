"""What a device answers to SecurityInfo: decoded into facts without secrets, and read from them."""

from dataclasses import dataclass
from typing import Final

from ostiary.formats.fields import Fields
from ostiary.protocol.mdm.reported import (
    Fact,
    Facts,
    as_facts,
    as_flag,
    as_text,
    inner,
    kept_flags,
    kept_numbers,
    kept_texts,
)

KEY_ENVELOPE_CAME: Final = "PersonalRecoveryKeyCameAlong"
"""Our own fact: the report held an encrypted recovery key. The key itself goes to the ledger."""

_ENVELOPE: Final = "FDE_PersonalRecoveryKeyCMS"
_ALLOWED: Final = "BootstrapTokenAllowedForAuthentication"
_FLAGS: Final = (
    "FDE_Enabled",
    "FDE_HasPersonalRecoveryKey",
    "FDE_HasInstitutionalRecoveryKey",
    "BootstrapTokenRequiredForSoftwareUpdate",
    "BootstrapTokenRequiredForKernelExtensionApproval",
    "IsRecoveryLockEnabled",
    "PasscodePresent",
    "PasscodeCompliant",
    "PasscodeCompliantWithProfiles",
    "SystemIntegrityProtectionEnabled",
    "AuthenticatedRootVolumeEnabled",
)
_NUMBERS: Final = ("HardwareEncryptionCaps",)
_FIRMWARE: Final = "FirmwarePasswordStatus"
_FIRMWARE_FLAGS: Final = ("PasswordExists", "ChangePending", "AllowOroms")
_MANAGEMENT: Final = "ManagementStatus"
_MANAGEMENT_FLAGS: Final = (
    "EnrolledViaDEP",
    "UserApprovedEnrollment",
    "IsUserEnrollment",
    "IsActivationLockManageable",
)
_SECURE_BOOT: Final = "SecureBoot"
_SECURE_BOOT_TEXTS: Final = ("SecureBootLevel", "ExternalBootLevel")


def decode_security_info(result: Fields) -> dict[str, Fact]:
    """The facts of a SecurityInfo report under Apple's keys; empty where it has none.

    The encrypted recovery key and the text that stands for it are left out. Source: escrowed-secrets.md 4.2 to 4.5.
    """
    said = inner(result, "SecurityInfo")
    facts = kept_flags(said, _FLAGS) | kept_numbers(said, _NUMBERS)
    if (allowed := _word(said.get(_ALLOWED))) is not None:
        facts[_ALLOWED] = allowed
    if said:
        envelope = said.get(_ENVELOPE)
        facts[KEY_ENVELOPE_CAME] = isinstance(envelope, bytes) and bool(envelope)
    for key, flags in ((_FIRMWARE, _FIRMWARE_FLAGS), (_MANAGEMENT, _MANAGEMENT_FLAGS)):
        if found := kept_flags(inner(said, key), flags):
            facts[key] = found
    if found := kept_texts(inner(said, _SECURE_BOOT), _SECURE_BOOT_TEXTS):
        facts[_SECURE_BOOT] = found
    return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityFacts:
    """What the last SecurityInfo said; None for everything it was silent about."""

    bootstrap_token_allowed: str | None = None
    """`allowed`, `disallowed`, `not supported`, or another word of the device's."""
    bootstrap_token_for_updates: bool | None = None
    bootstrap_token_for_extensions: bool | None = None
    filevault_enabled: bool | None = None
    has_personal_recovery_key: bool | None = None
    """The Mac has one, which does not mean that we hold it. (FV-11)"""
    has_institutional_recovery_key: bool | None = None
    recovery_key_came: bool | None = None
    recovery_lock_enabled: bool | None = None
    firmware_password_exists: bool | None = None
    firmware_change_pending: bool | None = None
    firmware_allows_oroms: bool | None = None
    passcode_present: bool | None = None
    enrolled_by_automation: bool | None = None
    user_approved: bool | None = None
    user_enrollment: bool | None = None
    activation_lock_manageable: bool | None = None

    @classmethod
    def read(cls, facts: Facts) -> "SecurityFacts":
        """The same facts, typed; whatever is not as expected counts as not said."""
        firmware, management = as_facts(facts.get(_FIRMWARE)), as_facts(facts.get(_MANAGEMENT))
        return cls(
            bootstrap_token_allowed=_word(facts.get(_ALLOWED)),
            bootstrap_token_for_updates=as_flag(
                facts.get("BootstrapTokenRequiredForSoftwareUpdate")
            ),
            bootstrap_token_for_extensions=as_flag(
                facts.get("BootstrapTokenRequiredForKernelExtensionApproval")
            ),
            filevault_enabled=as_flag(facts.get("FDE_Enabled")),
            has_personal_recovery_key=as_flag(facts.get("FDE_HasPersonalRecoveryKey")),
            has_institutional_recovery_key=as_flag(facts.get("FDE_HasInstitutionalRecoveryKey")),
            recovery_key_came=as_flag(facts.get(KEY_ENVELOPE_CAME)),
            recovery_lock_enabled=as_flag(facts.get("IsRecoveryLockEnabled")),
            firmware_password_exists=as_flag(firmware.get("PasswordExists")),
            firmware_change_pending=as_flag(firmware.get("ChangePending")),
            firmware_allows_oroms=as_flag(firmware.get("AllowOroms")),
            passcode_present=as_flag(facts.get("PasscodePresent")),
            enrolled_by_automation=as_flag(management.get("EnrolledViaDEP")),
            user_approved=as_flag(management.get("UserApprovedEnrollment")),
            user_enrollment=as_flag(management.get("IsUserEnrollment")),
            activation_lock_manageable=as_flag(management.get("IsActivationLockManageable")),
        )


def _word(said: object) -> str | None:
    """The schema says a text, its prose a boolean: both are kept as one text. (4.2, BT-20)"""
    flag = as_flag(said)
    if flag is not None:
        return "allowed" if flag else "disallowed"
    return as_text(said)
