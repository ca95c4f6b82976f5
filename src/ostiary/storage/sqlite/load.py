"""The load of a decision: what an Ask names, in as few statements as it takes. An Idle with nothing to do takes one."""

from dataclasses import dataclass
from typing import Any, Final

from ostiary.domain.command import LiveCommand
from ostiary.domain.decision import (
    Ask,
    ByCertificate,
    ByName,
    QueueView,
    Snapshot,
    Wake,
    wants_escrows,
)
from ostiary.domain.enrollment import Binding, Credential, Enrollment, Standing
from ostiary.domain.token import TenantId, TokenRecord
from ostiary.protocol.mdm.checkin import Topic
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.storage.sqlite.engine import Transaction
from ostiary.storage.sqlite.load_escrows import load_escrows
from ostiary.storage.sqlite.rows import (
    ENROLLMENT_WIDTH,
    Row,
    binding_from,
    command_from,
    credential_from,
    enrollment_from,
    moment,
    token_from,
    with_columns,
)
from ostiary.storage.sqlite.seen import SeenBuffer

# Every row comes with its wake and whether its channel has live commands: most have neither, and need no more look-ups.
_CHANNEL: Final = (
    "$enrollment, w.due_at, w.attempt, w.failures,"
    " EXISTS (SELECT 1 FROM command q WHERE q.enrollment_key = e.key)"
)

BOUND_DEVICE: Final = with_columns(f"""
    SELECT {_CHANNEL},
           EXISTS (SELECT 1 FROM push_certificate p WHERE p.topic = ?2 AND p.tenant = b.tenant),
           $binding
      FROM binding b JOIN enrollment e ON e.key = b.enrollment_key
      LEFT JOIN wake w ON w.enrollment_key = e.key
     WHERE b.fingerprint = ?1
""")  # noqa: S608 - made of constants; served by the primary keys
ROW_BY_KEY: Final = with_columns(f"""
    SELECT {_CHANNEL}
      FROM enrollment e LEFT JOIN wake w ON w.enrollment_key = e.key
     WHERE e.key = ?
""")  # noqa: S608 - made of constants; served by the primary key
USER_ROW: Final = with_columns(f"""
    SELECT {_CHANNEL}
      FROM enrollment e LEFT JOIN wake w ON w.enrollment_key = e.key
     WHERE e.parent_key = ? AND e.id = ?
""")  # noqa: S608 - made of constants; served by enrollment_user
COUNT_USERS: Final = """
    SELECT count(*) FROM enrollment WHERE parent_key = ?
"""  # served by enrollment_user
CURRENT_ROW: Final = with_columns(f"""
    SELECT {_CHANNEL}
      FROM enrollment e LEFT JOIN wake w ON w.enrollment_key = e.key
      LEFT JOIN enrollment p ON p.key = e.parent_key
     WHERE e.tenant = ? AND e.id = ?
       AND coalesce(p.standing, e.standing) = 'current'
""")  # noqa: S608 - made of constants; served by enrollment_by_id
RELATIONSHIPS: Final = with_columns("""
    SELECT $enrollment,
           EXISTS (SELECT 1 FROM binding b WHERE b.enrollment_key = e.key AND b.superseded_at IS NULL)
      FROM enrollment e
     WHERE e.tenant = ? AND e.id = ? AND e.parent_key IS NULL
       AND e.standing IN ('current', 'contested')
     ORDER BY e.standing = 'current' DESC, e.created_at, e.key
""")  # served by enrollment_by_id and binding_by_enrollment
CREDENTIAL: Final = with_columns(
    "SELECT $credential FROM credential d WHERE d.fingerprint = ?"
)  # served by the primary key
QUEUE: Final = with_columns("""
    SELECT $command FROM command c
     WHERE c.enrollment_key = ? AND c.uuid IS NOT ?
     ORDER BY c.state <> 'sent', c.priority, c.sequence LIMIT 2
""")  # served by command_by_turn
QUEUE_WITHOUT_DEFERRED: Final = with_columns("""
    SELECT $command FROM command c
     WHERE c.enrollment_key = ? AND c.uuid IS NOT ? AND c.state <> 'deferred'
     ORDER BY c.state <> 'sent', c.priority, c.sequence LIMIT 2
""")  # served by command_by_turn
HAS_DEFERRED: Final = """
    SELECT 1 FROM command c
     WHERE c.enrollment_key = ? AND c.state = 'deferred' AND c.uuid IS NOT ? LIMIT 1
"""  # served by command_deferred
REPORTED: Final = with_columns(
    "SELECT $command FROM command c WHERE c.enrollment_key = ? AND c.uuid = ?"
)  # served by command_by_uuid
REPORTED_IS_CLOSED: Final = """
    SELECT 1 FROM command_closed WHERE enrollment_key = ? AND uuid = ?
"""  # served by command_closed_by_uuid
RECORD: Final = with_columns(
    "SELECT $token FROM token t WHERE t.id = ?"
)  # served by the primary key
TOPIC_IS_HELD: Final = (
    "SELECT 1 FROM push_certificate WHERE topic = ? AND tenant = ?"  # served by the primary key
)


