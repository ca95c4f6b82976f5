"""The write of a decision, on a copy of the dictionaries that is thrown away if any part does not fit."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from ostiary.domain.command import ClosedCommand, CommandState, LiveCommand
from ostiary.domain.decision import (
    Alert,
    AuditEntry,
    CancelCommands,
    Change,
    CommandMove,
    DisableUsers,
    Snapshot,
    Supersede,
)
from ostiary.domain.enrollment import Enrollment, EnrollmentKey, Standing, State, UserSession
from ostiary.domain.retention import grown
from ostiary.domain.token import RecordId, TokenKind, TokenRecord, TokenState, TokenStep
from ostiary.ports.reports import AlertLine
from ostiary.storage.audit_chain import FIRST_HASH, next_hash
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.memory.tables import Note, Tables
from ostiary.storage.wording import USER_LEFT, cancellation_text

IN_FORCE: Final = (TokenState.OK, TokenState.CANDIDATE, TokenState.SUSPECT)


def write_change(tables: Tables, change: Change[Any], snapshot: Snapshot) -> None:
    """Store every part of the change. Raises `ChangeDoesNotFit`."""
    at = change.at
    _save_rows(tables, change.rows)
    for supersede in change.supersede:
        _supersede(tables, supersede, at)
    for binding in change.bind:
        _require_row(tables, binding.enrollment_key)
        tables.bindings[binding.fingerprint] = binding
    for disable in change.disable_users:
        _disable_users(tables, disable, at)
    for cancel in change.cancel:
        _cancel(tables, cancel, at)
    for step in change.steps:
        step_record(tables, step, at)
    for record in change.records:
        add_record(tables, record)
    for proof in change.proofs:
        record = _record(tables, proof.record_id)
        tables.records[record.id] = replace(record, proven_at=at, proven_by=proof.proven_by)
    for record_id in change.disclosures:
        record = _record(tables, record_id)
        tables.records[record.id] = replace(record, disclosed_at=at)
    for escrow in change.escrows:
        tables.escrows[escrow.tenant, escrow.holder, escrow.kind] = escrow
    for sheet in change.facts:
        _require_row(tables, sheet.enrollment_key)
        tables.sheets[sheet.enrollment_key, sheet.name] = sheet
    for closed in change.close:
        _require_row(tables, closed.enrollment_key)
        tables.commands.pop((closed.enrollment_key, closed.uuid), None)
        _close(tables, closed)
    if change.lift_deferred is not None:
        _lift_deferred(tables, change.lift_deferred)
    for move in change.moves:
        _move(tables, move, snapshot)
    for command in change.enqueue:
        _enqueue(tables, command)
    for wake in change.wakes:
        _require_row(tables, wake.enrollment_key)
        tables.wakes[wake.enrollment_key] = wake
        tables.claimed.discard(wake.enrollment_key)
    for key in change.drop_wakes:
        tables.wakes.pop(key, None)
    for alert in change.alerts:
        raise_alert(tables, alert, at)
    if change.audit is not None:
        add_audit(tables, change.audit, at)


def note_seen(tables: Tables, key: EnrollmentKey, at: datetime) -> None:
    """The row made contact; last-seen only moves forward."""
    row = tables.enrollments.get(key)
    if row is not None and (row.last_seen_at is None or row.last_seen_at < at):
        tables.enrollments[key] = replace(row, last_seen_at=at)


def add_record(tables: Tables, record: TokenRecord) -> None:
    """Append it as the next generation; a record whose id exists is left as it is."""
    if record.id in tables.records:
        return
    place = (record.tenant, record.holder, record.kind)
    generation = 1 + max(
        (
            one.generation
            for one in tables.records.values()
            if (one.tenant, one.holder, one.kind) == place
        ),
        default=0,
    )
    tables.records[record.id] = replace(record, generation=generation)
    if (since := grown(record.kind, generation)) is not None:
        number = 1 + max(tables.review_notes, default=0)
        tables.review_notes[number] = Note(number, place, since, generation)


def step_record(tables: Tables, step: TokenStep, at: datetime) -> None:
    """Move a record to another state. Raises `ChangeDoesNotFit` if there is none."""
    record = _record(tables, step.record_id)
    tables.records[record.id] = replace(record, state=step.state, cause=step.cause, changed_at=at)


def add_audit(tables: Tables, entry: AuditEntry, at: datetime) -> None:
    """Append to the tenant's chain."""
    chain = [digest for one, digest in tables.audit if one.tenant == entry.tenant]
    previous = chain[-1] if chain else FIRST_HASH
    tables.audit.append((entry, next_hash(previous, entry, len(chain) + 1, at)))


def _record(tables: Tables, record_id: RecordId) -> TokenRecord:
    record = tables.records.get(record_id)
    if record is None:
        raise ChangeDoesNotFit("no such record", record_id=record_id)
    return record


def _require_row(tables: Tables, key: str | None) -> None:
    if key not in tables.enrollments:
        raise ChangeDoesNotFit("no such row", enrollment_key=key)


