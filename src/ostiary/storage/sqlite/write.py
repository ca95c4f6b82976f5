"""The write of a decision: each part of a Change, in the order of its fields, with its one moment."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from ostiary.domain.decision import Change, DisableUsers, Snapshot, Supersede
from ostiary.domain.enrollment import Binding, Enrollment, Standing
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.sqlite.engine import Transaction
from ostiary.storage.sqlite.rows import (
    ENROLLMENT_COLUMNS,
    FIXED_COLUMNS,
    Row,
    binding_values,
    enrollment_values,
    micros,
)
from ostiary.storage.sqlite.write_commands import (
    add_command,
    cancel_commands,
    close_command,
    lift_deferred,
    move_command,
)
from ostiary.storage.sqlite.write_escrows import disclose_record, save_escrow, save_sheet
from ostiary.storage.sqlite.write_news import add_audit, drop_wake, save_alert, save_wake
from ostiary.storage.sqlite.write_tokens import add_records, prove_record, step_records
from ostiary.storage.wording import USER_LEFT


def _assignments(columns: tuple[str, ...]) -> str:
    """`column = ?n` for each, numbered as in ENROLLMENT_COLUMNS; last-seen only moves forward."""
    assigned = []
    for column in columns:
        value = f"?{ENROLLMENT_COLUMNS.index(column) + 1}"
        if column == "last_seen_at":
            # max() of SQLite is NULL as soon as one side is.
            value = f"coalesce(max(last_seen_at, {value}), {value}, last_seen_at)"
        assigned.append(f"{column} = {value}")
    return ", ".join(assigned)


_KEY: Final = f"?{ENROLLMENT_COLUMNS.index('key') + 1}"
_STORED_VERSION: Final = f"?{ENROLLMENT_COLUMNS.index('version') + 1} - 1"

ADD_ROW: Final = f"""
    INSERT INTO enrollment ({", ".join(ENROLLMENT_COLUMNS)})
    VALUES ({", ".join("?" for _ in ENROLLMENT_COLUMNS)})
"""  # noqa: S608 - made of constants
SAVE_ROW: Final = f"""
    UPDATE enrollment SET {_assignments(ENROLLMENT_COLUMNS[1:])}
     WHERE key = {_KEY} AND version = {_STORED_VERSION}
"""  # noqa: S608 - made of constants
SAVE_ROW_IN_PLACE: Final = f"""
    UPDATE enrollment SET {_assignments(ENROLLMENT_COLUMNS[len(FIXED_COLUMNS) :])}
     WHERE key = {_KEY} AND version = {_STORED_VERSION}
"""  # noqa: S608 - made of constants; touches no index
SUPERSEDE_IDENTITIES: Final = """
    UPDATE token SET state = 'superseded', cause = ?1, changed_at = ?2
     WHERE kind = 'identity' AND state IN ('ok', 'candidate', 'suspect')
       AND fingerprint IN (SELECT fingerprint FROM binding
                            WHERE enrollment_key = ?3 AND superseded_at IS NULL
                              AND fingerprint IS NOT ?4)
"""  # served by token_identity and binding_by_enrollment
SUPERSEDE_BINDINGS: Final = """
    UPDATE binding SET superseded_at = ?1
     WHERE enrollment_key = ?2 AND superseded_at IS NULL AND fingerprint IS NOT ?3
