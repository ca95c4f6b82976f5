"""Which enrollment a person means who names it by its id or by the device's serial number."""

from typing import Final

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.operator import EnrollmentUnknown
from ostiary.domain.token import TenantId
from ostiary.errors import Conflicting
from ostiary.ports.reports import Reports
from ostiary.protocol.mdm.identity import EnrollmentId

_PAGE: Final = 1000
_MOST: Final = 100_000
"""Rows that are looked through for a serial number; nothing keeps them in that order."""


class SerialAmbiguous(Conflicting):
    """Several enrollments have this serial number."""

    hint = "Name one of them by its id."


async def find_enrollments(reports: Reports, tenant: TenantId, name: str) -> tuple[Enrollment, ...]:
    """Every relationship of the enrollment with this id; of the only one with this serial number, else.

    Raises:
        EnrollmentUnknown, SerialAmbiguous
    """
    if rows := await reports.find_enrollments(tenant, EnrollmentId(name)):
        return rows
    ids: set[EnrollmentId] = set()
    after, seen = None, 0
    while seen < _MOST:
        page = await reports.list_enrollments(tenant, state=None, limit=_PAGE, after=after)
        ids |= {row.id for row in page if _has_serial(row, name)}
        seen += len(page)
        if len(page) < _PAGE:
            break
        after = f"{page[-1].id}/{page[-1].key}"
    if not ids:
        raise EnrollmentUnknown(enrollment_id=name)
    if len(ids) > 1:
        raise SerialAmbiguous(serial=name, ids=", ".join(sorted(ids)[:10]))
    return await reports.find_enrollments(tenant, ids.pop())


def _has_serial(row: Enrollment, name: str) -> bool:
    return not row.is_user_channel and row.facts.serial_number == name
