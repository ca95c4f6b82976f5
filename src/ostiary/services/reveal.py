"""Secrets shown to people: who may, why, and on record before the value leaves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from ostiary.domain.decision import Ask, AuditEntry, ByName, EscrowView
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_view import (
    FOR_PEOPLE,
    chosen,
    is_contested,
    is_doubtful,
    is_set_aside,
    shown_unasked,
    waits_for_device,
)
from ostiary.domain.escrow_wishes import NAMES
from ostiary.domain.operator import EnrollmentUnknown
from ostiary.domain.policy import Policy
from ostiary.domain.reveal import (
    Believed,
    Disclosure,
    Replacement,
    SecretMovedOn,
    apply_reveal,
)
from ostiary.domain.token import (
    FORM_OF,
    Form,
    Holder,
    RecordId,
    TenantId,
    TokenKind,
    TokenRecord,
)
from ostiary.domain.token_standing import standing_of
from ostiary.errors import Malformed, Missing, OstiaryError, Refused
from ostiary.ports.clock import Clock
from ostiary.ports.escrow import Escrows
from ostiary.ports.reports import Reports
from ostiary.ports.sealer import EpochUnknown, SealBroken, Sealer, SealLabel
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.caller import Caller, Scope

log = structlog.get_logger()

LONGEST_REASON: Final = 1000
_TRIES: Final = 3
_CURRENT, _CANDIDATE, _EARLIER = "current", "candidate", "earlier"
CONTESTED: Final = "contested"
"""The role of what another certificate told that claims, or claimed, the device."""


class ReasonMissing(Malformed):
    """A secret is shown for a reason, which is kept in the audit."""

    hint = 'Say why with --reason, e.g. --reason "ticket 4711, user forgot the password".'


class ReasonUnusable(Malformed):
    """The reason is too long, or holds characters that cannot be printed; nothing was shown."""

    hint = "Say it in one line of at most a thousand printable characters."


class NotForPeople(Refused):
    """A value of this kind is of no use to a person, and is not shown."""

    hint = (
        "Unlock tokens are used by `ostiary enqueue ENROLLMENT clear-passcode`; bootstrap tokens, push tokens, push "
        "certificates and escrow keys by the server alone; of the others only a digest or a certificate is kept. "
        "`ostiary token history` shows where they stand."
    )


class NothingHeld(Missing):
    """No value of this kind is held that could be in force."""

    hint = "`ostiary token escrow ENROLLMENT --all` lists every generation; name an earlier one with --generation."


class NotTakenYet(NothingHeld):
    """The value that is held is in force nowhere yet: its command waits for the device."""

    hint = (
        "Add `--generation` with this number to see it beforehand; once the device has fetched the command, it is shown "
        "without. `ostiary queue list ENROLLMENT` shows the command."
    )


class GenerationUnknown(Missing):
    """There is no such generation of this secret."""

    hint = "`ostiary token escrow ENROLLMENT --all` lists every generation by its number."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One generation, with its value."""

    generation: int
    role: str
    """`current`, `candidate` (it may be in force instead), `contested` (told by another certificate), or `earlier`."""
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
    replacement: Replacement
    restart_awaited_since: datetime | None = None
    """The device took a change then, and what is in force will be another from its next restart on. (4.5)"""
    is_waiting: bool = False
    """Somebody named a value that the device has not taken yet: it is in force nowhere."""
    unopened: tuple[int, ...] = ()
    """Generations that may be in force as well, and do not open: one that is damaged must not hide the others."""

    @property
    def rotation_due_at(self) -> datetime | None:
        """When a worker replaces what was shown; None if nothing does that by itself."""
        return self.replacement.due_at


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
            SealBroken: no such value opens; nothing was shown.
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
            what = (
                "is of no use to a person" if FORM_OF[kind] is Form.SEALED else "is not kept here"
            )
            raise NotForPeople(
                f"the value of the {NAMES[kind]} {what}, and is not shown", kind=kind.value
            )
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
        device = await self._device(caller.tenant, enrollment_id)
        states = await self._escrows.find(caller.tenant, holder)
        escrow = next((one for one in states if one.kind is kind), None)
        history = await self._reports.token_history(caller.tenant, holder)
        known = [one for one in history if one.kind is kind and one.holder == holder]
        found, waiting = shown_unasked(device, escrow, known), waits_for_device(escrow, known)
        wanted = found if generation is None else (_by_number(known, generation),)
        if not wanted:
            raise _nothing_in_force(enrollment_id, kind, waiting)
        in_force = escrow.current if escrow is not None else next(iter(found), None)
        asking = _Asking(
            tenant=caller.tenant,
            device=device,
            kind=kind,
            current=in_force,
            candidates=found if escrow is None else (*found, escrow.candidate),
            now=now,
        )
        shown, unopened = await self._those_that_open(wanted, asking)
        numbers = ", ".join(str(one.generation) for one in shown)
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
            record_ids=tuple(one for one in wanted if one not in unopened),
            believed=Believed(relationship=device.key, pointed=chosen(escrow))
            if generation is None
            else None,
            rotate_after=self._policy().rotate_after_reveal,
        )
        ask = Ask(
            who=ByName(tenant=caller.tenant, enrollment_id=enrollment_id),
            escrows=EscrowView.ALWAYS,
            facts=True,
        )
        change = await self._enrollments.decide(
            ask, lambda seen: apply_reveal(seen, asked, audit, now)
        )
        return Revealed(
            enrollment_id=enrollment_id,
            kind=kind,
            shown=tuple(shown),
            is_uncertain=_is_uncertain(escrow, wanted)
            if generation is None
            else _is_doubtful(shown),
            replacement=change.answer,
            restart_awaited_since=_restart_awaited_since(escrow) if generation is None else None,
            is_waiting=generation is not None and waiting is not None and waiting.id in wanted,
            unopened=tuple(one.generation for one in known if one.id in unopened),
        )

    async def _device(self, tenant: TenantId, enrollment_id: EnrollmentId) -> Enrollment:
        rows = await self._reports.find_enrollments(tenant, enrollment_id)
        row = next((one for one in rows if one.id == enrollment_id), None)
        if row is None:
            raise EnrollmentUnknown(enrollment_id=enrollment_id)
        return row

    async def _those_that_open(
        self, wanted: Sequence[RecordId], asking: "_Asking"
    ) -> tuple[list[Shown], frozenset[RecordId]]:
        """What can be shown of these, and what is damaged. Raises SealBroken if nothing can."""
        shown: list[Shown] = []
        broken: dict[RecordId, SealBroken] = {}
        for record_id in wanted:
            try:
                shown.append(await self._opened(record_id, asking))
            except EpochUnknown:
                raise
            except SealBroken as error:
                broken[record_id] = error
        if broken and not shown:
            raise next(iter(broken.values()))
        return shown, frozenset(broken)

    async def _opened(self, record_id: RecordId, asking: "_Asking") -> Shown:
        """The value, opened as this device's of this kind: a pointer to another's gives nothing away. (4.0.2 rule 3)"""
        record = await self._enrollments.load_record(record_id)
        if record is None:  # retention was quicker
            raise SecretMovedOn(kind=asking.kind.value)
        label = SealLabel(
            tenant=asking.tenant,
            holder=Holder(asking.device.id),
            kind=asking.kind,
            record_id=record_id,
        )
        return Shown(
            generation=record.generation,
            role=_role(record, asking),
            word=standing_of(record, asking.now).word,
            cause=record.cause,
            received_at=record.received_at,
            value=self._sealer.unseal(record.value, label),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """Whose value of what is to be shown, and where that stands."""

    tenant: TenantId
    device: Enrollment
    kind: TokenKind
    current: RecordId | None
    candidates: tuple[RecordId | None, ...]
    now: datetime


def _by_number(records: Sequence[TokenRecord], generation: int) -> RecordId:
    found = next((record.id for record in records if record.generation == generation), None)
    if found is None:
        raise GenerationUnknown(generation=generation)
    return found


def _nothing_in_force(
    enrollment_id: EnrollmentId, kind: TokenKind, waiting: TokenRecord | None
) -> NothingHeld:
    """Why nothing is shown to whoever named no generation, and which one to name if one waits for the device."""
    if waiting is None:
        return NothingHeld(
            f"no {NAMES[kind]} is held that could be in force", enrollment_id=enrollment_id
        )
    number = waiting.generation
    return NotTakenYet(
        f"the {NAMES[kind]} that is held is in force nowhere yet: its command waits for the device, which has not taken it; "
        f"--generation {number} shows it",
        enrollment_id=enrollment_id,
        generation=number,
    )


def _restart_awaited_since(escrow: Escrow | None) -> datetime | None:
    """Only where the device said that it took the change; one that may have taken it unheard leaves a doubt."""
    if escrow is None or escrow.state is not EscrowState.PENDING_RESTART or escrow.trouble:
        return None
    return escrow.since


def _is_uncertain(escrow: Escrow | None, wanted: Sequence[RecordId]) -> bool:
    if escrow is None or _restart_awaited_since(escrow) is not None:
        return False
    return len(wanted) > 1 or is_doubtful(escrow)


def _is_doubtful(shown: Sequence[Shown]) -> bool:
    """Whether somebody named a value that nobody says is, or was, the device's own."""
    return any(one.role in (CONTESTED, _CANDIDATE) for one in shown)


def _role(record: TokenRecord, asking: _Asking) -> str:
    if record.id == asking.current:
        return _CURRENT
    if record.id in asking.candidates or is_set_aside(record, asking.device):
        return _CANDIDATE
    return CONTESTED if is_contested(record, asking.device) else _EARLIER