"""  # served by binding_by_enrollment
SAVE_BINDING: Final = """
    INSERT INTO binding (fingerprint, tenant, enrollment_key, proof, bound_at, not_after,
                         superseded_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (fingerprint) DO UPDATE
       SET tenant = excluded.tenant, enrollment_key = excluded.enrollment_key,
           proof = excluded.proof, bound_at = excluded.bound_at, not_after = excluded.not_after,
           superseded_at = excluded.superseded_at
"""
DROP_USER_WAKES: Final = """
    DELETE FROM wake
     WHERE enrollment_key IN (SELECT key FROM enrollment WHERE parent_key = ?)
"""  # served by enrollment_user
RETIRE_USER_PUSHES: Final = """
    UPDATE token SET state = 'retired', cause = ?, changed_at = ?
     WHERE id IN (SELECT push_record FROM enrollment WHERE parent_key = ?)
"""  # served by enrollment_user and the primary key
DISABLE_USERS: Final = """
    UPDATE enrollment
       SET state = 'out', session_nonce = NULL, session_token = NULL,
           push_record = NULL, push_digest = NULL, push_received_at = NULL, push_arrived_at = NULL,
           push_dead_since = NULL, push_dead_reason = NULL, version = version + 1
     WHERE parent_key = ?
       AND (state <> 'out' OR session_nonce IS NOT NULL OR session_token IS NOT NULL
            OR push_record IS NOT NULL)
"""  # served by enrollment_user


def write_change(transaction: Transaction, change: Change[Any], snapshot: Snapshot) -> None:
    """Store every part of the change. Raises `ChangeDoesNotFit`; the caller takes the savepoint back."""
    at = change.at
    if change.rows:
        _save_rows(transaction, change, snapshot)
    for supersede in change.supersede:
        _supersede(transaction, supersede, at)
    for binding in change.bind:
        _save_binding(transaction, binding)
    for disable in change.disable_users:
        _disable_users(transaction, disable, at)
    for cancel in change.cancel:
        cancel_commands(transaction, cancel, at)
    if change.steps:
        step_records(transaction, *change.steps, at=at)
    if change.records:
        add_records(transaction, *change.records)
    for proof in change.proofs:
        prove_record(transaction, proof, at)
    for record_id in change.disclosures:
        disclose_record(transaction, record_id, at)
    for escrow in change.escrows:
        save_escrow(transaction, escrow)
    for sheet in change.facts:
        save_sheet(transaction, sheet)
    for closed in change.close:
        close_command(transaction, closed)
    if change.lift_deferred is not None:
        lift_deferred(transaction, change.lift_deferred)
    for move in change.moves:
        move_command(transaction, move, snapshot.channel)
    for command in change.enqueue:
        add_command(transaction, command)
    for wake in change.wakes:
        save_wake(transaction, wake)
    for key in change.drop_wakes:
        drop_wake(transaction, key)
    for alert in change.alerts:
        save_alert(transaction, alert, at)
    if change.audit is not None:
        add_audit(transaction, change.audit, at)


def _save_rows(transaction: Transaction, change: Change[Any], snapshot: Snapshot) -> None:
    rows = change.rows
    before = {row.key: row for row in _loaded(snapshot)}
    for row in rows if len(rows) == 1 else sorted(rows, key=_turn):
        values = enrollment_values(row, change.at if row.key == change.seen else None)
        if row.version == 0:
            transaction.write(ADD_ROW, values)
            continue
        known = before.get(row.key)
        in_place = known is not None and _fixed(known) == _fixed(row)
        if transaction.write(SAVE_ROW_IN_PLACE if in_place else SAVE_ROW, values) != 1:
            raise ChangeDoesNotFit("the row has moved on", enrollment_key=row.key)


def _loaded(snapshot: Snapshot) -> Iterable[Enrollment]:
    yield from snapshot.relationships
    if snapshot.device is not None:
        yield snapshot.device
    if snapshot.channel is not None:
        yield snapshot.channel


def _turn(row: Enrollment) -> tuple[bool, bool]:
    """Parents before their users, and whoever gives up being current before who becomes it."""
    return row.is_user_channel, row.standing is Standing.CURRENT


def _fixed(row: Enrollment) -> Row:
    return (
        row.tenant, row.id, row.type, row.parent_key, row.state, row.standing, row.topic,
        row.facts.serial_number,
    )  # fmt: skip


def _supersede(transaction: Transaction, supersede: Supersede, at: datetime) -> None:
    key, keep = supersede.enrollment_key, supersede.keep
    transaction.write(SUPERSEDE_IDENTITIES, (supersede.cause, micros(at), key, keep))
    transaction.write(SUPERSEDE_BINDINGS, (micros(at), key, keep))


def _save_binding(transaction: Transaction, binding: Binding) -> None:
    transaction.write(SAVE_BINDING, binding_values(binding))


def _disable_users(transaction: Transaction, disable: DisableUsers, at: datetime) -> None:
    transaction.write(DROP_USER_WAKES, (disable.device_key,))
    transaction.write(RETIRE_USER_PUSHES, (USER_LEFT, micros(at), disable.device_key))
    transaction.write(DISABLE_USERS, (disable.device_key,))
