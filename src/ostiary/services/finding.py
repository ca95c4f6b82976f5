"""Which enrollment a person means who names it by its id or by the device's serial number."""

import re
from collections.abc import Collection, Iterable
from typing import Final

from ostiary.domain.enrollment import Enrollment, Proof, State
from ostiary.domain.operator import EnrollmentUnknown
from ostiary.domain.token import TenantId
from ostiary.errors import Conflicting, OstiaryError
from ostiary.ports.reports import Reports
from ostiary.protocol.mdm.identity import EnrollmentId

_TOLD: Final = 10
_LONGEST_TOLD: Final = 64
_ID_ALONE: Final = ":"
"""No id begins with it: what stands behind it is taken as an id."""
_UDID: Final = re.compile(
    r"([0-9a-f]{40}|[0-9a-f]{8}-[0-9a-f]{16}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})(:.*)?",
    re.IGNORECASE,
)
"""Names of this form are no serial numbers, and need not be looked up to tell."""


class SerialAmbiguous(Conflicting):
    """Several enrollments go by this name, as their serial number or as their id, so nothing is done."""

    hint = (
        "Name the one you mean by its id with a colon before it (:ID), which is never taken as a serial number; "
        "`ostiary device show :ID` tells all that is known of one."
    )


async def find_enrollments(reports: Reports, tenant: TenantId, name: str) -> tuple[Enrollment, ...]:
    """Every relationship of the enrollment that `find_ids` finds under this name.

    Raises:
        EnrollmentUnknown, SerialAmbiguous
    """
    meant = (await find_ids(reports, tenant, (name,)))[name]
    if isinstance(meant, OstiaryError):
        raise meant
    if rows := await reports.find_enrollments(tenant, meant):
        return rows
    raise EnrollmentUnknown(enrollment_id=meant)


async def find_ids(
    reports: Reports, tenant: TenantId, names: Collection[str]
) -> dict[str, EnrollmentId | OstiaryError]:
    """Whom each name means, an id or a serial number; or why that cannot be said. One lookup of serial numbers for all.

    Both are what a device says of itself, so no name is guessed: where an id is another device's serial number, or
    two devices say one serial number, nobody is meant. What has the form of a UDID, or stands behind a colon, is
    taken as an id, whether there is such an enrollment or not.
    """
    found: dict[str, EnrollmentId | OstiaryError] = {}
    for name in names:
        if _UDID.fullmatch(name) or name.startswith(_ID_ALONE):
            found[name] = EnrollmentId(name.removeprefix(_ID_ALONE))
    others = dict.fromkeys(name for name in names if name not in found)
    claims = await reports.find_by_serial(tenant, others) if others else ()
    by_serial: dict[str | None, list[Enrollment]] = {}
    for row in claims:
        by_serial.setdefault(row.facts.serial_number, []).append(row)
    for name in others:
        of_id = await reports.find_enrollments(tenant, EnrollmentId(name))
        found[name] = _meant(name, of_id[:1], by_serial.get(name, ()))
    return found


def nobody(name: str) -> EnrollmentId:
    """An id that no enrollment has, for a name that means nobody: a target that is counted, and refused as unknown.

    The name itself may be the id of somebody that is not surely meant.
    """
    return EnrollmentId(f"{_ID_ALONE}{name}")


def _meant(
    name: str, of_id: Iterable[Enrollment], of_serial: Iterable[Enrollment]
) -> EnrollmentId | OstiaryError:
    """The one of all who go by this name; of several with one serial number, the one that shall have it.

    A replaced logic board, or a device that was enrolled anew, leaves a relationship behind that takes no commands.
    That the serial number is the other's now is believed where the certificate was made for it, or an operator
    vouched for it; else whoever says a checked-out device's serial number would be erased, or read, in its stead.
    """
    named = {row.id: row for row in of_id}
    rows = named | {row.id: row for row in of_serial}
    if len(rows) == 1:
        return next(iter(rows))
    if not rows:
        return EnrollmentUnknown(enrollment_id=name)
    live = [row for row in rows.values() if _is_live(row)]
    if not named and len(live) == 1 and live[0].proof in (Proof.PROVEN, Proof.ACCEPTED):
        return live[0].id
    told = sorted(rows.values(), key=lambda row: (not _is_live(row), row.id))
    return SerialAmbiguous(name=name, ids="; ".join(map(_told, told[:_TOLD])))


def _told(row: Enrollment) -> str:
    """The enrollment's id, and what tells it from the others."""
    facts = row.facts
    model = (facts.product_name or facts.model or "no model said")[:_LONGEST_TOLD]
    serial = (facts.serial_number or "none said")[:_LONGEST_TOLD]
    since = row.created_at.date().isoformat()
    return f"{row.id} [serial number {serial}, {model}, {row.state}, {row.proof}, since {since}]"


def _is_live(row: Enrollment) -> bool:
    return row.state.is_served or row.state is State.PENDING