@dataclass(slots=True, kw_only=True)
class _Found:
    """Whom the message speaks for, with what came along in the same row."""

    tenant: TenantId
    device_id: EnrollmentId | None
    binding: Binding | None = None
    device: Enrollment | None = None
    channel: Enrollment | None = None
    wake: Wake | None = None
    has_live: bool = False
    users: int = 0
    topic_is_held: bool | None = None


@dataclass(frozen=True, slots=True)
class _Queue:
    reported: LiveCommand | None = None
    reported_is_closed: bool = False
    commands: tuple[LiveCommand, ...] = ()
    has_deferred: bool = False


_NO_QUEUE: Final = _Queue()


def load(transaction: Transaction, ask: Ask, seen: SeenBuffer) -> Snapshot:
    """What `ask` names."""
    found = _find(transaction, ask, seen)
    queue = _load_queue(transaction, ask, found)
    relationships: tuple[Enrollment, ...] = ()
    has_binding = False
    credential = None
    if _needs_relationships(ask, found):
        relationships, has_binding = _load_relationships(transaction, found, seen)
        credential = _load_credential(transaction, ask)
    snapshot = Snapshot(
        binding=found.binding,
        device=found.device,
        channel=found.channel,
        credential=credential,
        relationships=relationships,
        current_has_binding=has_binding,
        reported=queue.reported,
        reported_is_closed=queue.reported_is_closed,
        queue=queue.commands,
        has_deferred=queue.has_deferred,
        wake=found.wake,
        users=found.users,
        token=_load_pointed(transaction, ask, found.device),
        topic_is_held=found.topic_is_held
        if found.topic_is_held is not None
        else _is_held(transaction, ask.topic, found.tenant),
    )
    if not (ask.facts or wants_escrows(ask, snapshot)):
        return snapshot
    return load_escrows(transaction, ask, snapshot)


def load_record(transaction: Transaction, record_id: str) -> TokenRecord | None:
    """One ledger record with its value."""
    row = transaction.read(RECORD, (record_id,)).fetchone()
    return None if row is None else token_from(row)


def _find(transaction: Transaction, ask: Ask, seen: SeenBuffer) -> _Found:
    who = ask.who
    if isinstance(who, ByCertificate):
        return _find_by_certificate(transaction, who, ask.topic, seen)
    if isinstance(who, ByName):
        found = _Found(tenant=who.tenant, device_id=who.enrollment_id)
        row = transaction.read(CURRENT_ROW, (who.tenant, who.enrollment_id)).fetchone()
    else:
        found = _Found(tenant=TenantId(""), device_id=None)
        row = transaction.read(ROW_BY_KEY, (who.key,)).fetchone()
    if row is not None:
        _take_channel(found, row, seen)
        if found.channel is not None:
            found.device = _load_device_of(transaction, found.channel, seen)
    if found.device is not None:
        found.tenant, found.device_id = found.device.tenant, found.device.id
    return found


def _find_by_certificate(
    transaction: Transaction, who: ByCertificate, topic: Topic | None, seen: SeenBuffer
) -> _Found:
    channel = who.channel
    found = _Found(tenant=who.tenant, device_id=None if channel is None else channel.device_id)
    row = transaction.read(BOUND_DEVICE, (who.fingerprint, topic)).fetchone()
    if row is None:
        return found
    found.binding = binding_from(row[ENROLLMENT_WIDTH + 5 :])
    found.topic_is_held = bool(row[ENROLLMENT_WIDTH + 4])
    found.tenant = found.binding.tenant
    if channel is None or not channel.is_user_channel:
        _take_channel(found, row, seen)
        found.device = found.channel
    else:
        found.device = _enrollment(row, seen)
        user = transaction.read(USER_ROW, (found.device.key, channel.id)).fetchone()
        if user is not None:
            _take_channel(found, user, seen)
        else:
            found.users = transaction.read(COUNT_USERS, (found.device.key,)).fetchone()[0]
    if found.device_id is None and found.device is not None:
        found.device_id = found.device.id
    return found


