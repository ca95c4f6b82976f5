"""The engines behind one name, and all that can be seen of each: what the conformance suite and the twins play on."""

from dataclasses import replace
from typing import Any

from conformance.postgres_tables import read_tables
from conformance.storage_values import NOON, key, nothing
from ostiary.domain.command import ClosedCommand, CommandState
from ostiary.domain.decision import Alert, Ask, AuditEntry, ByKey, Change, Snapshot, Wake
from ostiary.ports.reports import AlertLine
from ostiary.storage.memory.storage import MemoryStorage
from ostiary.storage.memory.tables import Tables
from ostiary.storage.postgres.storage import PostgresStorage
from ostiary.storage.sqlite.challenges import (
    CHALLENGE_BY_DIGEST,
    INVITATION_BY_CODE,
    challenge_from,
    invitation_from,
)
from ostiary.storage.sqlite.engine import Transaction
from ostiary.storage.sqlite.escrow_rows import (
    ESCROW_COLUMNS,
    FACT_COLUMNS,
    escrow_from,
    sheet_from,
)
from ostiary.storage.sqlite.rows import (
    binding_from,
    command_from,
    credential_from,
    enrollment_from,
    moment,
    token_from,
    with_columns,
)
from ostiary.storage.sqlite.storage import SqliteStorage

Database = SqliteStorage | PostgresStorage
AnyStorage = MemoryStorage | Database


async def store(storage: AnyStorage, **parts: Any) -> Snapshot:
    """Store these parts of a Change, decided on nobody; what the rule was shown."""
    return await store_as(storage, Ask(who=ByKey(key=key(0))), **parts)


async def store_as(storage: AnyStorage, ask: Ask, **parts: Any) -> Snapshot:
    """Store these parts of a Change, decided on what `ask` names; what the rule was shown."""
    shown: list[Snapshot] = []

    def rule(snapshot: Snapshot) -> Change[None]:
        shown.append(snapshot)
        return Change(**{"at": NOON, "answer": None, **parts})

    await storage.enrollments.decide(ask, rule)
    return shown[-1]


async def show(storage: AnyStorage, ask: Ask) -> Snapshot:
    """What a decision that asks so is shown."""
    shown: list[Snapshot] = []

    def rule(snapshot: Snapshot) -> Change[None]:
        shown.append(snapshot)
        return nothing(snapshot)

    await storage.enrollments.decide(ask, rule)
    return shown[-1]


async def assert_twins_agree(memory: MemoryStorage, other: AnyStorage) -> None:
    """Fail unless both hold the same, down to the order of commands, generations and the audit's hashes."""
    ours, theirs = await visible_state(memory), await visible_state(other)
    for part, expected in ours.items():
        assert theirs[part] == expected, part


async def visible_state(storage: AnyStorage) -> dict[str, Any]:
    """All that a storage holds, by part, as values that compare."""
    if isinstance(storage, MemoryStorage):
        return _as_parts(storage._store.tables)
    if isinstance(storage, PostgresStorage):
        return _as_parts(await read_tables(storage))
    return await storage._engine.run(lambda transaction: _as_parts(_read(storage, transaction)))


def _as_parts(tables: Tables) -> dict[str, Any]:
    return {
        "enrollments": tables.enrollments,
        "bindings": tables.bindings,
        "records": tables.records,
        "commands": {place: _without_sequence(one) for place, one in tables.commands.items()},
        "order": [
            (one.enrollment_key, one.uuid)
            for one in sorted(tables.commands.values(), key=lambda one: one.sequence)
        ],
        "closed": list(tables.closed.values()),
        "escrows": tables.escrows,
        "sheets": tables.sheets,
        "wakes": tables.wakes,
        "claimed": {one for one in tables.claimed if one in tables.wakes},
        "credentials": tables.credentials,
        "invitations": tables.invitations,
        "challenges": tables.challenges,
        "alerts": tables.alerts,
        "audit": sorted(tables.audit, key=lambda entry: entry[0].tenant),
    }


