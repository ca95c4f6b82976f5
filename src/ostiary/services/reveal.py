"""Secrets shown to people: who may, why, and on record before the value leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from ostiary.domain.decision import Ask, AuditEntry, ByName, EscrowView
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_view import FOR_PEOPLE, chosen
from ostiary.domain.policy import Policy
from ostiary.domain.reveal import Disclosure, SecretMovedOn, apply_reveal
from ostiary.domain.token import Holder, TokenKind, TokenRecord
from ostiary.domain.token_standing import standing_of
from ostiary.errors import Malformed, Missing, OstiaryError, Refused
from ostiary.ports.clock import Clock
from ostiary.ports.escrow import Escrows
from ostiary.ports.reports import Reports
from ostiary.ports.sealer import Sealer, SealLabel
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.caller import Caller, Scope

log = structlog.get_logger()

LONGEST_REASON: Final = 1000
_TRIES: Final = 3


class ReasonMissing(Malformed):
    """A secret is shown for a reason, which is kept in the audit."""

    hint = 'Say why with --reason, e.g. --reason "ticket 4711, user forgot the password".'


class ReasonUnusable(Malformed):
    """The reason is too long, or holds characters that cannot be printed."""


class NotForPeople(Refused):
    """A value of this kind is of no use to a person, and is not shown."""

    hint = (
        "Unlock tokens are used by `ostiary enqueue ENROLLMENT clear-passcode`; bootstrap tokens, push tokens and escrow "
        "keys by the server alone. `ostiary token history` shows where they stand."
    )


class NothingHeld(Missing):
    """No value of this kind is held that could be in force."""

    hint = "`ostiary token escrow ENROLLMENT --all` lists every generation; name an earlier one with --generation."


class GenerationUnknown(Missing):
    """There is no such generation of this secret."""

    hint = "`ostiary token escrow ENROLLMENT --all` lists every generation by its number."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One generation, with its value."""

    generation: int
    role: str
    """`current`, `candidate` (it may be in force instead), or `earlier`."""
    word: str
    cause: str
    received_at: datetime
    value: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Revealed:
    """What a person is shown: one value, or two where nobody can say which is in force, the older one first."""

    enrollment_id: EnrollmentId
    kind: TokenKind
    shown: tuple[Shown, ...]
    is_uncertain: bool
    rotation_due_at: datetime | None


