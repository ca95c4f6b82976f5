"""The load of a decision, from dictionaries."""

from dataclasses import replace

from ostiary.domain.command import CommandState, LiveCommand
from ostiary.domain.decision import (
    Ask,
    ByCertificate,
    ByName,
    QueueView,
    Snapshot,
    wants_escrows,
    whose_escrows,
)
from ostiary.domain.enrollment import Binding, Enrollment, EnrollmentKey, Standing
from ostiary.domain.escrow import Escrow
from ostiary.domain.token import Holder, TenantId
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.storage.memory.tables import Tables


def load(tables: Tables, ask: Ask) -> Snapshot:
    """What `ask` names."""
    snapshot = _find(tables, ask)
    if snapshot.channel is not None:
        snapshot = _with_queue(tables, ask, snapshot, snapshot.channel)
    if _needs_relationships(ask, snapshot):
        snapshot = _with_relationships(tables, ask, snapshot)
    if ask.value_of is not None and snapshot.device is not None:
        pointer = snapshot.device.pointer(ask.value_of)
        record = None if pointer is None else tables.records.get(pointer.record_id)
        snapshot = replace(snapshot, token=record)
    if ask.topic is not None:
        certificate = tables.push_certificates.get(ask.topic)
        is_held = certificate is not None and certificate.tenant == _tenant(ask, snapshot)
        snapshot = replace(snapshot, topic_is_held=is_held)
    owner, device = whose_escrows(snapshot), snapshot.device
    if owner is not None and wants_escrows(ask, snapshot):
        found = escrows_of(tables, owner.tenant, Holder(owner.id))
        snapshot = replace(snapshot, escrows=found)
    if device is not None and ask.facts:
        sheets = [one for one in tables.sheets.values() if one.enrollment_key == device.key]
        snapshot = replace(snapshot, facts=tuple(sorted(sheets, key=lambda one: one.name)))
    return snapshot


def escrows_of(tables: Tables, tenant: TenantId, holder: Holder) -> tuple[Escrow, ...]:
    """Where each secret of a device id stands, by kind."""
    place = (tenant, holder)
    found = [one for one in tables.escrows.values() if (one.tenant, one.holder) == place]
    return tuple(sorted(found, key=lambda one: one.kind))


def has_binding_in_force(tables: Tables, key: EnrollmentKey) -> bool:
    return any(
        binding.enrollment_key == key and binding.superseded_at is None
        for binding in tables.bindings.values()
    )


def _find(tables: Tables, ask: Ask) -> Snapshot:
    who = ask.who
    if isinstance(who, ByCertificate):
        binding = tables.bindings.get(who.fingerprint)
        return Snapshot() if binding is None else _find_bound(tables, who, binding)
    if isinstance(who, ByName):
        channel = _current(tables, who.tenant, who.enrollment_id)
    else:
        channel = tables.enrollments.get(who.key)
    if channel is None:
        return Snapshot()
    device = channel if channel.parent_key is None else tables.enrollments.get(channel.parent_key)
    return Snapshot(device=device, channel=channel)


def _find_bound(tables: Tables, who: ByCertificate, binding: Binding) -> Snapshot:
    device = tables.enrollments[binding.enrollment_key]
    if who.channel is None or not who.channel.is_user_channel:
        return Snapshot(binding=binding, device=device, channel=device)
    users = [row for row in tables.enrollments.values() if row.parent_key == device.key]
    channel = next((row for row in users if row.id == who.channel.id), None)
    count = len(users) if channel is None else 0
    return Snapshot(binding=binding, device=device, channel=channel, users=count)


def _current(tables: Tables, tenant: TenantId, enrollment_id: EnrollmentId) -> Enrollment | None:
    for row in tables.enrollments.values():
        if (row.tenant, row.id) == (tenant, enrollment_id):
            device = row if row.parent_key is None else tables.enrollments[row.parent_key]
            if device.standing is Standing.CURRENT:
                return row
    return None


def _with_queue(tables: Tables, ask: Ask, snapshot: Snapshot, channel: Enrollment) -> Snapshot:
    live = {uuid: one for (key, uuid), one in tables.commands.items() if key == channel.key}
    reported = None if ask.reported is None else live.pop(ask.reported, None)
    is_closed = reported is None and (channel.key, ask.reported or "") in tables.closed
    snapshot = replace(
        snapshot,
        wake=tables.wakes.get(channel.key),
        reported=reported,
        reported_is_closed=is_closed,
    )
    if ask.queue is QueueView.NONE:
        return snapshot
    deferred = [one for one in live.values() if one.state is CommandState.DEFERRED]
    shown = [
        one
        for one in live.values()
        if ask.queue is QueueView.WHOLE or one.state is not CommandState.DEFERRED
    ]
    return replace(snapshot, queue=tuple(sorted(shown, key=_turn)[:2]), has_deferred=bool(deferred))


def _turn(command: LiveCommand) -> tuple[bool, int, int]:
    return command.state is not CommandState.SENT, command.priority, command.sequence


def _needs_relationships(ask: Ask, snapshot: Snapshot) -> bool:
    if ask.relationships:
        return True
    if not isinstance(ask.who, ByCertificate):
        return False
    return snapshot.device is None or snapshot.device.standing is Standing.CONTESTED


def _with_relationships(tables: Tables, ask: Ask, snapshot: Snapshot) -> Snapshot:
    tenant, device_id = _tenant(ask, snapshot), _device_id(ask, snapshot)
    found = [
        row
        for row in tables.enrollments.values()
        if (row.tenant, row.id, row.parent_key) == (tenant, device_id, None)
        and row.standing in (Standing.CURRENT, Standing.CONTESTED)
    ]
    found.sort(key=lambda row: (row.standing is not Standing.CURRENT, row.created_at, row.key))
    credential = None
    if isinstance(ask.who, ByCertificate) and ask.who.fingerprint in tables.credentials:
        credential, _ = tables.credentials[ask.who.fingerprint]
    return replace(
        snapshot,
        relationships=tuple(found),
        credential=credential,
        current_has_binding=bool(found)
        and found[0].standing is Standing.CURRENT
        and has_binding_in_force(tables, found[0].key),
    )


def _tenant(ask: Ask, snapshot: Snapshot) -> TenantId | None:
    if snapshot.binding is not None:
        return snapshot.binding.tenant
    if snapshot.device is not None:
        return snapshot.device.tenant
    return ask.who.tenant if isinstance(ask.who, ByCertificate | ByName) else None


def _device_id(ask: Ask, snapshot: Snapshot) -> EnrollmentId | None:
    if isinstance(ask.who, ByCertificate) and ask.who.channel is not None:
        return ask.who.channel.device_id
    if snapshot.device is not None:
        return snapshot.device.id
    return ask.who.enrollment_id if isinstance(ask.who, ByName) else None
