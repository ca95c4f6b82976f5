"""How generations follow each other: equal values move the arrival time only, others append."""

from dataclasses import field, replace
from datetime import datetime

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.token import (
    Fingerprint,
    Holder,
    KeyedDigest,
    RecordId,
    SealedValue,
    TokenKind,
    TokenPointer,
    TokenRecord,
    TokenState,
    TokenStep,
)
from ostiary.domain.visitor import DeviceIdentity
from ostiary.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedToken:
    """A token that a message carried, sealed before storage was asked, under a fresh record id."""

    record_id: RecordId
    kind: TokenKind
    value: SealedValue
    digest: KeyedDigest
    size: int
    looks_odd: bool = False
    """It may have been damaged on its way, and may work all the same. (escrowed-secrets.md 4.3)"""
    same_as: RecordId | None = None
    """A generation that holds this value already; looked for only where the value looks odd."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """The pointer that the enrollment row gets, and what the ledger learns."""

    pointer: TokenPointer | None
    records: tuple[TokenRecord, ...] = field(default=())
    steps: tuple[TokenStep, ...] = field(default=())

    @property
    def is_new(self) -> bool:
        return bool(self.records)


def succeed(
    holder: Enrollment, token: SealedToken, identity: DeviceIdentity, now: datetime, *, source: str
) -> Succession:
    """Let a token that came follow the current one: nothing is overwritten, equal values add nothing. (TU-3, TU-20)"""
    before = holder.pointer(token.kind)
    # Never before the Authenticate that it follows, whatever the clock says: an erased device would lose it.
    arrived_at = max(now, holder.authenticated_at)
    if before is not None and before.digest == token.digest:
        again = replace(before, arrived_at=arrived_at)
        return Succession(pointer=again, steps=_revived(holder, token, source))
    record = TokenRecord(
        id=token.record_id,
        tenant=holder.tenant,
        holder=Holder(holder.id),
        kind=token.kind,
        value=token.value,
        digest=token.digest,
        size=token.size,
        state=TokenState.OK,
        cause=f"came with {source}",
        source=source,
        fingerprint=identity.fingerprint,
        relationship=holder.key,
        received_at=now,
        changed_at=now,
    )
    pointer = TokenPointer(
        record_id=record.id, digest=record.digest, received_at=now, arrived_at=arrived_at
    )
    if before is None:
        return Succession(pointer=pointer, records=(record,))
    gone = TokenStep(
        record_id=before.record_id,
        state=TokenState.SUPERSEDED,
        cause=f"another value came with {source}",
    )
    return Succession(pointer=pointer, records=(record,), steps=(gone,))


def _revived(holder: Enrollment, token: SealedToken, source: str) -> tuple[TokenStep, ...]:
    """A push token that APNs called dead lives again once the device sends it again. (AP-04)"""
    if token.kind is not TokenKind.PUSH or holder.push is None or holder.push_dead_since is None:
        return ()
    cause = f"came again with {source}"
    return (TokenStep(record_id=holder.push.record_id, state=TokenState.OK, cause=cause),)


def retire(holder: Enrollment, kinds: tuple[TokenKind, ...], cause: str) -> tuple[TokenStep, ...]:
    """The steps that move the current generations of `kinds` to history: kept, never offered by themselves. (2.3)"""
    pointers = (holder.pointer(kind) for kind in kinds)
    return tuple(
        TokenStep(record_id=pointer.record_id, state=TokenState.RETIRED, cause=cause)
        for pointer in pointers
        if pointer is not None
    )


def last_steps(steps: tuple[TokenStep, ...]) -> tuple[TokenStep, ...]:
    """One step for each record, the last word on it: storage applies the steps of a change in no order."""
    return tuple({step.record_id: step for step in steps}.values())


def identity_record(
    holder: Enrollment, identity: DeviceIdentity, now: datetime, *, source: str
) -> TokenRecord:
    """The ledger's record of a certificate that was bound to a relationship; public, its id is its fingerprint's head."""
    return TokenRecord(
        id=identity_record_id(identity.fingerprint),
        tenant=holder.tenant,
        holder=Holder(holder.id),
        kind=TokenKind.IDENTITY,
        value=SealedValue(identity.certificate),
        digest=KeyedDigest(bytes.fromhex(identity.fingerprint)),
        size=len(identity.certificate),
        state=TokenState.OK,
        cause=f"bound by {source}",
        source=source,
        fingerprint=identity.fingerprint,
        relationship=holder.key,
        received_at=now,
        changed_at=now,
        expires_at=identity.not_after,
    )


def identity_record_id(fingerprint: Fingerprint) -> RecordId:
    """A certificate has one ledger record, wherever it is met again."""
    return RecordId(fingerprint[:32])
