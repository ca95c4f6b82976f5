"""Rows of escrows and of fact sheets become values here, and values rows."""

from typing import Final

from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.token import TokenKind
from ostiary.storage.sheets import decode_facts, encode_facts
from ostiary.storage.sqlite.rows import Row, micros, micros_or_none, moment, moment_or_none

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
        holder=holder,
        kind=TokenKind(kind),
        state=EscrowState(state),
        since=moment(since),
        current=current,
        digest=digest,
        candidate=candidate,
        set_uuid=set_uuid,
        verify_uuid=verify_uuid,
        trouble=trouble,
        unclear=unclear or 0,
        due_at=moment_or_none(due_at),
    )


def escrow_values(escrow: Escrow) -> Row:
    """The values of ESCROW_COLUMNS, in their order."""
    return (
        escrow.tenant,
        escrow.holder,
        escrow.kind.value,
        escrow.state.value,
        micros(escrow.since),
        escrow.current,
        escrow.digest,
        escrow.candidate,
        escrow.set_uuid,
        escrow.verify_uuid,
        escrow.trouble,
        escrow.unclear or None,
        micros_or_none(escrow.due_at),
    )


def sheet_from(row: Row) -> FactSheet:
    """The sheet in a row of FACT_COLUMNS."""
    enrollment_key, name, facts, reported_at = row
    return FactSheet(
        enrollment_key=enrollment_key,
        name=SheetName(name),
        facts=decode_facts(facts),
        reported_at=moment(reported_at),
    )


def sheet_values(sheet: FactSheet) -> Row:
    """The values of FACT_COLUMNS, in their order."""
    return (
        sheet.enrollment_key,
        sheet.name.value,
        encode_facts(sheet.facts),
        micros(sheet.reported_at),
    )
