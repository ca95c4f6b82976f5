"""Secrets in the ledger of a device, without the commands that would bring them: for tests of who may see them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from enrolled import NOW, enroll
from ostiary.domain.decision import Ask, ByName, Change, Snapshot
from ostiary.domain.enrollment import Enrollment, InstalledProfile
from ostiary.domain.escrow import Escrow, EscrowState
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
from ostiary.ports.sealer import Sealer, SealLabel
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.protocol.mdm.enrollment_profile import BOOTSTRAP_TOKEN
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.identifiers import new_identifier

CAPABLE = InstalledProfile(access_rights=8191, capabilities=frozenset({BOOTSTRAP_TOKEN}))

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
"""Before any clock that a test may run by."""


async def enroll_mac(
    house: House, name: str, *, bootstrap: bytes | None = None, **changes: Any
) -> Enrollment:
    """A Mac as it stands after its first commands; with `bootstrap`, it handed over that token."""
    row = await enroll(house, name)
    facts = DeviceFacts(
        serial_number=f"S{name}",
        device_name=f"{name}'s Mac",
        product_name="Mac14,2",
        os_version="15.1",
    )
    parts: dict[str, Any] = {"facts": facts, "profile": CAPABLE, "enrolled_at": LONG_AGO, **changes}
    records: tuple[TokenRecord, ...] = ()
    if bootstrap is not None:
        record = _record(house.sealer, Holder(name), TokenKind.BOOTSTRAP, bootstrap, NOW)
        records = (record,)
        parts["bootstrap"] = TokenPointer(
            record_id=record.id, digest=record.digest, received_at=NOW, arrived_at=NOW
        )
    mac = replace(row, **parts)

    def rule(seen: Snapshot) -> Change[Enrollment]:
        assert seen.device is not None
        current = replace(mac, version=seen.device.version)
        return Change(at=NOW, answer=current, rows=(current,), records=records)

    who = ByName(tenant=DEFAULT_TENANT, enrollment_id=EnrollmentId(name))
    change = await house.storage.enrollments.decide(Ask(who=who), rule)
    return change.answer


async def escrow_values(
    enrollments: Enrollments,
    sealer: Sealer,
    enrollment_id: str,
    kind: TokenKind,
    values: Sequence[bytes],
    now: datetime,
    *,
    current: int | None = 0,
    candidate: int | None = None,
    **state: Any,
) -> Escrow:
    """Append a generation for each value; `current` and `candidate` say which of them the pointers name."""
    holder = Holder(enrollment_id)
    records = [_record(sealer, holder, kind, value, now) for value in values]
    escrow = Escrow(
        **{
            "tenant": DEFAULT_TENANT,
            "holder": holder,
            "kind": kind,
            "state": EscrowState.SETTLED,
            "since": now,
            "current": None if current is None else records[current].id,
            "candidate": None if candidate is None else records[candidate].id,
            **state,
        }
    )

    def rule(_seen: Snapshot) -> Change[None]:
        return Change(at=now, answer=None, records=tuple(records), escrows=(escrow,))

    who = ByName(tenant=DEFAULT_TENANT, enrollment_id=EnrollmentId(enrollment_id))
    await enrollments.decide(Ask(who=who), rule)
    return escrow


def _record(
    sealer: Sealer, holder: Holder, kind: TokenKind, value: bytes, now: datetime
) -> TokenRecord:
    record_id, secret = RecordId(new_identifier(now)), Secret(value)
    label = SealLabel(tenant=DEFAULT_TENANT, holder=holder, kind=kind, record_id=record_id)
    return TokenRecord(
        id=record_id,
        tenant=DEFAULT_TENANT,
        holder=holder,
        kind=kind,
        value=sealer.seal(secret, label),
        digest=sealer.digest(DEFAULT_TENANT, secret),
        size=len(value),
        state=TokenState.OK,
        cause="made for a test",
        source="test",
        fingerprint=None,
        relationship=None,
        received_at=now,
        changed_at=now,
    )
