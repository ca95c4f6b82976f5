"""Secrets that devices make and bring when they are asked: FileVault recovery keys, Activation Lock bypass codes.

Source: escrowed-secrets.md 4.3 (the state machine) and 4.9 (the replace rule).
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_machine import ANSWER_WITHIN, SetUnderWay
from ostiary.domain.ledger import SealedToken
from ostiary.domain.token import (
    Holder,
    TokenKind,
    TokenProof,
    TokenRecord,
    TokenState,
    TokenStep,
)
from ostiary.domain.visitor import DeviceIdentity
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.values import dataclass

LOOKS_ODD: Final = "it does not look like a recovery key"
"""In the cause of a generation, for whoever is shown it. (4.3)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What a device's word about its secret led to."""

    escrow: Escrow
    records: tuple[TokenRecord, ...] = ()
    steps: tuple[TokenStep, ...] = ()
    proofs: tuple[TokenProof, ...] = ()


def begin(escrow: Escrow, uuid: CommandUuid, now: datetime) -> Escrow:
    """A command that makes the device bring another value is queued; a doubt from before goes along. Raises SetUnderWay."""
    if escrow.state.is_unresolved:
        raise SetUnderWay(kind=escrow.kind.value, state=escrow.state.value)
    trouble = escrow.trouble if escrow.state is EscrowState.UNCERTAIN else None
    return replace(
        escrow,
        state=EscrowState.CANDIDATE,
        since=now,
        set_uuid=uuid,
        trouble=trouble,
        due_at=_due(escrow, None),
    )


def hand_out(escrow: Escrow, uuid: CommandUuid, now: datetime) -> Escrow:
    """From here on the device may have another value than the one we hold."""
    if escrow.set_uuid != uuid or escrow.state is not EscrowState.CANDIDATE:
        return escrow
    return replace(
        escrow, state=EscrowState.IN_FLIGHT, since=now, due_at=_due(escrow, now + ANSWER_WITHIN)
    )


def put_off(escrow: Escrow, uuid: CommandUuid, hand_outs: int, now: datetime) -> Escrow:
    """NotNow: nothing was changed, unless an earlier hand-out was carried out unheard; the wait begins anew."""
    if escrow.set_uuid != uuid or escrow.state is not EscrowState.IN_FLIGHT:
        return escrow
    if hand_outs > 1:
        return replace(escrow, due_at=_due(escrow, now + ANSWER_WITHIN))
    return replace(escrow, state=EscrowState.CANDIDATE, since=now, due_at=_due(escrow, None))


def bring(
    escrow: Escrow,
    token: SealedToken,
    holder: Enrollment,
    identity: DeviceIdentity,
    now: datetime,
    *,
    source: str,
    answers: bool,
) -> Brought:
    """The device told its value: the same one settles the matter, another is a new generation. (FV-04, FV-05, AL-02)

    `answers` says that it did so in answer to the command that makes it bring one.
    """
    if token.looks_odd and escrow.current is not None and escrow.digest != token.digest:
        return _beside(escrow, token, holder, identity, now, source=source, answers=answers)
    settled = replace(
        escrow,
        state=EscrowState.SETTLED,
        since=now,
        candidate=None,
        trouble=None,
        due_at=_due(escrow, None),
        digest=token.digest,
    )
    if escrow.state.is_unresolved and not answers:
        # The command that brings yet another value is still under way.
        settled = replace(escrow, candidate=None, trouble=None, digest=token.digest)
    doubted = passed_over(escrow, source)
    if escrow.current is not None and escrow.digest == token.digest:
        proof = TokenProof(record_id=escrow.current, proven_by=f"told again with {source}")
        # A doubt that a lost answer left is over: the device itself says which one is in force.
        sure = TokenStep(
            record_id=escrow.current,
            state=TokenState.OK,
            cause=_with_its_look(token, f"told again with {source}"),
        )
        if escrow.state is EscrowState.UNCERTAIN or answers:
            return Brought(escrow=settled, steps=(sure, *doubted), proofs=(proof,))
        # A change under way may yet be carried out.
        return Brought(escrow=escrow, proofs=(proof,))
    record = brought_record(token, holder, identity, now, source=source)
    before: tuple[TokenStep, ...] = ()
    if escrow.current is not None:
        cause = f"another value came with {source}"
        before = (TokenStep(record_id=escrow.current, state=TokenState.SUPERSEDED, cause=cause),)
    return Brought(
        escrow=replace(settled, current=record.id), records=(record,), steps=(*before, *doubted)
    )


