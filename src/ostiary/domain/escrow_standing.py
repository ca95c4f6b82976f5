"""What is said of where an escrowed secret stands: one word, one sentence of consequence, one thing to do.

Source: escrowed-secrets.md 4.0.3; 4.3 for FileVault.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.token import TokenKind, TokenRecord
from ostiary.domain.token_standing import Standing, standing_of
from ostiary.protocol.mdm.security_info import SecurityFacts

_MISSING: Final = Standing(
    "missing", "No value is held that could be in force.", "Nothing, unless one is wanted."
)
_NOT_ESCROWED: Final = Standing(
    "not escrowed",
    "The Mac has a FileVault recovery key, and it is not held here: who forgets the password loses the disk.",
    "Rotate it with a user's password, once the escrow profile is installed.",
)
_UNREAD: Final = Standing(
    "unread",
    "A recovery key came that is encrypted for a key that is not held here; it is kept as it came.",
    "Look whose FileVault profile the Mac has; then rotate.",
)
_UNDER_WAY: Final[Mapping[EscrowState, Standing]] = MappingProxyType(
    {
        EscrowState.CANDIDATE: Standing(
            "change queued",
            "Another value waits for the device to fetch it; the one before it is in force.",
            "Nothing; or cancel the command with `ostiary queue cancel`.",
        ),
        EscrowState.IN_FLIGHT: Standing(
            "uncertain",
            "A change was handed to the device and not answered yet: the old value may be in force, or the new one; try the "
            "old one first.",
            "Wait for the answer.",
        ),
        EscrowState.VERIFYING: Standing(
            "uncertain",
            "The device took the new value and is being asked whether it is in force; try the old one first.",
            "Wait for the answer.",
        ),
        EscrowState.CHECKING: Standing(
            "uncertain",
            "The device says that it does not hold the new value, and is being asked about the old one.",
            "Wait for the answer.",
        ),
        EscrowState.UNCERTAIN: Standing(
            "uncertain",
            "Nobody can say which value is in force; every one that may be is shown, the old one first.",
            "Have it verified with `ostiary token verify`, or try them at the device.",
        ),
    }
)


_OF_KIND: Final[Mapping[tuple[TokenKind, EscrowState], Standing]] = MappingProxyType(
    {
        (TokenKind.FILEVAULT_KEY, EscrowState.CANDIDATE): Standing(
            "change queued",
            "The Mac is to make another key once it fetches the command; until then the one before it is in force.",
            "Nothing; or cancel the command with `ostiary queue cancel`.",
        ),
        (TokenKind.FILEVAULT_KEY, EscrowState.IN_FLIGHT): Standing(
            "uncertain",
            "The Mac was told to make another key and has not answered yet: the key before it may be in force, or one that "
            "only the Mac knows.",
            "Wait for the answer; the Mac tells its key with SecurityInfo as well.",
        ),
        (TokenKind.BYPASS_DEVICE, EscrowState.CANDIDATE): Standing(
            "asked for",
            "The device is to be asked for the code that it made; asking changes none.",
            "Nothing; it answers when it comes.",
        ),
        (TokenKind.BYPASS_DEVICE, EscrowState.IN_FLIGHT): Standing(
            "asked for",
            "The device was asked for the code that it made, and has not answered yet; asking changes none.",
            "Wait for the answer.",
        ),
        (TokenKind.FILEVAULT_KEY, EscrowState.UNCERTAIN): Standing(
            "uncertain",
            "Nobody can say which key opens the disk; every one that may is shown, the old one first.",
            "Ask the Mac with `ostiary enqueue ENROLLMENT security-info`, or try them at the Mac.",
        ),
        (TokenKind.BYPASS_DEVICE, EscrowState.UNCERTAIN): Standing(
            "uncertain",
            "Nobody can say which code is in force; every one that may be is shown, the old one first.",
            "Ask the device once more with `ostiary token rotate`, or try them.",
        ),
        (TokenKind.ADMIN_PASSWORD, EscrowState.UNCERTAIN): Standing(
            "uncertain",
            "Nobody can say which password is in force; every one that may be is shown, the old one first.",
            "Try them at the Mac; or have another one set with `ostiary token rotate`, and its answer settles it.",
        ),
        (TokenKind.LOCK_PIN, EscrowState.CANDIDATE): Standing(
            "change queued",
            "A lock or an erase waits for the Mac to fetch it; until then its PIN is in force nowhere.",
            "Nothing; or cancel the command with `ostiary queue cancel`.",
        ),
        (TokenKind.LOCK_PIN, EscrowState.IN_FLIGHT): Standing(
            "uncertain",
            "A lock or an erase was handed to the Mac and not answered yet: its PIN may be in force, or that of an earlier one.",
            "Wait for the answer; a Mac that is locked takes the PIN at its screen.",
        ),
        (TokenKind.LOCK_PIN, EscrowState.UNCERTAIN): Standing(
            "uncertain",
            "Nobody can say whether the Mac is locked, and with which PIN; every one that may be in force is shown, the older "
            "one first.",
            "Try it at the Mac, if that is locked; or lock it again without `--pin`, and the answer settles it.",
        ),
    }
)
"""Of secrets that devices make, no value waits for the device; of some, no device can be asked to verify one. (4.3, 4.6 to 4.9)"""
_REFUSED: Final = Standing(
    "uncertain",
    "The device refused the change when it came again, and may have taken it before: it is being asked.",
    "Wait for the answer.",
)


def standing_of_secret(
    kind: TokenKind,
    escrow: Escrow | None,
    current: TokenRecord | None,
    said: SecurityFacts,
    now: datetime,
) -> Standing:
    """Where a secret stands: a change under way speaks first, then the generation in force, then what the Mac says of it."""
    if escrow is not None and escrow.state is not EscrowState.SETTLED:
        if escrow.state is EscrowState.PENDING_RESTART:
            return _pending_restart(escrow)
        is_refused = escrow.state is EscrowState.VERIFYING and escrow.trouble is not None
        if is_refused:
            return _REFUSED
        return _OF_KIND.get((kind, escrow.state)) or _UNDER_WAY[escrow.state]
    if current is not None:
        return _UNREAD if kind is TokenKind.FILEVAULT_ENVELOPE else standing_of(current, now)
    if kind is TokenKind.FILEVAULT_KEY and said.has_personal_recovery_key:
        return _NOT_ESCROWED
    return _MISSING


def _pending_restart(escrow: Escrow) -> Standing:
    """Which one is in force now, and which from the restart on. (4.5)"""
    if escrow.trouble is not None:
        means = "The device may have taken the change, which would be in force from its next restart on; try the old value first."
    elif escrow.candidate is None:
        means = "The device took the removal and is without the value from its next restart on; until then it is in force."
    elif escrow.current is None:
        means = "The device took the value and uses it from its next restart on; until then it has none that is known here."
    else:
        means = "The device took the new value and uses it from its next restart on; until then the old one is in force."
    return Standing("waits for a restart", means, "Restart the device.")
