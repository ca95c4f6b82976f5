"""What the beginnings and ends of relationships do to escrowed secrets: the lifecycle matrix, as a table.

Source: escrowed-secrets.md 4.13. Unlock and bootstrap tokens hang on the relationship itself and are decided where it
is; these are the secrets that belong to the device, its disk or its firmware.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Final

from ostiary.domain import escrow_machine
from ostiary.domain.decision import Snapshot
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_booking import NOTHING, News, lost, of_turn, standard_command
from ostiary.domain.first_commands import SECURITY_INFO
from ostiary.domain.token import RecordId, TokenKind, TokenState, TokenStep
from ostiary.protocol.mdm.connect import CommandUuid


class Cause(Enum):
    """What happened to the relationship. Restores on the same device change nothing here; renewals are `after_renewal`."""

    ENROLLED_AGAIN = "the device enrolled again"
    """C, without proof; and E, `profiles renew`."""
    ERASED = "the device was erased"
    """D."""
    CHECKED_OUT = "the device checked out"
    RELEASED = "an operator released the device"


class Fate(Enum):
    """What becomes of one kind of secret."""

    KEEP = "keep"
    RETIRE = "retire"
    """To history; not offered as the one in force."""
    CHECK = "check"
    """The value is kept, and whether it is in force has to be asked."""
    CLEARED = "cleared"
    """The Mac itself drops it when its enrollment ends."""


_K, _R, _CHECK, _CLEARED = Fate.KEEP, Fate.RETIRE, Fate.CHECK, Fate.CLEARED
_CAUSES: Final = (Cause.ENROLLED_AGAIN, Cause.ERASED, Cause.CHECKED_OUT, Cause.RELEASED)
_TABLE: Final[Mapping[TokenKind, tuple[Fate, Fate, Fate, Fate]]] = MappingProxyType(
    {
        TokenKind.FILEVAULT_KEY: (_K, _R, _K, _K),
        TokenKind.FILEVAULT_ESCROW_KEY: (_K, _K, _K, _K),
        TokenKind.FILEVAULT_ENVELOPE: (_K, _R, _K, _K),
        TokenKind.RECOVERY_LOCK: (_CHECK, _R, _CLEARED, _CHECK),
        TokenKind.FIRMWARE_PASSWORD: (_K, _K, _K, _K),
        TokenKind.LOCK_PIN: (_K, _R, _K, _K),
        TokenKind.ADMIN_PASSWORD: (_K, _R, _K, _K),
        TokenKind.BYPASS_DEVICE: (_K, _K, _K, _K),
        TokenKind.BYPASS_SERVER: (_K, _K, _K, _K),
    }
)


ENROLLS_WITHIN: Final = timedelta(minutes=10)
"""Between an Authenticate and the first answers of a device, as a rule."""
_OF_THE_DISK: Final = (TokenKind.FILEVAULT_KEY, TokenKind.FILEVAULT_ENVELOPE)
_MAKE_CODES: Final = (Cause.ENROLLED_AGAIN, Cause.ERASED)
"""After these a device may have made another bypass code: what is held is kept, and it is asked again."""


def fate_of(kind: TokenKind, cause: Cause) -> Fate:
    """The cell of the matrix; a kind that it does not name is kept."""
    row = _TABLE.get(kind)
    return Fate.KEEP if row is None else row[_CAUSES.index(cause)]


def relationship_ended(
    escrows: tuple[Escrow, ...], device: Enrollment, cause: Cause, now: datetime
) -> News:
    """What the device's secrets come to. Its queue is cancelled by the same change, so no answer will come. (row 9)"""
    news = NOTHING
    for before in escrows:
        news += _of_one(before, device, cause, now)
    return news


def after_renewal(seen: Snapshot, device: Enrollment, seed: RecordId, now: datetime) -> News:
    """B, proven: everything stays; the Mac is asked whether it still holds its Recovery Lock. (4.4, 4.15 item 10)

    `seed` names the record that completed the renewal.
    """
    lock = seen.escrow(TokenKind.RECOVERY_LOCK)
    if lock is None or lock.current is None or lock.state.is_unresolved:
        return NOTHING
    uuid = escrow_machine.follow_up_uuid(lock, CommandUuid(seed), "renewed")
    return of_turn(device, lock, escrow_machine.verify_again(lock, uuid, now), now)


def after_contest(escrows: tuple[Escrow, ...], device: Enrollment, now: datetime) -> News:
    """What a newcomer told of its disk while nobody believed it was only kept: now that it is believed, it is asked again."""
    disk = next((one for one in escrows if one.kind in _OF_THE_DISK), None)
    if disk is None or not device.state.is_served:
        return NOTHING
    uuid = escrow_machine.follow_up_uuid(disk, CommandUuid(device.key), "settled")
    return News(enqueue=(standard_command(device, SECURITY_INFO, uuid, now),))


def _of_one(before: Escrow, device: Enrollment, cause: Cause, now: datetime) -> News:
    unanswered = lost(device, before, cause.value, now) if before.state.is_unresolved else NOTHING
    after = next(iter(unanswered.escrows), before)
    # Nobody is left to be asked; what follows an answer is asked of the next relationship.
    unanswered = replace(unanswered, enqueue=())
    match fate_of(before.kind, cause):
        case Fate.RETIRE:
            return News(steps=unanswered.steps) + _retired(after, cause, now)
        case Fate.CLEARED:
            gone = escrow_machine.cleared(after, f"{cause.value}: the Mac drops it by itself", now)
            changed = (gone.escrow,) if replace(gone.escrow, since=before.since) != before else ()
            return News(steps=unanswered.steps) + News(escrows=changed, steps=gone.steps)
        case Fate.CHECK if after.current is not None:
            asked = replace(
                after,
                state=EscrowState.UNCERTAIN,
                since=now,
                verify_uuid=None,
                trouble=f"{cause.value}: whether it is still in force has to be asked",
                due_at=None,
            )
            return unanswered + News(escrows=(asked,))
        case _ if before.kind is TokenKind.BYPASS_DEVICE and cause in _MAKE_CODES:
            return unanswered + News(escrows=(replace(after, due_at=now + ENROLLS_WITHIN),))
        case _:
            return unanswered


def _retired(escrow: Escrow, cause: Cause, now: datetime) -> News:
    held = (record for record in (escrow.current, escrow.candidate) if record is not None)
    steps = tuple(
        TokenStep(record_id=record, state=TokenState.RETIRED, cause=cause.value) for record in held
    )
    empty = replace(
        escrow,
        state=EscrowState.SETTLED,
        since=now,
        current=None,
        digest=None,
        candidate=None,
        set_uuid=None,
        verify_uuid=None,
        trouble=None,
        due_at=None,
    )
    is_changed = replace(empty, since=escrow.since) != escrow
    return News(escrows=(empty,) if is_changed else (), steps=steps)
