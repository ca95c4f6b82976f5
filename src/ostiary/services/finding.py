"""Which enrollment a person means who names it by its id or by the device's serial number."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from ostiary.domain.enrollment import Enrollment, Standing, State
from ostiary.domain.operator import EnrollmentUnknown
from ostiary.domain.token import TenantId
from ostiary.errors import Conflicting, OstiaryError
from ostiary.ports.reports import Reports
from ostiary.protocol.mdm.identity import EnrollmentId

_PAGE: Final = 1000
_MOST: Final = 100_000
"""Rows that are looked through for serial numbers; nothing keeps them in that order."""
_TOLD: Final = 10
_UDID: Final = re.compile(
    r"([0-9a-f]{40}|[0-9a-f]{8}-[0-9a-f]{16}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})(:.*)?",
    re.IGNORECASE,
)
"""Names of this form are no serial numbers, and need not be looked up to tell."""


class SerialAmbiguous(Conflicting):
    """Several enrollments have this serial number."""

    hint = "Name one of them by its id; `ostiary device list` shows which is which."


async def find_enrollments(reports: Reports, tenant: TenantId, name: str) -> tuple[Enrollment, ...]:
    """Every relationship of the enrollment with this id; of the one with this serial number, else.

    Of several with one serial number, the only one that is enrolled is meant: a replaced logic board leaves the other
    behind, and nobody can do anything with that.

    Raises:
        EnrollmentUnknown, SerialAmbiguous
    """
    if rows := await reports.find_enrollments(tenant, EnrollmentId(name)):
        return rows
    meant = (await _by_serial(reports, tenant, {name}))[name]
    if isinstance(meant, OstiaryError):
        raise meant
    return await reports.find_enrollments(tenant, meant)


async def find_ids(
    reports: Reports, tenant: TenantId, names: Collection[str]
) -> dict[str, EnrollmentId | OstiaryError]:
    """Whom each name means, an id or a serial number; or why that cannot be said. One look through the fleet for all.

    What has the form of a UDID is taken as an id, whether there is such an enrollment or not.
    """
    found: dict[str, EnrollmentId | OstiaryError] = {}
    for name in names:
        is_id = _UDID.fullmatch(name) or await reports.find_enrollments(tenant, EnrollmentId(name))
        if is_id:
            found[name] = EnrollmentId(name)
    serials = {name for name in names if name not in found}
    if serials:
        found |= await _by_serial(reports, tenant, serials)
    return found


async def _by_serial(
    reports: Reports, tenant: TenantId, serials: Collection[str]
) -> Mapping[str, EnrollmentId | OstiaryError]:
    rows: dict[str, list[Enrollment]] = {serial: [] for serial in serials}
    after, seen = None, 0
    while seen < _MOST:
        page = await reports.list_enrollments(tenant, state=None, limit=_PAGE, after=after)
        for row in page:
            if not row.is_user_channel and row.facts.serial_number in rows:
                rows[row.facts.serial_number].append(row)
        seen += len(page)
        if len(page) < _PAGE:
            break
        after = f"{page[-1].id}/{page[-1].key}"
    return {serial: _meant(serial, found) for serial, found in rows.items()}


def _meant(serial: str, rows: Iterable[Enrollment]) -> EnrollmentId | OstiaryError:
    known = tuple(rows)
    ids = {row.id for row in known if _is_live(row)} or {row.id for row in known}
    if not ids:
        return EnrollmentUnknown(enrollment_id=serial)
    if len(ids) > 1:
        return SerialAmbiguous(serial=serial, ids=", ".join(sorted(ids)[:_TOLD]))
    return ids.pop()


def _is_live(row: Enrollment) -> bool:
    is_there = row.state.is_served or row.state is State.PENDING
    return is_there and row.standing is Standing.CURRENT
