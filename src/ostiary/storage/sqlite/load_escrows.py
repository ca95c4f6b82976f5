"""The second part of a load, for the few decisions that ask: where secrets stand, and what the device said of itself."""

from dataclasses import replace
from typing import Final

from ostiary.domain.decision import Ask, Snapshot, wants_escrows, whose_escrows
from ostiary.storage.sqlite.engine import Transaction
from ostiary.storage.sqlite.escrow_rows import (
    ESCROW_COLUMNS,
    FACT_COLUMNS,
    escrow_from,
    sheet_from,
)

ESCROWS: Final = f"""
    SELECT {", ".join(ESCROW_COLUMNS)} FROM escrow
     WHERE tenant = ? AND holder = ? ORDER BY kind
"""  # noqa: S608 - made of constants; served by the primary key
SHEETS: Final = f"""
    SELECT {", ".join(FACT_COLUMNS)} FROM fact WHERE enrollment_key = ? ORDER BY name
"""  # noqa: S608 - made of constants; served by the primary key


def load_escrows(transaction: Transaction, ask: Ask, snapshot: Snapshot) -> Snapshot:
    """The snapshot with whatever of these two `ask` names."""
    owner = whose_escrows(snapshot)
    if owner is None:
        return snapshot
    if wants_escrows(ask, snapshot):
        rows = transaction.read(ESCROWS, (owner.tenant, owner.id)).fetchall()
        snapshot = replace(snapshot, escrows=tuple(escrow_from(row) for row in rows))
    device = snapshot.device
    if device is not None and ask.facts:
        rows = transaction.read(SHEETS, (device.key,)).fetchall()
        snapshot = replace(snapshot, facts=tuple(sheet_from(row) for row in rows))
    return snapshot
