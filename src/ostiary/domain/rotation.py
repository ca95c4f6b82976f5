"""Which secrets a command replaces, and whether the device they are on can carry that command out.

Source: escrowed-secrets.md 4.0.2 rule 7: a value that somebody has seen is replaced, "where a rotation exists".
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.facts import FactSheet
from ostiary.domain.suitability import require_suitable
from ostiary.domain.token import TokenKind
from ostiary.errors import Conflicting, Refused

ROTATES: Final[Mapping[TokenKind, str]] = MappingProxyType(
    {
        TokenKind.RECOVERY_LOCK: "SetRecoveryLock",
        TokenKind.FIRMWARE_PASSWORD: "SetFirmwarePassword",
        TokenKind.ADMIN_PASSWORD: "SetAutoAdminPassword",
        TokenKind.FILEVAULT_KEY: "RotateFileVaultKey",
    }
)
"""The command that replaces a secret of each kind that can be replaced. (4.3 to 4.5, 4.8)"""


def why_not_sent(
    device: Enrollment, request_type: str, sheets: Iterable[FactSheet] = ()
) -> str | None:
    """Why this device can never carry the command out, as far as is known of it; None if it can, now or later."""
    try:
        require_suitable(device, device, request_type, sheets)
    except Refused as refused:
        return refused.detail or refused.title.rstrip(".")
    except Conflicting:  # it is not the time; whoever plans, waits
        return None
    return None


def why_not_rotated(
    device: Enrollment, kind: TokenKind, sheets: Iterable[FactSheet] = ()
) -> str | None:
    """Why no command will replace this secret on this device; None if one can."""
    request_type = ROTATES.get(kind)
    if request_type is None:
        return "no command replaces a secret of this kind"
    why = why_not_sent(device, request_type, sheets)
    return None if why is None else f"{request_type}: {why}"
