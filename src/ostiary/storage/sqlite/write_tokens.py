"""Writes to the ledger: append a generation, move one to another state, note that one worked."""

from datetime import datetime
from typing import Final

from ostiary.domain.token import TokenProof, TokenRecord, TokenStep
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.sqlite.engine import Transaction
from ostiary.storage.sqlite.rows import micros, token_values
from ostiary.storage.wording import REPLACED

ADD_RECORD: Final = """
    INSERT INTO token (id, tenant, holder, kind, generation, digest, size, state, cause, source,
                       fingerprint, relationship, received_at, changed_at, expires_at, proven_at,
                       proven_by, disclosed_at, value)
    VALUES (?1, ?2, ?3, ?4,
            (SELECT coalesce(max(generation), 0) + 1 FROM token
              WHERE tenant = ?2 AND holder = ?3 AND kind = ?4),
            ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
    ON CONFLICT (id) DO NOTHING
"""  # served by token_generation
STEP_RECORD: Final = "UPDATE token SET state = ?, cause = ?, changed_at = ? WHERE id = ?"
SUPERSEDE_OLDER: Final = """
    UPDATE token SET state = 'superseded', cause = ?, changed_at = ?
     WHERE tenant = ? AND holder = ? AND kind = ? AND id <> ?
       AND state IN ('ok', 'candidate', 'suspect')
"""  # served by token_generation
PROVE_RECORD: Final = "UPDATE token SET proven_at = ?, proven_by = ? WHERE id = ?"


def add_records(transaction: Transaction, *records: TokenRecord) -> None:
    """Append each as the next generation; a record whose id exists is left as it is."""
    transaction.write_each(ADD_RECORD, map(token_values, records))


def step_records(transaction: Transaction, *steps: TokenStep, at: datetime) -> None:
    """Move records to other states. Raises `ChangeDoesNotFit` unless there are all of them."""
    moment = micros(at)
    rows = [(step.state.value, step.cause, moment, step.record_id) for step in steps]
    if transaction.write_each(STEP_RECORD, rows) != len(rows):
        raise ChangeDoesNotFit("no such record", record_ids=[step.record_id for step in steps])


def prove_record(transaction: Transaction, proof: TokenProof, at: datetime) -> None:
    """Note that it demonstrably worked. Raises `ChangeDoesNotFit` if there is no such record."""
    values = (micros(at), proof.proven_by, proof.record_id)
    if transaction.write(PROVE_RECORD, values) != 1:
        raise ChangeDoesNotFit("no such record", record_id=proof.record_id)


def supersede_older(transaction: Transaction, record: TokenRecord) -> None:
    """Supersede the generation that this one takes the place of."""
    values = (
        REPLACED,
        micros(record.received_at),
        record.tenant,
        record.holder,
        record.kind.value,
        record.id,
    )
    transaction.write(SUPERSEDE_OLDER, values)
