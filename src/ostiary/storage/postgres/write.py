"""The write of a decision, part by part in the order of a Change's fields, inside a transaction.

First the turns: every row that the decision was shown must still be as it was shown, so that what two decisions
do at the same moment, on one node or on two, is what they would have done one after the other. (CQ-15)
"""

from datetime import datetime
from typing import Any, Final

from ostiary.domain.decision import Change, DisableUsers, Snapshot, Supersede, whose_escrows
from ostiary.domain.enrollment import Binding, Enrollment, EnrollmentKey, Standing
from ostiary.domain.token import Fingerprint
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.postgres.load import Loaded
from ostiary.storage.postgres.rows import (
    ENROLLMENT_COLUMNS,
    binding_values,
    enrollment_values,
)
from ostiary.storage.postgres.session import Session
from ostiary.storage.postgres.write_commands import (
    add_command,
    cancel_commands,
    close_command,
    lift_deferred,
    move_command,
)
from ostiary.storage.postgres.write_escrows import disclose_record, save_escrow, save_sheet
from ostiary.storage.postgres.write_news import add_audit, drop_wake, save_alert, save_wake
from ostiary.storage.postgres.write_tokens import add_record, prove_record, step_record
from ostiary.storage.wording import USER_LEFT


def assignments(*, after: int = 0) -> str:
    """`column = $n` for each, numbered as in ENROLLMENT_COLUMNS after so many others; last-seen only moves forward."""
    assigned = []
    for number, column in enumerate(ENROLLMENT_COLUMNS, after + 1):
        value = f"greatest(last_seen_at, ${number})" if column == "last_seen_at" else f"${number}"
        assigned.append(f"{column} = {value}")
    return ", ".join(assigned[1:])


_WIDTH: Final = len(ENROLLMENT_COLUMNS)
_STORED_VERSION: Final = f"${ENROLLMENT_COLUMNS.index('version') + 1} - 1"

ADD_ROW: Final = f"""
    INSERT INTO enrollment ({", ".join(ENROLLMENT_COLUMNS)})
    VALUES ({", ".join(f"${number + 1}" for number in range(_WIDTH))})
"""  # noqa: S608 - made of constants
SAVE_ROW: Final = f"""
    UPDATE enrollment SET {assignments()}, turn = turn + 1
     WHERE key = $1 AND version = {_STORED_VERSION} AND turn = coalesce(${_WIDTH + 1}, turn)
"""  # noqa: S608 - made of constants; served by the primary key
TAKE_TURN: Final = """
    UPDATE enrollment SET turn = turn + 1, last_seen_at = greatest(last_seen_at, $3)
     WHERE key = $1 AND turn = $2
"""  # served by the primary key
HOLD_ROW: Final = """
    SELECT key FROM enrollment WHERE key = $1 AND version = $2 FOR SHARE
"""  # served by the primary key
SUPERSEDE_IDENTITIES: Final = """
    UPDATE token SET state = 'superseded', cause = $1, changed_at = $2
     WHERE kind = 'identity' AND state IN ('ok', 'candidate', 'suspect')
       AND fingerprint IN (SELECT fingerprint FROM binding
                            WHERE enrollment_key = $3 AND superseded_at IS NULL
                              AND fingerprint IS DISTINCT FROM $4)
"""  # served by token_identity and binding_by_enrollment
SUPERSEDE_BINDINGS: Final = """
    UPDATE binding SET superseded_at = $1
     WHERE enrollment_key = $2 AND superseded_at IS NULL AND fingerprint IS DISTINCT FROM $3
"""  # served by binding_by_enrollment
ADD_BINDING: Final = """
    INSERT INTO binding (fingerprint, tenant, enrollment_key, proof, bound_at, not_after,
                         superseded_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
SAVE_BINDING: Final = f"""
    {ADD_BINDING}
    ON CONFLICT (fingerprint) DO UPDATE
       SET tenant = excluded.tenant, enrollment_key = excluded.enrollment_key,
           proof = excluded.proof, bound_at = excluded.bound_at, not_after = excluded.not_after,
           superseded_at = excluded.superseded_at
"""  # noqa: S608 - made of constants
DROP_USER_WAKES: Final = """
    DELETE FROM wake
     WHERE enrollment_key IN (SELECT key FROM enrollment WHERE parent_key = $1)
"""  # served by enrollment_user
RETIRE_USER_PUSHES: Final = """
    UPDATE token SET state = 'retired', cause = $1, changed_at = $2
     WHERE id = ANY(ARRAY(SELECT push_record FROM enrollment WHERE parent_key = $3))
"""  # served by enrollment_user and the primary key
DISABLE_USERS: Final = """
    UPDATE enrollment
       SET state = 'out', session_nonce = NULL, session_token = NULL,
           push_record = NULL, push_digest = NULL, push_received_at = NULL, push_arrived_at = NULL,
           push_dead_since = NULL, push_dead_reason = NULL, version = version + 1, turn = turn + 1
     WHERE parent_key = $1
       AND (state <> 'out' OR session_nonce IS NOT NULL OR session_token IS NOT NULL
            OR push_record IS NOT NULL)