def _without_sequence(command: Any) -> Any:
    return replace(command, sequence=0)


def _read(storage: SqliteStorage, transaction: Transaction) -> Tables:
    seen = storage.enrollments._seen

    def rows(statement: str) -> list[Any]:
        return transaction.read(with_columns(statement)).fetchall()

    tables = Tables()
    for row in rows("SELECT $enrollment FROM enrollment e"):
        enrollment = enrollment_from(row, seen.last(row[0]))
        tables.enrollments[enrollment.key] = enrollment
    for row in rows("SELECT $binding FROM binding b"):
        tables.bindings[row[0]] = binding_from(row)
    for row in rows("SELECT $token FROM token t"):
        tables.records[row[0]] = token_from(row)
    for row in rows("SELECT $command FROM command c"):
        command = command_from(row)
        tables.commands[command.enrollment_key, command.uuid] = command
    for row in rows(f"SELECT {', '.join(ESCROW_COLUMNS)} FROM escrow"):
        escrow = escrow_from(row)
        tables.escrows[escrow.tenant, escrow.holder, escrow.kind] = escrow
    for row in rows(f"SELECT {', '.join(FACT_COLUMNS)} FROM fact"):
        sheet = sheet_from(row)
        tables.sheets[sheet.enrollment_key, sheet.name] = sheet
    for row in rows(_CLOSED):
        tables.closed[row[1], row[0]] = _closed_from(row)
    for name, due_at, attempt, failures, claimed in rows(_WAKES):
        tables.wakes[name] = Wake(
            enrollment_key=name, due_at=moment(due_at), attempt=attempt, failures=failures
        )
        if claimed:
            tables.claimed.add(name)
    for row in rows("SELECT $credential, d.certificate FROM credential d"):
        tables.credentials[row[0]] = (credential_from(row[:-1]), row[-1])
    _read_challenges(tables, transaction)
    for tenant, subject, kind, sentence, count, first_at, last_at in rows(_ALERTS):
        tables.alerts[tenant, subject, kind] = AlertLine(
            alert=Alert(tenant=tenant, subject=subject, kind=kind, sentence=sentence),
            count=count,
            first_at=moment(first_at),
            last_at=moment(last_at),
        )
    for tenant, actor, verb, subject, reason, digest in rows(_AUDIT):
        entry = AuditEntry(tenant=tenant, actor=actor, verb=verb, subject=subject, reason=reason)
        tables.audit.append((entry, digest))
    return tables


def _read_challenges(tables: Tables, transaction: Transaction) -> None:
    for (code,) in transaction.read("SELECT code FROM invitation").fetchall():
        invitation = invitation_from(transaction.read(INVITATION_BY_CODE, (code,)).fetchone())
        tables.invitations[invitation.id] = invitation
    for (digest,) in transaction.read("SELECT digest FROM challenge").fetchall():
        challenge = challenge_from(transaction.read(CHALLENGE_BY_DIGEST, (digest,)).fetchone())
        tables.challenges[challenge.id] = challenge


_CLOSED = """
    SELECT uuid, enrollment_key, request_type, state, queued_at, closed_at, source, result, hand_outs
      FROM command_closed ORDER BY number
"""
_WAKES = "SELECT enrollment_key, due_at, attempt, failures, claimed FROM wake"
_ALERTS = "SELECT tenant, subject, kind, sentence, count, first_at, last_at FROM alert"
_AUDIT = "SELECT tenant, actor, verb, subject, reason, hash FROM audit ORDER BY tenant, number"


def _closed_from(row: Any) -> ClosedCommand:
    name, owner, request_type, state, queued_at, closed_at, source, result, hand_outs = row
    return ClosedCommand(
        uuid=name,
        enrollment_key=owner,
        request_type=request_type,
        state=CommandState(state),
        queued_at=moment(queued_at),
        closed_at=moment(closed_at),
        source=source,
        result=result,
        hand_outs=hand_outs,
    )
