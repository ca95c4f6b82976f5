"""When a secret that is held is a gap all the same: nobody can say that it is in force, or its last change failed.

Source: escrowed-secrets.md 4.0.3 rows 7b and 9, 4.3 rows 5 and 9, 4.6.
"""

from datetime import datetime
from typing import Final

from ostiary.domain.escrow import EscrowState
from ostiary.domain.escrow_fetched import LOOKS_ODD
from ostiary.domain.escrow_machine import was_denied
from ostiary.domain.escrow_view import ROTATED, chosen
from ostiary.domain.facts import SheetName
from ostiary.domain.rotation import why_not_rotated
from ostiary.domain.secret_gap import Gap, GapState, severity_of
from ostiary.domain.secret_sights import Sight
from ostiary.domain.severity import Severity
from ostiary.domain.token import TokenKind, TokenRecord, TokenState

_SETTLED_BY: Final = {
    TokenKind.FILEVAULT_KEY: "ostiary enqueue {id} security-info",
    TokenKind.BYPASS_DEVICE: "ostiary token rotate {id} activation-bypass-device",
    TokenKind.LOCK_PIN: "ostiary token escrow {id}",
    TokenKind.UNLOCK: "Try it once more when it is needed; no command can ask for another: only a new enrollment brings one.",
}
"""What settles a doubt about a kind that devices cannot be asked to verify."""


def doubt_about(sight: Sight, kind: TokenKind) -> Gap | None:
    """What is in doubt or troubled about the value that is held; None if nothing is, and while a change takes its course."""
    current, escrow = sight.current(kind), sight.escrows.get(kind)
    if escrow is not None and escrow.state is not EscrowState.SETTLED:
        # A change under way without a doubt from before will be answered, or given up for lost.
        is_doubted = escrow.state is EscrowState.UNCERTAIN or escrow.trouble is not None
        if is_doubted:
            why = escrow.trouble or "nobody can say which value is in force"
            return _doubt(sight, kind, why, escrow.since)
    if current is not None and current.state is TokenState.SUSPECT:
        return _doubt(sight, kind, current.cause, current.changed_at)
    if current is not None and LOOKS_ODD in current.cause:
        return _doubt(sight, kind, LOOKS_ODD, current.received_at, todo=rotate(sight, kind))
    if kind is TokenKind.FILEVAULT_KEY and current is not None:
        return _another_key(sight, current) or _trouble(sight, kind)
    return _trouble(sight, kind)


def _what_to_do(sight: Sight, kind: TokenKind) -> str:
    """The command that would settle it."""
    name, view, escrow = sight.name, sight.view(kind), sight.escrows.get(kind)
    can = view.can if view is not None else ()
    if escrow is not None and escrow.state is EscrowState.PENDING_RESTART and view is not None:
        return view.standing.remedy
    if escrow is not None and escrow.state.is_unresolved:
        return f"ostiary queue list {name}"
    if "verify" in can:
        return f"ostiary token verify {name} {kind}"
    if kind in _SETTLED_BY:
        return _SETTLED_BY[kind].format(id=name)
    return rotate(sight, kind) if "rotate" in can else f"ostiary token escrow {name}"


def rotate(sight: Sight, kind: TokenKind, *options: str) -> str:
    """The command that has another value made; or why this device will carry out none."""
    if kind in ROTATED:
        never = why_not_rotated(sight.device, kind, sight.sheets)
        if never is not None:
            return f"no command replaces it here: {never}"
    return " ".join(("ostiary token rotate", *options, sight.name, kind))


def _another_key(sight: Sight, current: TokenRecord) -> Gap | None:
    """What the Mac itself said later than it told the key that is held. (4.3 row 5)"""
    kind, told_at = TokenKind.FILEVAULT_KEY, sight.told_at.get(SheetName.SECURITY)
    unread = sight.held(TokenKind.FILEVAULT_ENVELOPE)
    later = [one for one in unread if _last_told(one) > _last_told(current)]
    if later:
        why = "the Mac told a key since that is encrypted for another server, and nothing held here opens it"
        since = min(one.received_at for one in later)
        return _doubt(sight, kind, why, since, todo=rotate(sight, kind))
    has_none = sight.said.has_personal_recovery_key is False
    if has_none and told_at is not None and told_at > _last_told(current):
        why = "the Mac says that it has no personal recovery key (FDE_HasPersonalRecoveryKey)"
        return _doubt(sight, kind, why, None, todo=rotate(sight, kind))
    return None


def _trouble(sight: Sight, kind: TokenKind) -> Gap | None:
    """The last change failed and left the value in force as it was. (row 5)"""
    escrow = sight.escrows.get(kind)
    if kind not in ROTATED or escrow is None or escrow.trouble is None:
        return None
    if escrow.state is not EscrowState.SETTLED:
        return None
    return Gap(
        kind=kind,
        state=GapState.TROUBLE,
        severity=Severity.WARNING,
        why=f"the last change failed: {escrow.trouble}",
        since=escrow.since,
        told_at=None,
        todo=rotate(sight, kind),
    )


def _doubt(
    sight: Sight,
    kind: TokenKind,
    why: str,
    since: datetime | None,
    *,
    todo: str | None = None,
) -> Gap:
    return Gap(
        kind=kind,
        state=GapState.IN_DOUBT,
        severity=_severity(sight, kind),
        why=why,
        since=since,
        told_at=None,
        todo=todo or _what_to_do(sight, kind),
    )


def _severity(sight: Sight, kind: TokenKind) -> Severity:
    """Where one of several values will do, it is a warning; where the only one failed, it is as if there were none."""
    current, escrow = sight.current(kind), sight.escrows.get(kind)
    if escrow is not None and was_denied(escrow):
        return severity_of(kind)
    is_alone = len(chosen(escrow)) <= 1
    has_failed = current is not None and current.state is TokenState.SUSPECT
    return severity_of(kind) if is_alone and has_failed else Severity.WARNING


def _last_told(record: TokenRecord) -> datetime:
    return max(record.received_at, record.proven_at or record.received_at)
