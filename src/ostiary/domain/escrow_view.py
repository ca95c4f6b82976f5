"""What a person is shown of one device's escrowed secrets: where each stands, what that means, what can be done.

Source: escrowed-secrets.md 4.0.3 (what is shown while a change is under way), 4.3 (FileVault), 4.6 (lock PIN).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain.bypass_codes import can_be_told
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import MANNERS, Escrow, EscrowState
from ostiary.domain.escrow_booking import FETCHED
from ostiary.domain.escrow_doubt import given_up
from ostiary.domain.escrow_fetched import LOOKS_ODD
from ostiary.domain.escrow_standing import standing_of_secret
from ostiary.domain.facts import FactSheet, SheetName
from ostiary.domain.rotation import ROTATES, why_not_rotated, why_not_sent
from ostiary.domain.token import FORM_OF, Form, Holder, RecordId, TokenKind, TokenRecord, TokenState
from ostiary.domain.token_standing import Standing
from ostiary.protocol.mdm.security_info import SecurityFacts
from ostiary.values import dataclass

ROTATED: Final = frozenset(ROTATES)
"""The kinds that can be replaced by a command, and are once a person has seen them. (4.0.2 rule 7)"""
FOR_PEOPLE: Final = frozenset(
    {
        *ROTATED,
        TokenKind.LOCK_PIN,
        TokenKind.BYPASS_DEVICE,
        TokenKind.BYPASS_SERVER,
        TokenKind.FILEVAULT_ENVELOPE,
    }
)
"""The kinds that a person may be shown; the others are of use to machines alone."""
BYPASS_CODES: Final = (TokenKind.BYPASS_SERVER, TokenKind.BYPASS_DEVICE)
BY_POINTER: Final = (TokenKind.UNLOCK, TokenKind.BOOTSTRAP)
"""The escrowed kinds whose current generation the enrollment row names."""
_BELIEVED: Final = (TokenState.OK, TokenState.SUSPECT)
UNLOCKED_AFTER: Final = timedelta(minutes=2)
"""A locked Mac does not talk; what it says in these minutes after its answer may still be on the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretView:
    """One escrowed secret of a device, without any value."""

    kind: TokenKind
    standing: Standing
    since: datetime | None
    current: TokenRecord | None
    candidate: TokenRecord | None
    """Set: the device may hold either, or will."""
    is_uncertain: bool
    """Both are shown when it is revealed, the one that was in force first."""
    trouble: str | None
    notes: tuple[str, ...]
    rotation_due_at: datetime | None
    generations: int
    can: tuple[str, ...]
    """What an operator can type behind `ostiary token`: reveal, with a generation where it needs one; rotate, verify."""

    @property
    def disclosed_at(self) -> datetime | None:
        """When a person last saw a value that may be in force."""
        seen = [one.disclosed_at for one in (self.current, self.candidate) if one is not None]
        return max((at for at in seen if at is not None), default=None)


def view_secrets(
    device: Enrollment,
    escrows: Iterable[Escrow],
    records: Iterable[TokenRecord],
    sheets: Iterable[FactSheet],
    now: datetime,
) -> tuple[SecretView, ...]:
    """Every kind of which this device id has a generation or a state, or of which the device says that there is one."""
    by_kind: dict[TokenKind, list[TokenRecord]] = {}
    for record in records:
        if record.holder == Holder(device.id) and is_shown(record.kind):
            by_kind.setdefault(record.kind, []).append(record)
    states = {one.kind: one for one in escrows if is_shown(one.kind)}
    sheets = tuple(sheets)
    said = _security(sheets)
    kinds = {*by_kind, *states}
    if said.has_personal_recovery_key:
        kinds.add(TokenKind.FILEVAULT_KEY)
    return tuple(
        replace(view, notes=(*view.notes, *_code_notes(kind, by_kind)))
        for kind in TokenKind
        if kind in kinds
        for view in (_view(device, kind, states.get(kind), by_kind.get(kind, []), sheets, now),)
    )