class RevealService:
    """The one way by which the value of an escrowed secret reaches a person."""

    def __init__(
        self,
        enrollments: Enrollments,
        escrows: Escrows,
        reports: Reports,
        sealer: Sealer,
        clock: Clock,
        policy: Callable[[], Policy],
    ) -> None:
        self._enrollments = enrollments
        self._escrows = escrows
        self._reports = reports
        self._sealer = sealer
        self._clock = clock
        self._policy = policy

    async def reveal(
        self,
        enrollment_id: EnrollmentId,
        kind: TokenKind,
        caller: Caller,
        *,
        reason: str,
        generation: int | None = None,
    ) -> Revealed:
        """The value in force, or the generation that is named; audit entry and disclosure are on disk by then.

        Raises:
            ScopeMissing, ReasonMissing, ReasonUnusable, NotForPeople: refused, and logged. (ST-04)
            EnrollmentUnknown, NotADevice, NothingHeld, GenerationUnknown
            SealBroken: the value does not open; nothing was shown.
            SecretMovedOn: it kept changing meanwhile.
        """
        try:
            self._require_allowed(kind, caller, reason)
            revealed = await self._reveal(enrollment_id, kind, caller, reason.strip(), generation)
        except OstiaryError as error:
            log.warning(
                "reveal_refused",
                actor=caller.name,
                enrollment_id=enrollment_id,
                kind=kind.value,
                why=error.code,
            )
            raise
        log.info(
            "secret_revealed",
            actor=caller.name,
            enrollment_id=enrollment_id,
            kind=kind.value,
            generations=[one.generation for one in revealed.shown],
        )
        return revealed

    def _require_allowed(self, kind: TokenKind, caller: Caller, reason: str) -> None:
        caller.require(Scope.SECRETS_REVEAL)
        if kind not in FOR_PEOPLE:
            raise NotForPeople(kind=kind.value)
        if not reason.strip():
            raise ReasonMissing
        if len(reason) > LONGEST_REASON or not reason.isprintable():
            raise ReasonUnusable(limit=LONGEST_REASON)

    async def _reveal(
        self,
        enrollment_id: EnrollmentId,
        kind: TokenKind,
        caller: Caller,
        reason: str,
        generation: int | None,
    ) -> Revealed:
        for _ in range(_TRIES - 1):
            try:
                return await self._try(enrollment_id, kind, caller, reason, generation)
            except SecretMovedOn:
                continue
        return await self._try(enrollment_id, kind, caller, reason, generation)

    async def _try(
        self,
        enrollment_id: EnrollmentId,
        kind: TokenKind,
        caller: Caller,
        reason: str,
        generation: int | None,
    ) -> Revealed:
        """Opened first, so that nothing is called disclosed that could not be; shown after the commit."""
        holder, now = Holder(enrollment_id), self._clock.now()
        states = await self._escrows.find(caller.tenant, holder)
        escrow = next((one for one in states if one.kind is kind), None)
        history = await self._reports.token_history(caller.tenant, holder)
        known = [one for one in history if one.kind is kind and one.holder == holder]
        wanted = _in_force(known, escrow) if generation is None else _by_number(known, generation)
        shown = [await self._opened(one, escrow, now) for one in wanted]
        numbers = ", ".join(str(record.generation) for record in wanted)
        audit = AuditEntry(
            tenant=caller.tenant,
            actor=caller.name,
            verb="secret-reveal",
            subject=f"{enrollment_id} {kind} generation {numbers}",
            reason=reason,
        )
        asked = Disclosure(
            enrollment_id=enrollment_id,
            kind=kind,
            record_ids=tuple(record.id for record in wanted),
            is_chosen=generation is None,
            rotate_after=self._policy().rotate_after_reveal,
        )
        ask = Ask(
            who=ByName(tenant=caller.tenant, enrollment_id=enrollment_id), escrows=EscrowView.ALWAYS
        )
        change = await self._enrollments.decide(
            ask, lambda seen: apply_reveal(seen, asked, audit, now)
        )
        return Revealed(
            enrollment_id=enrollment_id,
            kind=kind,
            shown=tuple(shown),
            is_uncertain=generation is None and _is_uncertain(escrow),
            rotation_due_at=change.answer,
        )

    async def _opened(self, known: TokenRecord, escrow: Escrow | None, now: datetime) -> Shown:
        record = await self._enrollments.load_record(known.id)
        if record is None:  # retention was quicker
            raise SecretMovedOn(kind=known.kind.value)
        label = SealLabel(
            tenant=record.tenant, holder=record.holder, kind=record.kind, record_id=record.id
        )
        return Shown(
            generation=record.generation,
            role=_role(record, escrow),
            word=standing_of(record, now).word,
            cause=record.cause,
            received_at=record.received_at,
            value=self._sealer.unseal(record.value, label),
        )


def _by_number(records: Sequence[TokenRecord], generation: int) -> tuple[TokenRecord, ...]:
    found = tuple(record for record in records if record.generation == generation)
    if not found:
        raise GenerationUnknown(generation=generation)
    return found


def _in_force(records: Sequence[TokenRecord], escrow: Escrow | None) -> tuple[TokenRecord, ...]:
    """What is in force or may be, the one that was in force first. Where no pointer is kept, the newest."""
    if escrow is None and records:
        return (max(records, key=lambda one: one.generation),)
    by_id = {record.id: record for record in records}
    found = tuple(by_id[one] for one in chosen(escrow) if one in by_id)
    if not found:
        raise NothingHeld
    return found


def _is_uncertain(escrow: Escrow | None) -> bool:
    if escrow is None:
        return False
    doubtful = (EscrowState.IN_FLIGHT, EscrowState.UNCERTAIN)
    return len(chosen(escrow)) > 1 or escrow.state in doubtful


def _role(record: TokenRecord, escrow: Escrow | None) -> str:
    if escrow is None or record.id == escrow.current:
        return "current"
    return "candidate" if record.id == escrow.candidate else "earlier"