"""  # served by enrollment_user


async def write_change(session: Session, change: Change[Any], loaded: Loaded) -> None:
    """Store every part of the change. Raises `ChangeDoesNotFit`; the caller takes the transaction back."""
    at, snapshot = change.at, loaded.snapshot
    await _take_turns(session, change, loaded)
    await _save_rows(session, change, loaded)
    for supersede in change.supersede:
        await _supersede(session, supersede, at)
    await _bind(session, change.bind, loaded.unbound)
    for disable in change.disable_users:
        await _disable_users(session, disable, at)
    for cancel in change.cancel:
        await cancel_commands(session, cancel, at)
    for step in change.steps:
        await step_record(session, step, at)
    for record in change.records:
        await add_record(session, record)
    for proof in change.proofs:
        await prove_record(session, proof, at)
    for record_id in change.disclosures:
        await disclose_record(session, record_id, at)
    for escrow in change.escrows:
        await save_escrow(session, escrow)
    for sheet in change.facts:
        await save_sheet(session, sheet)
    for closed in change.close:
        await close_command(session, closed)
    if change.lift_deferred is not None:
        await lift_deferred(session, change.lift_deferred)
    for move in change.moves:
        await move_command(session, move, snapshot.channel)
    for command in change.enqueue:
        await add_command(session, command)
    for wake in change.wakes:
        await save_wake(session, wake)
    for key in change.drop_wakes:
        await drop_wake(session, key)
    for alert in change.alerts:
        await save_alert(session, alert, at)
    if change.audit is not None:
        await add_audit(session, change.audit, at)


def rows_held(change: Change[Any], snapshot: Snapshot) -> tuple[Enrollment, ...]:
    """What the decision was shown and does not write: it must stay so until the decision stands. By key."""
    taken = written_rows(change, snapshot)
    shown = (*snapshot.relationships, *([snapshot.device] if snapshot.device else ()))
    held = {row.key: row for row in shown if row.key not in taken}
    return tuple(held[key] for key in sorted(held))


def guards_escrows(change: Change[Any], loaded: Loaded) -> bool:
    """Whether the decision was shown escrows or changes some: then the turn of the device's row is its own."""
    return loaded.shows_escrows or bool(change.escrows)


def written_rows(change: Change[Any], snapshot: Snapshot) -> set[EnrollmentKey]:
    """The rows whose last-seen goes along with the write."""
    written = {row.key for row in change.rows}
    return written if snapshot.channel is None else written | {snapshot.channel.key}


def contact_of(change: Change[Any], key: EnrollmentKey) -> datetime | None:
    """When the row made contact, if this change tells of one."""
    return change.at if change.seen == key else None


async def _take_turns(session: Session, change: Change[Any], loaded: Loaded) -> None:
    device = whose_escrows(loaded.snapshot) if guards_escrows(change, loaded) else None
    for row in rows_held(change, loaded.snapshot):
        if device is not None and row.key == device.key:
            # Every decision about the escrows of a device meets here, also one that a user's channel led to.
            is_as_shown = await session.run(TAKE_TURN, row.key, loaded.turns[row.key], None) == 1
        else:
            is_as_shown = await session.row(HOLD_ROW, row.key, row.version) is not None
        if not is_as_shown:
            raise ChangeDoesNotFit("the row has moved on", enrollment_key=row.key)
    channel = loaded.snapshot.channel
    if channel is None or channel.key in {row.key for row in change.rows}:
        return
    seen_at = contact_of(change, channel.key)
    if await session.run(TAKE_TURN, channel.key, loaded.turns[channel.key], seen_at) != 1:
        raise ChangeDoesNotFit("the row has moved on", enrollment_key=channel.key)


async def _save_rows(session: Session, change: Change[Any], loaded: Loaded) -> None:
    rows = change.rows
    for row in rows if len(rows) == 1 else sorted(rows, key=_turn):
        values = enrollment_values(row, contact_of(change, row.key))
        if row.version == 0:
            await session.run(ADD_ROW, *values)
        elif await session.run(SAVE_ROW, *values, loaded.turns.get(row.key)) != 1:
            raise ChangeDoesNotFit("the row has moved on", enrollment_key=row.key)


def _turn(row: Enrollment) -> tuple[bool, bool]:
    """Parents before their users, and whoever gives up being current before who becomes it."""
    return row.is_user_channel, row.standing is Standing.CURRENT


async def _supersede(session: Session, supersede: Supersede, at: datetime) -> None:
    key, keep = supersede.enrollment_key, supersede.keep
    await session.run(SUPERSEDE_IDENTITIES, supersede.cause, at, key, keep)
    await session.run(SUPERSEDE_BINDINGS, at, key, keep)


async def _bind(
    session: Session, bindings: tuple[Binding, ...], unbound: Fingerprint | None
) -> None:
    for binding in bindings:
        # Two nodes may bind the same newcomer at once: then one of them must see what the other did.
        is_new = binding.fingerprint == unbound
        unbound = None if is_new else unbound
        await session.run(ADD_BINDING if is_new else SAVE_BINDING, *binding_values(binding))


async def _disable_users(session: Session, disable: DisableUsers, at: datetime) -> None:
    await session.run(DROP_USER_WAKES, disable.device_key)
    await session.run(RETIRE_USER_PUSHES, USER_LEFT, at, disable.device_key)
    await session.run(DISABLE_USERS, disable.device_key)