def _save_rows(tables: Tables, rows: Iterable[Enrollment]) -> None:
    for row in rows:
        stored = tables.enrollments.get(row.key)
        if (0 if stored is None else stored.version) != row.version:
            raise ChangeDoesNotFit("the row has moved on", enrollment_key=row.key)
        seen = stored.last_seen_at if stored is not None else None
        saved = replace(row, version=row.version + 1)
        tables.enrollments[row.key] = saved
        if seen is not None and (row.last_seen_at is None or row.last_seen_at < seen):
            tables.enrollments[row.key] = replace(saved, last_seen_at=seen)
    _check_rows(tables)


def _check_rows(tables: Tables) -> None:
    """What unique indexes and foreign keys promise elsewhere."""
    places = set()
    for row in tables.enrollments.values():
        if row.parent_key is not None:
            _require_row(tables, row.parent_key)
        elif row.standing is not Standing.CURRENT:
            continue
        place = (row.parent_key or row.tenant, row.id)
        if place in places:
            raise ChangeDoesNotFit("two rows for one place", enrollment_key=row.key)
        places.add(place)


def _supersede(tables: Tables, supersede: Supersede, at: datetime) -> None:
    old = [
        binding
        for binding in tables.bindings.values()
        if binding.enrollment_key == supersede.enrollment_key
        and binding.superseded_at is None
        and binding.fingerprint != supersede.keep
    ]
    for binding in old:
        tables.bindings[binding.fingerprint] = replace(binding, superseded_at=at)
    fingerprints = {binding.fingerprint for binding in old}
    for record in list(tables.records.values()):
        is_identity = record.kind is TokenKind.IDENTITY and record.fingerprint in fingerprints
        if is_identity and record.state in IN_FORCE:
            tables.records[record.id] = replace(
                record, state=TokenState.SUPERSEDED, cause=supersede.cause, changed_at=at
            )


def _disable_users(tables: Tables, disable: DisableUsers, at: datetime) -> None:
    for row in list(tables.enrollments.values()):
        if row.parent_key != disable.device_key:
            continue
        tables.wakes.pop(row.key, None)
        asked = None if row.session is None else UserSession()
        record = None if row.push is None else tables.records.get(row.push.record_id)
        if record is not None:
            tables.records[record.id] = replace(
                record, state=TokenState.RETIRED, cause=USER_LEFT, changed_at=at
            )
        if row.state is not State.OUT or row.session != asked or row.push is not None:
            tables.enrollments[row.key] = replace(
                row,
                state=State.OUT,
                session=asked,
                push=None,
                push_dead_since=None,
                push_dead_reason=None,
                version=row.version + 1,
            )


def _cancel(tables: Tables, cancel: CancelCommands, at: datetime) -> None:
    keys: set[str] = {cancel.enrollment_key}
    if cancel.users:
        keys |= {
            row.key
            for row in tables.enrollments.values()
            if row.parent_key == cancel.enrollment_key
        }
    gone = [one for one in tables.commands.values() if one.enrollment_key in keys]
    for command in sorted(gone, key=lambda one: one.sequence):
        del tables.commands[command.enrollment_key, command.uuid]
        closed = ClosedCommand(
            uuid=command.uuid,
            enrollment_key=command.enrollment_key,
            request_type=command.request_type,
            state=CommandState.CANCELLED,
            queued_at=command.queued_at,
            closed_at=at,
            source=command.source,
            result=cancellation_text(cancel.cause),
            hand_outs=command.hand_outs,
        )
        _close(tables, closed)


def _close(tables: Tables, closed: ClosedCommand) -> None:
    place = (closed.enrollment_key, closed.uuid)
    tables.closed.pop(place, None)
    tables.closed[place] = closed


def _lift_deferred(tables: Tables, key: EnrollmentKey) -> None:
    for place, command in list(tables.commands.items()):
        if command.enrollment_key == key and command.state is CommandState.DEFERRED:
            tables.commands[place] = replace(command, state=CommandState.QUEUED)


def _move(tables: Tables, move: CommandMove, snapshot: Snapshot) -> None:
    place = ("" if snapshot.channel is None else snapshot.channel.key, move.uuid)
    command = tables.commands.get(place)
    if command is None:
        raise ChangeDoesNotFit("no such live command on this channel", uuid=move.uuid)
    tables.commands[place] = replace(
        command, state=CommandState(move.to), sent_at=move.sent_at, hand_outs=move.hand_outs
    )


def _enqueue(tables: Tables, command: LiveCommand) -> None:
    _require_row(tables, command.enrollment_key)
    place = (command.enrollment_key, command.uuid)
    if place in tables.commands:
        raise ChangeDoesNotFit("the command is queued already", uuid=command.uuid)
    tables.last_sequence += 1
    tables.commands[place] = replace(command, sequence=tables.last_sequence)


def raise_alert(tables: Tables, alert: Alert, at: datetime) -> None:
    """Raise it, or count it once more."""
    place = (alert.tenant, alert.subject, alert.kind)
    known = tables.alerts.get(place)
    tables.alerts[place] = AlertLine(
        alert=alert,
        count=1 if known is None else known.count + 1,
        first_at=at if known is None else known.first_at,
        last_at=at,
    )