def chosen(escrow: Escrow | None) -> tuple[RecordId, ...]:
    """What a person is shown who asks for the value: the one in force; if it may be another, both, the old one first."""
    if escrow is None:
        return ()
    # A value that a device told came from there; a change that is queued says nothing of it.
    may_hold = escrow.state.device_may_hold_candidate or escrow.kind in FETCHED
    doubtful = escrow.candidate if may_hold else None
    return tuple(record for record in (escrow.current, doubtful) if record is not None)


def may_be_in_force(escrow: Escrow | None, records: Sequence[TokenRecord]) -> tuple[RecordId, ...]:
    """The same with every value that was given up for another before anybody knew what had become of it, older ones first.

    `records` are the generations of this kind. A change that failed takes nothing off this list but itself.
    """
    pointed = chosen(escrow)
    others = tuple(one.id for one in given_up(escrow, records))
    has_current = escrow is not None and escrow.current is not None
    return (*pointed[:has_current], *others, *pointed[has_current:])


def shown_unasked(
    device: Enrollment, escrow: Escrow | None, records: Sequence[TokenRecord]
) -> tuple[RecordId, ...]:
    """What a person is shown who names no generation; where no pointer is kept, the newest that is believed."""
    if escrow is not None:
        return may_be_in_force(escrow, records)
    newest = believed_without_pointer(device, records)
    return () if newest is None else (newest.id,)


def waits_for_device(escrow: Escrow | None, records: Iterable[TokenRecord]) -> TokenRecord | None:
    """The generation whose command the device has not taken yet: it can be in force nowhere. (4.0.3 row 2)

    What devices make themselves waits for none.
    """
    if escrow is None or escrow.state is not EscrowState.CANDIDATE or escrow.kind in FETCHED:
        return None
    return next((one for one in records if one.id == escrow.candidate), None)


def in_force(
    device: Enrollment,
    kind: TokenKind,
    escrow: Escrow | None,
    records: Iterable[TokenRecord],
) -> TokenRecord | None:
    """The generation of this kind that is believed to be in force; `records` are those of this kind."""
    pointer = device.pointer(kind)
    current_id = pointer.record_id if pointer is not None else escrow.current if escrow else None
    if current_id is not None:
        current = next((record for record in records if record.id == current_id), None)
        if current is not None:
            return current
    if escrow is None and kind not in BY_POINTER:
        return believed_without_pointer(device, records)
    return None


def believed_without_pointer(
    device: Enrollment, records: Iterable[TokenRecord]
) -> TokenRecord | None:
    """The newest value in use of a kind of which no pointer is kept.

    It was stored before there were pointers, or told by a newcomer whose contest was settled for him since. Whoever only
    contests the enrollment is not believed. (check-in-and-commands.md 2.3)
    """
    used = (one for one in records if one.state in _BELIEVED or is_set_aside(one, device))
    return max(
        (one for one in used if not is_contested(one, device)),
        key=lambda one: one.generation,
        default=None,
    )


def is_set_aside(record: TokenRecord, device: Enrollment) -> bool:
    """Whether it is this relationship's own, kept before anybody believed it."""
    return record.state is TokenState.CANDIDATE and record.relationship == device.key


def is_contested(record: TokenRecord, device: Enrollment) -> bool:
    """Whether another certificate told it that claims, or claimed, this device: nobody says that it is the device's."""
    return record.state is TokenState.CANDIDATE and record.relationship != device.key


def is_shown(kind: TokenKind) -> bool:
    """Whether the overview of a device's secrets lists this kind: what devices escrow, and what we set on them."""
    return kind in FOR_PEOPLE or kind in BY_POINTER


def _security(sheets: Iterable[FactSheet]) -> SecurityFacts:
    found = next((sheet for sheet in sheets if sheet.name is SheetName.SECURITY), None)
    return SecurityFacts.read(found.facts) if found is not None else SecurityFacts()


