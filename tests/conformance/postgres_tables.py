"""All that a PostgreSQL database holds, as the in-memory twin's tables, so that the two compare."""

from ostiary.domain.command import ClosedCommand, CommandState
from ostiary.domain.decision import Alert, AuditEntry, Wake
from ostiary.ports.reports import AlertLine
from ostiary.storage.memory.tables import Tables
from ostiary.storage.postgres.challenges import (
    CHALLENGE_BY_DIGEST,
    INVITATION_BY_CODE,
    challenge_from,
    invitation_from,
)
from ostiary.storage.postgres.escrow_rows import (
    ESCROW_COLUMNS,
    FACT_COLUMNS,
    escrow_from,
    sheet_from,
)
from ostiary.storage.postgres.rows import (
    COMMAND_COLUMNS,
    CREDENTIAL_COLUMNS,
    binding_from,
    command_from,
    credential_from,
    enrollment_from,
    listed,
    token_from,
    with_columns,
)
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.storage import PostgresStorage

_CLOSED = """
    SELECT uuid, enrollment_key, request_type, state, queued_at, closed_at, source, result, hand_outs
      FROM command_closed ORDER BY number
"""
_WAKES = "SELECT enrollment_key, due_at, attempt, failures, claimed FROM wake"
_ALERTS = "SELECT tenant, subject, kind, sentence, count, first_at, last_at FROM alert"
_AUDIT = "SELECT tenant, actor, verb, subject, reason, hash FROM audit ORDER BY tenant, number"


async def read_tables(storage: PostgresStorage) -> Tables:
    """What the database holds, seen through this node."""
    return await storage._pool.run(lambda session: _read(storage, session))


async def _read(storage: PostgresStorage, session: Session) -> Tables:
    overlay = storage.enrollments._seen.overlay
    tables = Tables()
    for row in await session.rows(with_columns("SELECT $enrollment FROM enrollment e")):
        enrollment = overlay(enrollment_from(row))
        tables.enrollments[enrollment.key] = enrollment
    for row in await session.rows(with_columns("SELECT $binding FROM binding b")):
        tables.bindings[row[0]] = binding_from(row)
    for row in await session.rows(with_columns("SELECT $token FROM token t")):
        tables.records[row[0]] = token_from(row)
    for row in await session.rows(f"SELECT {listed('c', COMMAND_COLUMNS)} FROM command c"):
        command = command_from(row)
        tables.commands[command.enrollment_key, command.uuid] = command
    for row in await session.rows(f"SELECT {listed('x', ESCROW_COLUMNS)} FROM escrow x"):
        escrow = escrow_from(row)
        tables.escrows[escrow.tenant, escrow.holder, escrow.kind] = escrow
    for row in await session.rows(f"SELECT {listed('s', FACT_COLUMNS)} FROM fact s"):
        sheet = sheet_from(row)
        tables.sheets[sheet.enrollment_key, sheet.name] = sheet
    for (
        uuid,
        owner,
        request_type,
        state,
        queued_at,
        closed_at,
        source,
        result,
        hand_outs,
    ) in await session.rows(_CLOSED):
        tables.closed[owner, uuid] = ClosedCommand(
            uuid=uuid,
            enrollment_key=owner,
            request_type=request_type,
            state=CommandState(state),
            queued_at=queued_at,
            closed_at=closed_at,
            source=source,
            result=result,
            hand_outs=hand_outs,
        )
    for name, due_at, attempt, failures, claimed in await session.rows(_WAKES):
        tables.wakes[name] = Wake(
            enrollment_key=name, due_at=due_at, attempt=attempt, failures=failures
        )
        if claimed:
            tables.claimed.add(name)
    credentials = f"SELECT {listed('d', CREDENTIAL_COLUMNS)}, d.certificate FROM credential d"
    for row in await session.rows(credentials):
        tables.credentials[row[0]] = (credential_from(row[:-1]), row[-1])
    await _read_challenges(tables, session)
    for tenant, subject, kind, sentence, count, first_at, last_at in await session.rows(_ALERTS):
        tables.alerts[tenant, subject, kind] = AlertLine(
            alert=Alert(tenant=tenant, subject=subject, kind=kind, sentence=sentence),
            count=count,
            first_at=first_at,
            last_at=last_at,
        )
    for tenant, actor, verb, subject, reason, digest in await session.rows(_AUDIT):
        entry = AuditEntry(tenant=tenant, actor=actor, verb=verb, subject=subject, reason=reason)
        tables.audit.append((entry, digest))
    return tables


async def _read_challenges(tables: Tables, session: Session) -> None:
    for (code,) in await session.rows("SELECT code FROM invitation"):
        invitation = invitation_from(await session.row(INVITATION_BY_CODE, code))
        tables.invitations[invitation.id] = invitation
    for (digest,) in await session.rows("SELECT digest FROM challenge"):
        challenge = challenge_from(await session.row(CHALLENGE_BY_DIGEST, digest))
        tables.challenges[challenge.id] = challenge
