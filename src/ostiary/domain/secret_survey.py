"""Which secrets a device should have here and has not, or has in doubt: one rule for each kind.

A rule answers with a gap, with the report that would have to come first, or with nothing. Whatever was never told is
not known, which is never the same as missing.

Source: escrowed-secrets.md 4.1 (unlock token), 4.2 (bootstrap token, health), 4.3 (FileVault), 4.4, 4.5, 4.8;
activation-lock.md 5.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

from ostiary.domain.bootstrap_facts import read_bootstrap_facts
from ostiary.domain.bootstrap_health import (
    PATIENCE,
    examine_bootstrap,
    is_worth_listing,
)
from ostiary.domain.bootstrap_words import BootstrapWord
from ostiary.domain.bypass_codes import CODE_IS_TOLD, can_be_told, may_have_code, tells_code
from ostiary.domain.enrollment import Enrollment, Standing
from ostiary.domain.escrow import Escrow
from ostiary.domain.escrow_view import spoke_since
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.secret_doubt import doubt_about, rotate
from ostiary.domain.secret_gap import Finding, Gap, GapState, severity_of
from ostiary.domain.secret_sights import Sight, look_at
from ostiary.domain.severity import Severity
from ostiary.domain.suitability import CLEAR_PASSCODE, NoUnlockToken, require_suitable
from ostiary.domain.token import TokenKind, TokenRecord
from ostiary.errors import OstiaryError
from ostiary.protocol.mdm.nature import nature_of
from ostiary.protocol.mdm.platforms import Chip, Platform

Rule = Callable[[Sight], Finding | None]


def is_surveyed(device: Enrollment) -> bool:
    """Whether a device should have secrets here at all: it is enrolled, and this is the relationship that counts."""
    is_current = device.standing is Standing.CURRENT and not device.is_user_channel
    return is_current and device.state.is_served


def survey(
    device: Enrollment,
    escrows: Iterable[Escrow],
    records: Iterable[TokenRecord],
    sheets: Iterable[FactSheet],
    now: datetime,
) -> tuple[Finding, ...]:
    """The gaps of one device, and the secrets of which nothing can be said yet; at most one finding a kind.

    `records` are the generations of this device id, without values: those that the pointers name, and the last few of
    each kind that are its own, retired ones too.
    """
    if not is_surveyed(device):
        return ()
    sight = look_at(device, escrows, records, sheets, now)
    found = (rule(sight) for rule in _RULES.values())
    return tuple(one for one in found if one is not None)


def _filevault(sight: Sight) -> Finding | None:
    """4.3: a disk that is encrypted and whose recovery key is not here. (FV-11)"""
    kind, said = TokenKind.FILEVAULT_KEY, sight.said
    if not sight.machine.is_mac or sight.machine.user_enrollment:
        return None
    if said.filevault_enabled is False:
        return None
    if sight.is_held(kind):
        return doubt_about(sight, kind)
    if said.filevault_enabled is None:
        return sight.not_told(kind)
    why = "FileVault is on (FDE_Enabled), and no recovery key is held"
    if sight.is_held(TokenKind.FILEVAULT_ENVELOPE):
        why += ": one came that is encrypted for another server, and nothing held here opens it"
    elif said.has_personal_recovery_key is False:
        why += ": the Mac says that it has no personal one (FDE_HasPersonalRecoveryKey)"
    return _missing(sight, kind, why, _since(sight, kind), _escrow_it(sight))


def _escrow_it(sight: Sight) -> str:
    name = sight.name
    change = rotate(sight, TokenKind.FILEVAULT_KEY, "--unlock-with-stdin")
    if sight.is_held(TokenKind.FILEVAULT_ESCROW_KEY):
        return change
    return f'ostiary filevault install --location "the help desk" {name}; then {change}'


def _recovery_lock(sight: Sight) -> Finding | None:
    """4.4: a lock that somebody else set, or whose password was lost."""
    if sight.machine.chip is Chip.INTEL:
        return None
    return _start_up_password(
        sight,
        TokenKind.RECOVERY_LOCK,
        is_set=sight.said.recovery_lock_enabled,
        fact="a Recovery Lock is set (IsRecoveryLockEnabled)",
        way_out="whoever set it can clear it; the Mac drops it when its enrollment ends",
    )


def _firmware_password(sight: Sight) -> Finding | None:
    """4.5: it outlives every erase and every enrollment."""
    if sight.machine.chip is Chip.APPLE_SILICON:
        return None
    return _start_up_password(
        sight,
        TokenKind.FIRMWARE_PASSWORD,
        is_set=sight.said.firmware_password_exists,
        fact="a firmware password is set (FirmwarePasswordStatus, PasswordExists)",
        way_out="whoever set it can clear it; otherwise Apple's service",
    )


def _start_up_password(
    sight: Sight, kind: TokenKind, *, is_set: bool | None, fact: str, way_out: str
) -> Finding | None:
    if not sight.machine.is_mac or sight.machine.user_enrollment:
        return None
    if sight.is_held(kind):
        return doubt_about(sight, kind)
    if SheetName.SECURITY not in sight.told_at:
        return sight.not_told(kind)
    if not is_set:
        return doubt_about(sight, kind)
    name = sight.name
    is_in_history = sight.newest(kind) is not None
    todo = (
        f"ostiary token escrow --all {name}, and try what is in history at the Mac"
        if is_in_history
        else f"No command changes it without its password: {way_out}. Afterwards: {rotate(sight, kind)}"
    )
    return _missing(sight, kind, f"{fact}, and no password is held", _since(sight, kind), todo)


def _admin_password(sight: Sight) -> Finding | None:
    """4.8: an administrator that management made, whose password nobody here knows."""
    kind, accounts = TokenKind.ADMIN_PASSWORD, sight.hardware.admin_accounts
    if sight.is_held(kind) or not accounts or not sight.machine.is_mac:
        return doubt_about(sight, kind)
    named = ", ".join(account.short_name or account.guid for account in accounts)
    why = f"management made an account ({named}), and no password of it is held"
    return _missing(
        sight, kind, why, _since(sight, kind), rotate(sight, kind), sheet=SheetName.DEVICE
    )


def _lock_pin(sight: Sight) -> Finding | None:
    """4.6: a lock whose answer never came."""
    kind = TokenKind.LOCK_PIN
    escrow = sight.escrows.get(kind)
    is_over = escrow is not None and spoke_since(sight.device, escrow)
    return None if is_over else doubt_about(sight, kind)


def _bootstrap(sight: Sight) -> Finding | None:
    """4.2, "Health shown to the operator": one rule for one Mac and for all of them."""
    if not is_worth_listing(sight.device):
        return None
    own = sight.newest(TokenKind.BOOTSTRAP)
    health = examine_bootstrap(sight.device, own, read_bootstrap_facts(sight.sheets), sight.now)
    if health.word is BootstrapWord.HELD or health.severity is Severity.OK:
        return None
    why = ": ".join((health.word.value, *health.causes[:1]))
    return Gap(
        kind=TokenKind.BOOTSTRAP,
        state=GapState.IN_DOUBT if health.escrowed else GapState.MISSING,
        severity=health.severity,
        why=why,
        since=own.changed_at if own is not None else sight.device.enrolled_at,
        told_at=None,
        todo=health.todo,
    )


def _unlock(sight: Sight) -> Finding | None:
    """4.1: without the token a forgotten passcode costs an erase. (UT-08, UT-09)"""
    kind, machine, device = TokenKind.UNLOCK, sight.machine, sight.device
    if sight.is_held(kind):
        return doubt_about(sight, kind)
    if not _takes_clear_passcode(sight):
        return None
    if machine.platform is None or (
        machine.platform is Platform.IPADOS and machine.shared_ipad is None
    ):
        return sight.not_told(kind, SheetName.DEVICE)
    if sight.said.passcode_present is None:
        return sight.not_told(kind)
    if not sight.said.passcode_present:
        return None
    newest = sight.newest(kind)
    why = "a passcode is set (PasscodePresent), and no unlock token is held"
    if newest is not None:
        why += f": the last one is {newest.state}, {newest.cause}"
    since = newest.changed_at if newest is not None else device.enrolled_at
    todo = f"No command can ask for one: enroll the device anew. ostiary token history {sight.name} shows earlier ones"
    return _missing(sight, kind, why, since, todo)


def _takes_clear_passcode(sight: Sight) -> bool:
    """Whether the token is all that ClearPasscode lacks, by the rule that refuses the command."""
    systems, platform = nature_of(CLEAR_PASSCODE).systems, sight.machine.platform
    if systems is not None and platform is not None and platform not in systems:
        return False  # the same table, without reading every Mac's reports once more
    try:
        require_suitable(sight.device, sight.device, CLEAR_PASSCODE, sight.sheets)
    except NoUnlockToken:
        return True
    except OstiaryError:
        return False
    return True


def _bypass_code(sight: Sight) -> Finding | None:
    """activation-lock.md 5: told for fifteen days; without it nobody can open what a user locks. (AK-18)"""
    kind, machine, device = TokenKind.BYPASS_DEVICE, sight.machine, sight.device
    if sight.is_held(kind):
        return doubt_about(sight, kind)
    if machine.user_enrollment:
        return None
    if machine.platform is None or (may_have_code(machine) and machine.supervised is None):
        return sight.not_told(kind, SheetName.DEVICE)
    if not tells_code(machine) or _has_no_activation_lock(sight):
        return None
    age = sight.now - (device.enrolled_at or device.created_at)
    if device.awaiting or age < PATIENCE:
        return None  # it is asked by itself
    escrow = sight.escrows.get(kind)
    trouble = f" ({escrow.trouble})" if escrow is not None and escrow.trouble else ""
    if can_be_told(device, sight.now):
        days = (CODE_IS_TOLD - age).days
        why = f"supervised, and no bypass code is held{trouble}; days left to fetch it: {days}"
        todo = rotate(sight, kind)
    else:
        why = f"supervised, and no bypass code was told in the fifteen days in which devices tell it{trouble}"
        todo = "Only an erase makes another code, and fifteen days to fetch it; until then do not allow Activation Lock"
    gap = _missing(sight, kind, why, device.enrolled_at, todo, sheet=SheetName.DEVICE)
    is_lockable = sight.hardware.activation_lock_allowed
    return replace(gap, severity=Severity.CRITICAL) if is_lockable else gap


def _has_no_activation_lock(sight: Sight) -> bool:
    """A Mac without the hardware for it, or that cannot be managed so, says it. (item 8)"""
    is_denied = False in (
        sight.hardware.activation_lock_supported,
        sight.said.activation_lock_manageable,
    )
    return sight.machine.is_mac and is_denied


def _since(sight: Sight, kind: TokenKind) -> datetime | None:
    """Since when none is held, if one ever was: nobody knows when a device got what it never told."""
    newest = sight.newest(kind)
    return newest.changed_at if newest is not None else None


def _missing(
    sight: Sight,
    kind: TokenKind,
    why: str,
    since: datetime | None,
    todo: str,
    *,
    sheet: SheetName = SheetName.SECURITY,
) -> Gap:
    escrow = sight.escrows.get(kind)
    is_busy = escrow is not None and escrow.state.is_unresolved
    return Gap(
        kind=kind,
        state=GapState.MISSING,
        severity=severity_of(kind),
        why=why,
        since=since,
        told_at=sight.told_at.get(sheet),
        todo=f"A command is under way: ostiary queue list {sight.name}" if is_busy else todo,
    )


_RULES: Final[Mapping[TokenKind, Rule]] = MappingProxyType(
    {
        TokenKind.FILEVAULT_KEY: _filevault,
        TokenKind.RECOVERY_LOCK: _recovery_lock,
        TokenKind.FIRMWARE_PASSWORD: _firmware_password,
        TokenKind.ADMIN_PASSWORD: _admin_password,
        TokenKind.LOCK_PIN: _lock_pin,
        TokenKind.BOOTSTRAP: _bootstrap,
        TokenKind.UNLOCK: _unlock,
        TokenKind.BYPASS_DEVICE: _bypass_code,
    }
)
SURVEYED: Final = tuple(_RULES)
"""The kinds that a gap can be of."""