def _view(
    device: Enrollment,
    kind: TokenKind,
    escrow: Escrow | None,
    records: Sequence[TokenRecord],
    sheets: Sequence[FactSheet],
    now: datetime,
) -> SecretView:
    said = _security(sheets)
    never = why_not_rotated(device, kind, sheets) if kind in ROTATED else None
    by_id = {record.id: record for record in records}
    current = in_force(device, kind, escrow, records)
    candidate = by_id.get(escrow.candidate) if escrow and escrow.candidate is not None else None
    doubted = given_up(escrow, records)
    if candidate is None and doubted:
        candidate = doubted[-1]
    values_shown = may_be_in_force(escrow, records)
    return SecretView(
        kind=kind,
        standing=standing_of_secret(kind, escrow, current, said, now),
        since=escrow.since if escrow is not None else current.changed_at if current else None,
        current=current,
        candidate=candidate,
        is_uncertain=len(values_shown) > 1 or _is_doubtful_alone(escrow, values_shown),
        trouble=escrow.trouble if escrow is not None else None,
        notes=(
            *_notes(device, kind, escrow, said, now),
            *_doubt_notes((current, candidate), doubted),
            *_seen_notes(kind, escrow, current, never),
            *_contested_notes(device, escrow, records),
        ),
        rotation_due_at=_rotation(device, kind, escrow) if never is None else None,
        generations=len(records),
        can=_can(device, kind, escrow, records, sheets),
    )


def _is_doubtful_alone(escrow: Escrow | None, values_shown: Sequence[RecordId]) -> bool:
    """A first value that may never have arrived, or the only one that may be wrong: shown, and called uncertain. (DL-02)"""
    return escrow is not None and len(values_shown) == 1 and is_doubtful(escrow)


def is_doubtful(escrow: Escrow) -> bool:
    """Whether the value in force may be another than the one that is held. To ask for a bypass code changes none. (AL-01)"""
    if escrow.state is EscrowState.IN_FLIGHT:
        return escrow.kind is not TokenKind.BYPASS_DEVICE
    return escrow.state is EscrowState.UNCERTAIN


def _notes(
    device: Enrollment,
    kind: TokenKind,
    escrow: Escrow | None,
    said: SecurityFacts,
    now: datetime,
) -> tuple[str, ...]:
    notes = []
    if kind is TokenKind.FILEVAULT_KEY and said.filevault_enabled is False:
        notes.append("The disk is not encrypted now.")
    if kind is TokenKind.LOCK_PIN and escrow is not None:
        notes += _unlocked(device, escrow)
    if kind is TokenKind.ADMIN_PASSWORD and escrow is not None and escrow.current is not None:
        notes.append("No command asks whether it works; earlier ones may still do.")
    if kind is TokenKind.BYPASS_DEVICE and not can_be_told(device, now):
        is_held = escrow is not None and escrow.current is not None
        notes.append(
            "The code can no longer be fetched: it is told for fifteen days. "
            + (
                "One that was made since is not known here."
                if is_held
                else "No user lock is allowed."
            )
        )
    return tuple(notes)


def _code_notes(
    kind: TokenKind, held: Mapping[TokenKind, Sequence[TokenRecord]]
) -> tuple[str, ...]:
    """In which order bypass codes are tried, where there is more than one to try. (4.9)"""
    if kind not in BYPASS_CODES or kind not in held:
        return ()
    if all(one in held for one in BYPASS_CODES):
        return (
            "Which of the two bypass codes is in force cannot be known: try the server's, then the device's, then older ones.",
        )
    if len(held[kind]) > 1:
        return (
            "Whether the newest code is the one in force cannot be known: try it first, then older ones.",
        )
    return ()


def _doubt_notes(
    pointed: Iterable[TokenRecord | None], doubted: Iterable[TokenRecord]
) -> tuple[str, ...]:
    odd = [one for one in pointed if one is not None and LOOKS_ODD in one.cause]
    return (
        *(
            f"Generation {one.generation} does not look like a recovery key: it may be damaged, and may work all the same."
            for one in odd
        ),
        *(
            f"Generation {one.generation} may be in force as well: nobody knows what became of it, and another was asked for."
            for one in doubted
        ),
    )


