"""Devices with a command waiting and a push due, written straight into storage: nobody of them ever speaks."""

import hashlib
from collections.abc import Iterator
from datetime import datetime

from ostiary.domain.command import CommandState, LiveCommand, Priority
from ostiary.domain.decision import Ask, ByKey, Change, Wake
from ostiary.domain.enrollment import Enrollment, EnrollmentKey, Proof, Standing, State
from ostiary.domain.push_value import encode_push_value
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Holder,
    KeyedDigest,
    RecordId,
    SealedValue,
    TokenKind,
    TokenPointer,
    TokenRecord,
    TokenState,
)
from ostiary.ports.sealer import Sealer, SealLabel
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.checkin import DeviceFacts, Topic
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId, EnrollmentType
from ostiary.secret import Secret

_AT_ONCE = 200
_NOBODY = EnrollmentKey("0" * 32)


async def furnish(
    enrollments: Enrollments, sealer: Sealer, topic: Topic, count: int, now: datetime
) -> None:
    """So many enrolled devices, each with a push token and one command in its queue."""
    for numbers in _parts(count):
        devices = {number: _device(number, topic, now) for number in numbers}
        change: Change[None] = Change(
            at=now,
            answer=None,
            rows=tuple(devices.values()),
            records=tuple(_record(row, number, sealer) for number, row in devices.items()),
            enqueue=tuple(_command(row, number, now) for number, row in devices.items()),
        )
        await _store(enrollments, change)


async def wake_all(enrollments: Enrollments, count: int, now: datetime) -> None:
    """Every one of them is due now, as if a command had just been queued."""
    for numbers in _parts(count):
        wakes = tuple(Wake(enrollment_key=_key(number), due_at=now) for number in numbers)
        change: Change[None] = Change(at=now, answer=None, wakes=wakes)
        await _store(enrollments, change)


async def _store(enrollments: Enrollments, change: Change[None]) -> None:
    await enrollments.decide(Ask(who=ByKey(key=_NOBODY)), lambda _found: change)


def _parts(count: int) -> Iterator[range]:
    for first in range(0, count, _AT_ONCE):
        yield range(first, min(first + _AT_ONCE, count))


def _key(number: int) -> EnrollmentKey:
    # Random as real ones are: neighbours in time are no neighbours in the tree.
    return EnrollmentKey(hashlib.sha256(b"key %d" % number).hexdigest()[:32])


def _record_id(number: int) -> RecordId:
    return RecordId(hashlib.sha256(b"record %d" % number).hexdigest()[:32])


def _device(number: int, topic: Topic, now: datetime) -> Enrollment:
    return Enrollment(
        key=_key(number),
        tenant=DEFAULT_TENANT,
        id=EnrollmentId(f"00008120-{number:016X}"),
        type=EnrollmentType.DEVICE,
        parent_key=None,
        state=State.ENROLLED,
        standing=Standing.CURRENT,
        proof=Proof.PROVEN,
        facts=DeviceFacts(serial_number=f"S{number:09d}", device_name="iPad", os_version="18.4"),
        topic=topic,
        created_at=now,
        authenticated_at=now,
        enrolled_at=now,
        last_seen_at=now,
        push=TokenPointer(
            record_id=_record_id(number),
            digest=KeyedDigest(bytes(32)),
            received_at=now,
            arrived_at=now,
        ),
        token_updates=1,
    )


def _record(row: Enrollment, number: int, sealer: Sealer) -> TokenRecord:
    token = hashlib.sha256(b"token %d" % number).digest()
    magic = hashlib.sha256(b"magic %d" % number).hexdigest()[:36].upper().encode()
    value = Secret(encode_push_value(token, magic))
    label = SealLabel(
        tenant=row.tenant,
        holder=Holder(row.id),
        kind=TokenKind.PUSH,
        record_id=_record_id(number),
    )
    return TokenRecord(
        id=_record_id(number),
        tenant=row.tenant,
        holder=Holder(row.id),
        kind=TokenKind.PUSH,
        value=sealer.seal(value, label),
        digest=sealer.digest(row.tenant, value),
        size=len(value.reveal()),
        state=TokenState.OK,
        cause="came with TokenUpdate",
        source="TokenUpdate",
        fingerprint=None,
        relationship=row.key,
        received_at=row.created_at,
        changed_at=row.created_at,
    )


def _command(row: Enrollment, number: int, now: datetime) -> LiveCommand:
    return LiveCommand(
        uuid=CommandUuid(f"command-{number}"),
        enrollment_key=row.key,
        request_type="DeviceInformation",
        priority=Priority.NORMAL,
        payload=SealedValue(b"<plist/>"),
        references=(),
        state=CommandState.QUEUED,
        queued_at=now,
        source="bench",
    )
