"""Rows of escrows and of fact sheets become values here, and values rows."""

from typing import Final

from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.token import Holder, TokenKind
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.storage.postgres.rows import Row, Values
from ostiary.storage.postgres.text import unescape, unescape_or_none
from ostiary.storage.sheets import decode_facts, encode_facts

ESCROW_COLUMNS: Final = (
    "tenant", "holder", "kind", "state", "since", "current", "digest", "candidate", "set_uuid",
    "verify_uuid", "trouble", "unclear", "due_at",
)  # fmt: skip
FACT_COLUMNS: Final = ("enrollment_key", "name", "facts", "reported_at")


def escrow_from(row: Row) -> Escrow:
    """The escrow in a row of ESCROW_COLUMNS."""
    (
        tenant, holder, kind, state, since, current, digest, candidate, set_uuid,
        verify_uuid, trouble, unclear, due_at,
    ) = row  # fmt: skip
    return Escrow(
        tenant=tenant,
        holder=Holder(unescape(holder)),
        kind=TokenKind(kind),
        state=EscrowState(state),
        since=since,
        current=current,
        digest=digest,
        candidate=candidate,
        set_uuid=_uuid_from(set_uuid),
        verify_uuid=_uuid_from(verify_uuid),
        trouble=unescape_or_none(trouble),
        unclear=unclear or 0,
        due_at=due_at,
    )


def _uuid_from(stored: str | None) -> CommandUuid | None:
    return None if stored is None else CommandUuid(unescape(stored))


def escrow_values(escrow: Escrow) -> Values:
    """The values of ESCROW_COLUMNS, in their order."""
    return (
        escrow.tenant,
        escrow.holder,
        escrow.kind.value,
        escrow.state.value,
        escrow.since,
        escrow.current,
        escrow.digest,
        escrow.candidate,
        escrow.set_uuid,
        escrow.verify_uuid,
        escrow.trouble,
        escrow.unclear or None,
        escrow.due_at,
    )


def sheet_from(row: Row) -> FactSheet:
    """The sheet in a row of FACT_COLUMNS."""
    enrollment_key, name, facts, reported_at = row
    return FactSheet(
        enrollment_key=enrollment_key,
        name=SheetName(name),
        facts=decode_facts(facts),
        reported_at=reported_at,
    )


def sheet_values(sheet: FactSheet) -> Values:
    """The values of FACT_COLUMNS, in their order."""
    return (sheet.enrollment_key, sheet.name.value, encode_facts(sheet.facts), sheet.reported_at)
