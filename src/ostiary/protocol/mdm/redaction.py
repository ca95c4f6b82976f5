"""What of a device's report may be kept and shown: everything but secrets, as bounded JSON."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final, TypeAlias

from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.connect import ConnectReport
from ostiary.secret import MASK

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

SECRET_KEYS: Final = frozenset({
    "Token", "PushMagic", "UnlockToken", "BootstrapToken", "TokenData", "AuthToken", "DigestResponse",
    "Password", "CurrentPassword", "NewPassword", "PIN", "passwordHash", "PrivateKeyExport",
    "PrivateKeyExportPassword", "EncryptedNewRecoveryKey", "FDE_PersonalRecoveryKeyCMS",
    "FDE_PersonalRecoveryKeyDeviceKey", "ActivationLockBypassCode", "MDMProfileData", "WiFiProfileData",
    "Challenge", "PayloadContent", "RotateResult",
})  # fmt: skip
"""Redacted wherever they stand. Source: escrowed-secrets.md 4.0.2 rule 5."""

_encode: Final = json.JSONEncoder(ensure_ascii=False).encode
LARGEST_RESULT: Final = 64 * 1024
_ENVELOPE: Final = frozenset({
    "UDID", "EnrollmentID", "UserID", "UserShortName", "UserLongName", "EnrollmentUserID", "CommandUUID",
    "NotOnConsole", "NeedSyncResponse", "UserConfiguration", "MessageType",
})  # fmt: skip


def render_result(report: ConnectReport) -> str:
    """A report's status, errors and facts as JSON text, without secrets; facts too large to keep are counted."""
    facts = {
        key: value for key, value in report.result.as_mapping().items() if key not in _ENVELOPE
    }
    text = _encode(redacted(facts))
    if len(text) <= LARGEST_RESULT:
        return text
    chain = [{"code": link.code, "domain": link.domain[:200]} for link in report.error_chain[:8]]
    short = {
        "Status": report.status,
        "ErrorChain": chain,
        "left_out": f"{len(text)} characters of facts",
    }
    return _encode(short)


def redacted(value: PlistValue) -> Json:
    """The same value with secrets masked and bytes replaced by their count."""
    # Plain types first: asking whether something is a Mapping or a Sequence costs a microsecond each time.
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {
            key: MASK if key in SECRET_KEYS else redacted(inner) for key, inner in value.items()
        }
    return [redacted(inner) for inner in value]
