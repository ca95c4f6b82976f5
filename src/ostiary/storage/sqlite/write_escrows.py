"""Writes of escrows, of fact sheets, and of who was shown a value."""

from datetime import datetime
from typing import Final

from ostiary.domain.escrow import Escrow
from ostiary.domain.facts import FactSheet
from ostiary.domain.token import RecordId
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.sqlite.engine import Transaction
from ostiary.storage.sqlite.escrow_rows import (
    ESCROW_COLUMNS,
    FACT_COLUMNS,
    escrow_values,
    sheet_values,
)
from ostiary.storage.sqlite.rows import micros


def _marks(columns: tuple[str, ...]) -> str:
    return ", ".join("?" for _ in columns)


def _replaced(columns: tuple[str, ...]) -> str:
    return ", ".join(f"{column} = excluded.{column}" for column in columns)


DISCLOSE_RECORD: Final = "UPDATE token SET disclosed_at = ? WHERE id = ?"
SAVE_ESCROW: Final = f"""
    INSERT INTO escrow ({", ".join(ESCROW_COLUMNS)}) VALUES ({_marks(ESCROW_COLUMNS)})
    ON CONFLICT (tenant, holder, kind) DO UPDATE SET {_replaced(ESCROW_COLUMNS[3:])}
"""  # noqa: S608 - made of constants
SAVE_SHEET: Final = f"""
    INSERT INTO fact ({", ".join(FACT_COLUMNS)}) VALUES ({_marks(FACT_COLUMNS)})
    ON CONFLICT (enrollment_key, name) DO UPDATE SET {_replaced(FACT_COLUMNS[2:])}
"""  # noqa: S608 - made of constants


def disclose_record(transaction: Transaction, record_id: RecordId, at: datetime) -> None:
    """Note that a person is shown its value. Raises `ChangeDoesNotFit` if there is no such record."""
    if transaction.write(DISCLOSE_RECORD, (micros(at), record_id)) != 1:
        raise ChangeDoesNotFit("no such record", record_id=record_id)


def save_escrow(transaction: Transaction, escrow: Escrow) -> None:
    transaction.write(SAVE_ESCROW, escrow_values(escrow))


def save_sheet(transaction: Transaction, sheet: FactSheet) -> None:
    transaction.write(SAVE_SHEET, sheet_values(sheet))
