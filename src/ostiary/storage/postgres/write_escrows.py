"""Writes of escrows, of fact sheets, and of who was shown a value."""

from datetime import datetime
from typing import Final

from ostiary.domain.escrow import Escrow
from ostiary.domain.facts import FactSheet
from ostiary.domain.token import RecordId
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.postgres.escrow_rows import (
    ESCROW_COLUMNS,
    FACT_COLUMNS,
    escrow_values,
    sheet_values,
)
from ostiary.storage.postgres.session import Session


def _marks(columns: tuple[str, ...]) -> str:
    return ", ".join(f"${number}" for number in range(1, len(columns) + 1))


def _replaced(columns: tuple[str, ...]) -> str:
    return ", ".join(f"{column} = excluded.{column}" for column in columns)


DISCLOSE_RECORD: Final = "UPDATE token SET disclosed_at = $1 WHERE id = $2"
SAVE_ESCROW: Final = f"""
    INSERT INTO escrow ({", ".join(ESCROW_COLUMNS)}) VALUES ({_marks(ESCROW_COLUMNS)})
    ON CONFLICT (tenant, holder, kind) DO UPDATE SET {_replaced(ESCROW_COLUMNS[3:])}
"""  # noqa: S608 - made of constants
REPLACE_SHEET: Final = f"""
    ON CONFLICT (enrollment_key, name) DO UPDATE SET {_replaced(FACT_COLUMNS[2:])}
"""
SAVE_SHEET: Final = f"""
    INSERT INTO fact ({", ".join(FACT_COLUMNS)}) VALUES ({_marks(FACT_COLUMNS)})
    {REPLACE_SHEET}
"""  # noqa: S608 - made of constants


async def disclose_record(session: Session, record_id: RecordId, at: datetime) -> None:
    """Note that a person is shown its value. Raises `ChangeDoesNotFit` if there is no such record."""
    if await session.run(DISCLOSE_RECORD, at, record_id) != 1:
        raise ChangeDoesNotFit("no such record", record_id=record_id)


async def save_escrow(session: Session, escrow: Escrow) -> None:
    await session.run(SAVE_ESCROW, *escrow_values(escrow))


async def save_sheet(session: Session, sheet: FactSheet) -> None:
    await session.run(SAVE_SHEET, *sheet_values(sheet))
