"""What of a device's report may be kept and shown: everything but secrets, as bounded JSON."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.connect import ConnectReport, ErrorLink, Status
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
_LINKS, _TOLD = 8, 3
"""Links of an ErrorChain that are kept, and that are told in one sentence."""
_LONGEST_DOMAIN: Final = 100
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


def render_guarded_result(report: ConnectReport) -> str:
    """The same for a command that carries a secret, whose report may say it again in its own words.

    Of errors only domains and codes are kept, of a failure nothing else. (users.md 5.2 rule 4, ST-02)
    """
    facts = report.result.as_mapping() if report.status is Status.ACKNOWLEDGED else {}
    kept = {key: value for key, value in facts.items() if key not in _ENVELOPE}
    short = {"Status": report.status.value}
    if report.error_chain:
        kept["ErrorChain"] = [
            {"ErrorCode": link.code, "ErrorDomain": _bounded(link.domain)}
            for link in report.error_chain[:_LINKS]
        ]
    text = _encode(redacted({**kept, **short}))
    return text if len(text) <= LARGEST_RESULT else _encode(short)


def error_codes(chain: Sequence[ErrorLink]) -> str:
    """What a device's errors are called, without its words: they may quote what the command carried."""
    return "; ".join(f"{_bounded(link.domain)} {link.code}".strip() for link in chain[:_TOLD])


def _bounded(domain: str) -> str:
    return "".join(letter for letter in domain if letter.isprintable())[:_LONGEST_DOMAIN]


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
