"""Writes to the ledger: append a generation, move one to another state, note that one worked."""

from datetime import datetime
from typing import Final

from ostiary.domain.token import TokenProof, TokenRecord, TokenStep
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.postgres.rows import token_values
from ostiary.storage.postgres.session import Session
from ostiary.storage.wording import REPLACED

ADD_RECORD: Final = """
    INSERT INTO token (id, tenant, holder, kind, generation, digest, size, state, cause, source,
                       fingerprint, relationship, received_at, changed_at, expires_at, proven_at,
                       proven_by, disclosed_at, value)
    SELECT $1, $2, $3, $4,
           (SELECT coalesce(max(o.generation), 0) + 1 FROM token o
             WHERE o.tenant = $2 AND o.holder = $3 AND o.kind = $4),
           $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18
    ON CONFLICT (id) DO NOTHING
"""  # served by token_generation
STEP_RECORD: Final = "UPDATE token SET state = $1, cause = $2, changed_at = $3 WHERE id = $4"
SUPERSEDE_OLDER: Final = """
    UPDATE token SET state = 'superseded', cause = $1, changed_at = $2
     WHERE tenant = $3 AND holder = $4 AND kind = $5 AND id <> $6
       AND state IN ('ok', 'candidate', 'suspect')
"""  # served by token_generation
PROVE_RECORD: Final = "UPDATE token SET proven_at = $1, proven_by = $2 WHERE id = $3"


async def add_record(session: Session, record: TokenRecord) -> None:
    """Append it as the next generation; a record whose id exists is left as it is."""
    await session.run(ADD_RECORD, *token_values(record))


async def step_record(session: Session, step: TokenStep, at: datetime) -> None:
    """Move a record to another state. Raises `ChangeDoesNotFit` if there is none."""
    if await session.run(STEP_RECORD, step.state.value, step.cause, at, step.record_id) != 1:
        raise ChangeDoesNotFit("no such record", record_id=step.record_id)


async def prove_record(session: Session, proof: TokenProof, at: datetime) -> None:
    """Note that it demonstrably worked. Raises `ChangeDoesNotFit` if there is no such record."""
    if await session.run(PROVE_RECORD, at, proof.proven_by, proof.record_id) != 1:
        raise ChangeDoesNotFit("no such record", record_id=proof.record_id)


async def supersede_older(session: Session, record: TokenRecord) -> None:
    """Supersede the generation that this one takes the place of."""
    await session.run(
        SUPERSEDE_OLDER,
        REPLACED,
        record.received_at,
        record.tenant,
        record.holder,
        record.kind.value,
        record.id,
    )