def _enrollment(row: Row, seen: SeenBuffer) -> Enrollment:
    """The enrollment that a row begins with, as it will be once the buffer is written."""
    return enrollment_from(row[:ENROLLMENT_WIDTH], seen.last(row[0]))


def _take_channel(found: _Found, row: Row, seen: SeenBuffer) -> None:
    channel = _enrollment(row, seen)
    due_at, attempt, failures, has_live = row[ENROLLMENT_WIDTH : ENROLLMENT_WIDTH + 4]
    found.channel = channel
    found.has_live = bool(has_live)
    if due_at is not None:
        found.wake = Wake(
            enrollment_key=channel.key, due_at=moment(due_at), attempt=attempt, failures=failures
        )


def _load_device_of(
    transaction: Transaction, channel: Enrollment, seen: SeenBuffer
) -> Enrollment | None:
    if channel.parent_key is None:
        return channel
    row = transaction.read(ROW_BY_KEY, (channel.parent_key,)).fetchone()
    return None if row is None else _enrollment(row, seen)


def _load_queue(transaction: Transaction, ask: Ask, found: _Found) -> _Queue:
    if found.channel is None:
        return _NO_QUEUE
    uuid = ask.reported
    if not found.has_live:
        if uuid is None:
            return _NO_QUEUE
        return _Queue(reported_is_closed=_is_closed(transaction, found.channel, uuid))
    key = found.channel.key
    reported = None
    if uuid is not None:
        row = transaction.read(REPORTED, (key, uuid)).fetchone()
        reported = None if row is None else command_from(row)
    commands: list[Any] = []
    has_deferred = False
    if ask.queue is not QueueView.NONE:
        statement = QUEUE if ask.queue is QueueView.WHOLE else QUEUE_WITHOUT_DEFERRED
        commands = transaction.read(statement, (key, uuid)).fetchall()
        has_deferred = transaction.read(HAS_DEFERRED, (key, uuid)).fetchone() is not None
    return _Queue(
        reported=reported,
        reported_is_closed=uuid is not None
        and reported is None
        and _is_closed(transaction, found.channel, uuid),
        commands=tuple(command_from(row) for row in commands),
        has_deferred=has_deferred,
    )


def _is_closed(transaction: Transaction, channel: Enrollment, uuid: CommandUuid) -> bool:
    return transaction.read(REPORTED_IS_CLOSED, (channel.key, uuid)).fetchone() is not None


def _is_held(transaction: Transaction, topic: Topic | None, tenant: TenantId) -> bool:
    if topic is None:
        return False
    return transaction.read(TOPIC_IS_HELD, (topic, tenant)).fetchone() is not None


def _needs_relationships(ask: Ask, found: _Found) -> bool:
    if ask.relationships:
        return True
    if not isinstance(ask.who, ByCertificate):
        return False
    return found.device is None or found.device.standing is Standing.CONTESTED


def _load_relationships(
    transaction: Transaction, found: _Found, seen: SeenBuffer
) -> tuple[tuple[Enrollment, ...], bool]:
    if found.device_id is None:
        return (), False
    rows = transaction.read(RELATIONSHIPS, (found.tenant, found.device_id)).fetchall()
    relationships = tuple(_enrollment(row, seen) for row in rows)
    has_binding = (
        bool(rows)
        and relationships[0].standing is Standing.CURRENT
        and bool(rows[0][ENROLLMENT_WIDTH])
    )
    return relationships, has_binding


def _load_credential(transaction: Transaction, ask: Ask) -> Credential | None:
    if not isinstance(ask.who, ByCertificate):
        return None
    row = transaction.read(CREDENTIAL, (ask.who.fingerprint,)).fetchone()
    return None if row is None else credential_from(row)


def _load_pointed(
    transaction: Transaction, ask: Ask, device: Enrollment | None
) -> TokenRecord | None:
    if ask.value_of is None or device is None:
        return None
    pointer = device.pointer(ask.value_of)
    return None if pointer is None else load_record(transaction, pointer.record_id)
