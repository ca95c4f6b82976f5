"""Values around escrowed secrets, for tests that need no storage: an escrow, a device, a command, a report, a seal."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ostiary.domain.command import CommandState, LiveCommand, Priority, Reference
from ostiary.domain.decision import Snapshot
from ostiary.domain.enrollment import Enrollment, EnrollmentKey, Proof, Standing, State
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_booking import Told
from ostiary.domain.ledger import SealedToken
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Fingerprint,
    Holder,
    KeyedDigest,
    RecordId,
    SealedValue,
    TokenKind,
)
from ostiary.domain.visitor import DeviceIdentity
from ostiary.formats.fields import Fields
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.checkin import DeviceFacts, Topic
from ostiary.protocol.mdm.connect import CommandUuid, ConnectReport, ErrorLink, Status
from ostiary.protocol.mdm.identity import Channel, EnrollmentId, EnrollmentType

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
UDID = EnrollmentId("00008103-000A4D1E0C38802E")
OLD, NEW, OTHER = RecordId("01" * 16), RecordId("02" * 16), RecordId("03" * 16)
SET, VERIFY = CommandUuid("SET"), CommandUuid("VERIFY")

DEVICE = Enrollment(
    key=EnrollmentKey("e1" * 16),
    tenant=DEFAULT_TENANT,
    id=UDID,
    type=EnrollmentType.DEVICE,
    parent_key=None,
    state=State.ENROLLED,
    standing=Standing.CURRENT,
    proof=Proof.FIRST_USE,
    facts=DeviceFacts(product_name="MacBookPro18,3"),
    topic=Topic("com.apple.mgmt.External.test"),
    created_at=NOON,
    authenticated_at=NOON,
    enrolled_at=NOON,
)
IDENTITY = DeviceIdentity(
    fingerprint=Fingerprint("ab" * 32),
    tenant=DEFAULT_TENANT,
    certificate=b"a certificate",
    not_after=NOON + timedelta(days=365),
    is_ours=True,
)


def escrow(kind: TokenKind, state: EscrowState = EscrowState.SETTLED, /, **changes: Any) -> Escrow:
    """One secret of the device, standing as `changes` says."""
    bare = Escrow(tenant=DEFAULT_TENANT, holder=Holder(UDID), kind=kind, state=state, since=NOON)
    return replace(bare, **changes)


def sealed(kind: TokenKind, record_id: RecordId, value: str) -> SealedToken:
    """A value as it is stored: equal values have equal digests."""
    return SealedToken(
        record_id=record_id,
        kind=kind,
        value=SealedValue(b"sealed"),
        digest=KeyedDigest(value.encode()),
        size=len(value),
    )


def command(
    request_type: str, uuid: CommandUuid, *references: Reference, hand_outs: int = 1
) -> LiveCommand:
    """A command of the device's queue; handed out once unless told otherwise."""
    return LiveCommand(
        uuid=uuid,
        enrollment_key=DEVICE.key,
        request_type=request_type,
        priority=Priority.NORMAL,
        payload=SealedValue(b""),
        references=references,
        state=CommandState.SENT if hand_outs else CommandState.QUEUED,
        queued_at=NOON,
        source="test",
        sent_at=NOON if hand_outs else None,
        hand_outs=hand_outs,
    )


def told(
    status: Status,
    uuid: CommandUuid,
    *brought: SealedToken,
    result: dict[str, PlistValue] | None = None,
    error: str | None = None,
    now: datetime = LATER,
) -> Told:
    """The device's report of one command, with what it brought."""
    chain = (ErrorLink(code=12, domain="MCMDMErrorDomain", description=error),) if error else ()
    message = ConnectReport(
        channel=Channel(device_id=UDID, type=EnrollmentType.DEVICE),
        status=status,
        command_uuid=uuid,
        error_chain=chain,
        needs_sync_response=False,
        user_configuration=False,
        not_on_console=None,
        auth_token=None,
        result=Fields(result or {}),
    )
    return Told(message=message, identity=IDENTITY, brought=brought, now=now)


def shown(*escrows: Escrow) -> Snapshot:
    """What a decision about the device sees."""
    return Snapshot(device=DEVICE, channel=DEVICE, escrows=escrows)