def spoke_since(device: Enrollment, escrow: Escrow) -> bool:
    """A locked Mac does not talk: one that does was unlocked, or never locked. (4.6)"""
    seen = device.last_seen_at
    return seen is not None and seen > escrow.since + UNLOCKED_AFTER


def _unlocked(device: Enrollment, escrow: Escrow) -> list[str]:
    seen = device.last_seen_at
    if seen is None or not spoke_since(device, escrow):
        return []
    if escrow.state is EscrowState.SETTLED and escrow.current is not None:
        return [f"Unlocked since: the device spoke at {seen:%Y-%m-%d %H:%M} UTC."]
    if escrow.state in (EscrowState.IN_FLIGHT, EscrowState.UNCERTAIN):
        return [
            f"The device spoke at {seen:%Y-%m-%d %H:%M} UTC, after the lock was sent: it is not locked now."
        ]
    return []


def _seen_notes(
    kind: TokenKind, escrow: Escrow | None, current: TokenRecord | None, never: str | None
) -> tuple[str, ...]:
    """A value that a person has seen is replaced, or somebody is told that it is not."""
    if kind not in ROTATED or escrow is None or current is None or current.disclosed_at is None:
        return ()
    if never is not None:
        return (
            f"A person was shown the value in force, and no command can replace it here: {never}.",
        )
    if escrow.state is not EscrowState.SETTLED or escrow.due_at is not None:
        return ()
    return (
        "A person was shown the value in force, and nothing is planned to replace it: rotate it.",
    )


def _contested_notes(
    device: Enrollment, escrow: Escrow | None, records: Iterable[TokenRecord]
) -> tuple[str, ...]:
    pointed = (escrow.current, escrow.candidate) if escrow is not None else ()
    if not any(is_contested(one, device) and one.id not in pointed for one in records):
        return ()
    return (
        "Another certificate that claimed this device told a value of its own; it is kept, and shown with `--generation` only.",
    )


def _rotation(device: Enrollment, kind: TokenKind, escrow: Escrow | None) -> datetime | None:
    if escrow is None or kind not in ROTATED or escrow.state is not EscrowState.SETTLED:
        return None
    return escrow.due_at if device.state.is_served else None


def _reveal(device: Enrollment, escrow: Escrow | None, records: Sequence[TokenRecord]) -> str:
    """As it is to be typed: what cannot be in force is shown to whoever names it, and to nobody else."""
    if shown_unasked(device, escrow, records):
        return "reveal"
    newest = max(records, key=lambda one: one.generation)
    return f"reveal --generation {(waits_for_device(escrow, records) or newest).generation}"


def _can(
    device: Enrollment,
    kind: TokenKind,
    escrow: Escrow | None,
    records: Sequence[TokenRecord],
    sheets: Sequence[FactSheet],
) -> tuple[str, ...]:
    can = []
    if records and kind in FOR_PEOPLE and FORM_OF[kind] is Form.SEALED:
        can.append(_reveal(device, escrow, records))
    if not device.state.is_served:
        return tuple(can)
    is_busy = escrow is not None and escrow.state.is_unresolved
    manner = MANNERS.get(kind)
    asks = manner.verify if manner is not None else None
    is_verified = asks is not None
    # A change has to name the value in force, so one that can be asked about is asked about first.
    is_open = is_verified and escrow is not None and escrow.candidate is not None
    is_rotated = kind in ROTATED and why_not_rotated(device, kind, sheets) is None
    if is_rotated and not is_busy and not is_open:
        can.append("rotate")
    is_held = escrow is not None and (escrow.current or escrow.candidate) is not None
    if asks is not None and is_held and not is_busy and why_not_sent(device, asks, sheets) is None:
        can.append("verify")
    return tuple(can)
