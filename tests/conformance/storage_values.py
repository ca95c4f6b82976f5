"""Enrollments, records, commands and wakes to store, each told apart by a number."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ostiary.domain.command import ClosedCommand, CommandState, LiveCommand, Priority
from ostiary.domain.decision import AuditEntry, ByCertificate, Change, Snapshot
from ostiary.domain.enrollment import (
    Binding,
    Bound,
    Credential,
    Enrollment,
    EnrollmentKey,
    InstalledProfile,
    Proof,
    Purpose,
    Standing,
    State,
)
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.invitation import Challenge, Invitation
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Fingerprint,
    Holder,
    KeyedDigest,
    RecordId,
    SealedValue,
    TokenKind,
    TokenPointer,
    TokenRecord,
    TokenState,
)
from ostiary.ports.storage import PushCertificate
from ostiary.protocol.mdm.checkin import DeviceFacts, Topic
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import Channel, EnrollmentId, EnrollmentType

NOON = datetime(2026, 5, 4, 12, 0, 0, 250_001, tzinfo=UTC)
TOPIC = Topic("com.apple.mgmt.External.noon")
PROFILE = InstalledProfile(access_rights=8191, capabilities=frozenset({"one", "two"}))


@dataclass
class MovedClock:
    """A clock that tests move."""

    moment: datetime = NOON

    def now(self) -> datetime:
        return self.moment

    def advance(self, **duration: float) -> None:
        self.moment += timedelta(**duration)


def after(**duration: float) -> datetime:
    """A moment after NOON."""
    return NOON + timedelta(**duration)


def key(number: int) -> EnrollmentKey:
    return EnrollmentKey(f"{number:032x}")


def record_id(number: int) -> RecordId:
    return RecordId(f"{number:032x}")


def fingerprint(number: int) -> Fingerprint:
    return Fingerprint(f"{number:064x}")


def digest(number: int) -> KeyedDigest:
    return KeyedDigest(hashlib.sha256(b"%d" % number).digest())


def udid(number: int) -> EnrollmentId:
    return EnrollmentId(f"UDID-{number}")


def device(number: int, **changes: Any) -> Enrollment:
    """An enrolled iPad."""
    facts: dict[str, Any] = {
        "key": key(number),
        "tenant": DEFAULT_TENANT,
        "id": udid(number),
        "type": EnrollmentType.DEVICE,
        "parent_key": None,
        "state": State.ENROLLED,
        "standing": Standing.CURRENT,
        "proof": Proof.PROVEN,
        "facts": DeviceFacts(serial_number=f"SERIAL{number}", os_version="18.4"),
        "topic": TOPIC,
        "created_at": NOON,
        "authenticated_at": NOON,
    }
    return Enrollment(**{**facts, **changes})


def user(number: int, parent: int, **changes: Any) -> Enrollment:
    """A user channel on device `parent`."""
    facts: dict[str, Any] = {
        "id": EnrollmentId(f"{udid(parent)}:user-{number}"),
        "type": EnrollmentType.USER,
        "parent_key": key(parent),
        "user_short_name": f"user-{number}",
    }
    return device(number, **{**facts, **changes})


def channel(number: int, user_number: int | None = None) -> Channel:
    if user_number is None:
        return Channel(type=EnrollmentType.DEVICE, device_id=udid(number))
    return Channel(type=EnrollmentType.USER, device_id=udid(number), user=f"user-{user_number}")


def binding(number: int, to: int, **changes: Any) -> Binding:
    facts: dict[str, Any] = {
        "fingerprint": fingerprint(number),
        "tenant": DEFAULT_TENANT,
        "enrollment_key": key(to),
        "proof": Proof.PROVEN,
        "bound_at": NOON,
        "not_after": after(days=365),
    }
    return Binding(**{**facts, **changes})


def by_certificate(
    number: int, claimed: Channel | None = None, tenant: str = DEFAULT_TENANT
) -> ByCertificate:
    return ByCertificate(fingerprint=fingerprint(number), channel=claimed, tenant=tenant)  # type: ignore[arg-type]  # any text is a tenant here


def record(
    number: int, holder: int, kind: TokenKind = TokenKind.PUSH, **changes: Any
) -> TokenRecord:
    facts: dict[str, Any] = {
        "id": record_id(number),
        "tenant": DEFAULT_TENANT,
        "holder": Holder(udid(holder)),
        "kind": kind,
        "value": SealedValue(b"sealed %d" % number),
        "digest": digest(number),
        "size": 32,
        "state": TokenState.OK,
        "cause": "Received.",
        "source": "TokenUpdate",
        "fingerprint": fingerprint(holder),
        "relationship": key(holder),
        "received_at": NOON,
        "changed_at": NOON,
    }
    return TokenRecord(**{**facts, **changes})


def pointer(number: int, **changes: Any) -> TokenPointer:
    facts: dict[str, Any] = {
        "record_id": record_id(number),
        "digest": digest(number),
        "received_at": NOON,
        "arrived_at": NOON,
    }
    return TokenPointer(**{**facts, **changes})


def escrow(holder: int, kind: TokenKind = TokenKind.RECOVERY_LOCK, **changes: Any) -> Escrow:
    facts: dict[str, Any] = {
        "tenant": DEFAULT_TENANT,
        "holder": Holder(udid(holder)),
        "kind": kind,
        "state": EscrowState.SETTLED,
        "since": NOON,
    }
    return Escrow(**{**facts, **changes})


def sheet(of: int, name: SheetName = SheetName.SECURITY, **changes: Any) -> FactSheet:
    facts: dict[str, Any] = {
        "enrollment_key": key(of),
        "name": name,
        "facts": {"FDE_Enabled": True},
        "reported_at": NOON,
    }
    return FactSheet(**{**facts, **changes})


def uuid(name: str) -> CommandUuid:
    return CommandUuid(name)


def command(name: str, to: int, **changes: Any) -> LiveCommand:
    facts: dict[str, Any] = {
        "uuid": uuid(name),
        "enrollment_key": key(to),
        "request_type": "DeviceInformation",
        "priority": Priority.NORMAL,
        "payload": SealedValue(b"sealed " + name.encode()),
        "references": (),
        "state": CommandState.QUEUED,
        "queued_at": NOON,
        "source": "operator",
    }
    return LiveCommand(**{**facts, **changes})


def closed(name: str, of: int, **changes: Any) -> ClosedCommand:
    facts: dict[str, Any] = {
        "uuid": uuid(name),
        "enrollment_key": key(of),
        "request_type": "DeviceInformation",
        "state": CommandState.DONE,
        "queued_at": NOON,
        "closed_at": after(minutes=1),
        "source": "operator",
        "result": "{}",
        "hand_outs": 1,
    }
    return ClosedCommand(**{**facts, **changes})


def credential(number: int, **changes: Any) -> Credential:
    facts: dict[str, Any] = {
        "fingerprint": fingerprint(number),
        "tenant": DEFAULT_TENANT,
        "purpose": Purpose.ENROLL,
        "bound": Bound(serial_number=f"SERIAL{number}"),
        "profile": PROFILE,
        "issued_at": NOON,
        "not_after": after(days=365),
        "challenge_id": record_id(number),
    }
    return Credential(**{**facts, **changes})


def invitation(number: int, **changes: Any) -> Invitation:
    facts: dict[str, Any] = {
        "id": record_id(number),
        "tenant": DEFAULT_TENANT,
        "code": digest(number),
        "bound": Bound(user="somebody"),
        "valid_until": after(days=1),
        "uses_left": 1,
        "created_at": NOON,
        "created_by": "operator",
    }
    return Invitation(**{**facts, **changes})


def challenge(number: int, **changes: Any) -> Challenge:
    facts: dict[str, Any] = {
        "id": record_id(number),
        "tenant": DEFAULT_TENANT,
        "digest": digest(number),
        "purpose": Purpose.ENROLL,
        "bound": Bound(),
        "profile": PROFILE,
        "invitation_id": None,
        "valid_until": after(days=1),
        "created_at": NOON,
    }
    return Challenge(**{**facts, **changes})


def push_certificate(number: int, topic: Topic = TOPIC, **changes: Any) -> PushCertificate:
    facts: dict[str, Any] = {
        "topic": topic,
        "tenant": DEFAULT_TENANT,
        "record_id": record_id(number),
        "certificate_pem": b"certificate %d" % number,
        "sealed_key": SealedValue(b"sealed key %d" % number),
        "not_before": NOON,
        "not_after": after(days=365),
        "imported_at": NOON,
    }
    return PushCertificate(**{**facts, **changes})


def audit(verb: str, tenant: str = DEFAULT_TENANT) -> AuditEntry:
    return AuditEntry(
        tenant=tenant,  # type: ignore[arg-type]  # any text is a tenant here
        actor="operator",
        verb=verb,
        subject="UDID-1",
        reason="because",
    )


def nothing(_: Snapshot) -> Change[None]:
    """A rule that changes nothing."""
    return Change(at=NOON, answer=None)
