"""An enrolled device in the store of an open house, without the way there."""

import secrets
from datetime import UTC, datetime

from ostiary.domain.decision import Ask, ByName, Change
from ostiary.domain.enrollment import Enrollment, EnrollmentKey, Proof, Standing, State
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Holder,
    RecordId,
    TokenKind,
    TokenPointer,
    TokenRecord,
    TokenState,
)
from ostiary.house import House
from ostiary.ports.sealer import SealLabel
from ostiary.protocol.mdm.checkin import DeviceFacts, Topic
from ostiary.protocol.mdm.identity import EnrollmentId, EnrollmentType
from ostiary.secret import Secret

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TOPIC = Topic("com.apple.mgmt.External.test")


async def enroll(house: House, name: str, *, device_name: str = "Test") -> Enrollment:
    """Store a device as it stands after its first TokenUpdate; its push token says `planted-push-token`."""
    enrollment_id = EnrollmentId(name)
    record_id = RecordId(secrets.token_hex(16))
    value = Secret(b"planted-push-token")
    digest = house.sealer.digest(DEFAULT_TENANT, value)
    label = SealLabel(
        tenant=DEFAULT_TENANT, holder=Holder(name), kind=TokenKind.PUSH, record_id=record_id
    )
    key = EnrollmentKey(secrets.token_hex(16))
    record = TokenRecord(
        id=record_id,
        tenant=DEFAULT_TENANT,
        holder=Holder(name),
        kind=TokenKind.PUSH,
        value=house.sealer.seal(value, label),
        digest=digest,
        size=len(value),
        state=TokenState.OK,
        cause="came with TokenUpdate",
        source="TokenUpdate",
        fingerprint=None,
        relationship=key,
        received_at=NOW,
        changed_at=NOW,
    )
    row = Enrollment(
        key=key,
        tenant=DEFAULT_TENANT,
        id=enrollment_id,
        type=EnrollmentType.DEVICE,
        parent_key=None,
        state=State.ENROLLED,
        standing=Standing.CURRENT,
        proof=Proof.PROVEN,
        facts=DeviceFacts(serial_number=f"S{name}", device_name=device_name),
        topic=TOPIC,
        created_at=NOW,
        authenticated_at=NOW,
        enrolled_at=NOW,
        push=TokenPointer(record_id=record_id, digest=digest, received_at=NOW, arrived_at=NOW),
    )
    who = ByName(tenant=DEFAULT_TENANT, enrollment_id=enrollment_id)
    await house.storage.enrollments.decide(
        Ask(who=who), lambda _seen: Change(at=NOW, answer=None, rows=(row,), records=(record,))
    )
    return row
