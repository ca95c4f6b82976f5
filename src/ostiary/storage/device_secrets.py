"""Rows of a page of devices put together, the same on both databases."""

from collections.abc import Iterable, Sequence
from typing import Final

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import Escrow
from ostiary.domain.escrow_view import BY_POINTER
from ostiary.domain.facts import FactSheet
from ostiary.domain.token import RecordId, TokenRecord, TokenState
from ostiary.ports.fleet_secrets import DeviceSecrets

NO_HISTORY: Final = "('superseded', 'revoked', 'dead')"
"""Generations that say nothing of what is held, or why it is not."""
_HANDED_OVER: Final = ", ".join(f"'{kind}'" for kind in BY_POINTER)


def own(token: str) -> str:
    """The generations in `token` that are the own of the device in `e`, as `is_own` of the domain says it in SQL.

    Whoever contests a device could push all of its own out of sight otherwise.
    """
    others = f"{token}.state <> '{TokenState.CANDIDATE}' AND {token}.kind NOT IN ({_HANDED_OVER})"
    return f"({token}.relationship = e.key OR ({others}))"


def unread_pointers(
    devices: Iterable[Enrollment], escrows: Iterable[Escrow], records: Iterable[TokenRecord]
) -> list[RecordId]:
    """What these devices' pointers name, older than the generations that were read."""
    hanging = (one for row in devices for one in (row.unlock, row.bootstrap) if one is not None)
    named = {one.record_id for one in hanging}
    named |= {id_ for one in escrows for id_ in (one.current, one.candidate) if id_ is not None}
    return sorted(named - {one.id for one in records})


def put_together(
    devices: Sequence[Enrollment],
    escrows: Iterable[Escrow],
    records: Iterable[TokenRecord],
    sheets: Iterable[FactSheet],
) -> tuple[DeviceSecrets, ...]:
    """Each device with what is its own."""
    escrows_of: dict[str, list[Escrow]] = {}
    for escrow in sorted(escrows, key=lambda one: one.kind):
        escrows_of.setdefault(escrow.holder, []).append(escrow)
    records_of: dict[str, list[TokenRecord]] = {}
    for record in sorted(records, key=lambda one: (one.kind, one.generation)):
        records_of.setdefault(record.holder, []).append(record)
    sheets_of: dict[str, list[FactSheet]] = {}
    for sheet in sorted(sheets, key=lambda one: one.name):
        sheets_of.setdefault(sheet.enrollment_key, []).append(sheet)
    return tuple(
        DeviceSecrets(
            device=row,
            escrows=tuple(escrows_of.get(row.id, ())),
            records=tuple(records_of.get(row.id, ())),
            sheets=tuple(sheets_of.get(row.key, ())),
        )
        for row in devices
    )


def place_after(rows: Sequence[Enrollment], limit: int) -> str | None:
    """Where a list of enrollments goes on behind these; None if they are the last."""
    return f"{rows[-1].id}/{rows[-1].key}" if len(rows) == limit else None