def _beside(
    escrow: Escrow,
    token: SealedToken,
    holder: Enrollment,
    identity: DeviceIdentity,
    now: datetime,
    *,
    source: str,
    answers: bool,
) -> Brought:
    """A value that may have been damaged on its way takes no other's place: both are shown, the one held first. (4.3)"""
    is_open = escrow.state.is_unresolved and not answers
    candidate = token.same_as or token.record_id
    is_known = candidate == escrow.candidate
    if is_known and (is_open or escrow.state is EscrowState.UNCERTAIN):
        return Brought(escrow=escrow)
    doubted = replace(
        escrow,
        state=escrow.state if is_open else EscrowState.UNCERTAIN,
        since=escrow.since if is_open else now,
        candidate=candidate,
        trouble=f"the device told a value that may be damaged: {LOOKS_ODD}",
        due_at=escrow.due_at if is_open else _due(escrow, None),
    )
    passed = () if is_known else passed_over(escrow, source)
    if token.same_as is not None:
        cause = _with_its_look(token, f"told again with {source}")
        back = TokenStep(record_id=token.same_as, state=TokenState.CANDIDATE, cause=cause)
        return Brought(escrow=doubted, steps=(back, *passed))
    record = brought_record(token, holder, identity, now, source=source, state=TokenState.CANDIDATE)
    return Brought(escrow=doubted, records=(record,), steps=passed)


def _with_its_look(token: SealedToken, cause: str) -> str:
    return f"{cause}; {LOOKS_ODD}" if token.looks_odd else cause


def passed_over(escrow: Escrow, source: str) -> tuple[TokenStep, ...]:
    """A value that came with an answer nobody waited for: kept as one that may work, and no longer shown first."""
    if escrow.candidate is None:
        return ()
    why = f"it may have been in force once; the device told another with {source}"
    return (TokenStep(record_id=escrow.candidate, state=TokenState.SUSPECT, cause=why),)


def refuse(escrow: Escrow, uuid: CommandUuid, why: str, now: datetime) -> Escrow:
    """The device said Error: it changed nothing, and what we hold stays. (FV-08, AL-01)"""
    if escrow.set_uuid != uuid or not escrow.state.is_unresolved:
        return escrow
    return _calm(escrow, why, now)


def _calm(escrow: Escrow, why: str, now: datetime) -> Escrow:
    """Nothing was changed; a doubt from before is as it was."""
    is_doubted = escrow.trouble is not None or escrow.candidate is not None
    return replace(
        escrow,
        state=EscrowState.UNCERTAIN if is_doubted else EscrowState.SETTLED,
        since=now,
        trouble=escrow.trouble if is_doubted else why,
        due_at=_due(escrow, None),
    )


def _due(escrow: Escrow, at: datetime | None) -> datetime | None:
    """When it is to be looked after; a bypass code is asked for by the day, whatever one answer said. (AK-19)"""
    return escrow.due_at if escrow.kind is TokenKind.BYPASS_DEVICE else at


def lose(escrow: Escrow, why: str, now: datetime) -> Brought:
    """It may have another value, and has not told it: what we hold is kept and in doubt. (FV-06)

    To ask for a bypass code changes none: only what rotates leaves a doubt. (AL-01)
    """
    if not escrow.state.is_unresolved:
        return Brought(escrow=escrow)
    if escrow.state is EscrowState.CANDIDATE or escrow.kind is TokenKind.BYPASS_DEVICE:
        return Brought(escrow=_calm(escrow, why, now))
    doubted = replace(
        escrow, state=EscrowState.UNCERTAIN, since=now, trouble=why, due_at=_due(escrow, None)
    )
    if escrow.current is None:
        return Brought(escrow=doubted)
    step = TokenStep(record_id=escrow.current, state=TokenState.SUSPECT, cause=why)
    return Brought(escrow=doubted, steps=(step,))


def brought_record(
    token: SealedToken,
    holder: Enrollment,
    identity: DeviceIdentity,
    now: datetime,
    *,
    source: str,
    state: TokenState = TokenState.OK,
) -> TokenRecord:
    """The ledger's record of a value that a device told."""
    return TokenRecord(
        id=token.record_id,
        tenant=holder.tenant,
        holder=Holder(holder.id),
        kind=token.kind,
        value=token.value,
        digest=token.digest,
        size=token.size,
        state=state,
        cause=_with_its_look(token, f"came with {source}"),
        source=source,
        fingerprint=identity.fingerprint,
        relationship=holder.key,
        received_at=now,
        changed_at=now,
    )
