"""The second part of a load, for the few decisions that ask: where secrets stand, and what the device said of itself.

These statements see a later moment than the first one did. Whatever is written to these tables takes the turn of the
device's row, and a decision is written only on the turn that its first statement saw.
"""

from dataclasses import replace
from typing import Final

from ostiary.domain.decision import Ask, Snapshot, wants_escrows, whose_escrows
from ostiary.storage.postgres.batches import ALONE, RowSource
from ostiary.storage.postgres.escrow_rows import (
    ESCROW_COLUMNS,
    FACT_COLUMNS,
    escrow_from,
    sheet_from,
)

# The last value and the last column are the place in a batch, which is not ours to read.
ESCROWS: Final = f"""
    SELECT {", ".join(ESCROW_COLUMNS)}, $3::int4 FROM escrow
     WHERE tenant = $1 AND holder = $2 ORDER BY kind
"""  # noqa: S608 - made of constants; served by the primary key
SHEETS: Final = f"""
    SELECT {", ".join(FACT_COLUMNS)}, $2::int4 FROM fact WHERE enrollment_key = $1 ORDER BY name
"""  # noqa: S608 - made of constants; served by the primary key


async def load_escrows(source: RowSource, ask: Ask, snapshot: Snapshot) -> Snapshot:
    """The snapshot with whatever of these two `ask` names."""
    owner = whose_escrows(snapshot)
    if owner is None:
        return snapshot
    if wants_escrows(ask, snapshot):
        rows = await source.rows(ESCROWS, owner.tenant, owner.id, ALONE)
        snapshot = replace(snapshot, escrows=tuple(escrow_from(row[:-1]) for row in rows))
    device = snapshot.device
    if device is not None and ask.facts:
        rows = await source.rows(SHEETS, device.key, ALONE)
        snapshot = replace(snapshot, facts=tuple(sheet_from(row[:-1]) for row in rows))
    return snapshot
