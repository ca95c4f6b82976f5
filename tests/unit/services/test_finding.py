"""Naming a device by its id or by what stands on it."""

from typing import Any, cast

import pytest

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.operator import EnrollmentUnknown
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.ports.reports import Reports
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.services.finding import SerialAmbiguous, find_enrollments


class Row:
    """As much of an enrollment as is looked at."""

    def __init__(self, name: str, serial: str | None, *, is_user_channel: bool = False) -> None:
        self.id = self.key = name
        self.facts = DeviceFacts(serial_number=serial)
        self.is_user_channel = is_user_channel


class Listed:
    """Rows in pages, as a report gives them."""

    def __init__(self, *rows: Row) -> None:
        self._rows = sorted(rows, key=lambda row: row.id)

    async def find_enrollments(self, _tenant: Any, name: str) -> tuple[Enrollment, ...]:
        return cast("tuple[Enrollment, ...]", tuple(row for row in self._rows if row.id == name))

    async def list_enrollments(
        self, _tenant: Any, *, state: str | None, limit: int, after: str | None
    ) -> tuple[Enrollment, ...]:
        assert state is None
        last = (after or "").partition("/")[0]
        rest = [row for row in self._rows if row.id > last]
        return cast("tuple[Enrollment, ...]", tuple(rest[:limit]))


async def find(name: str, *rows: Row) -> list[str]:
    found = await find_enrollments(cast("Reports", Listed(*rows)), DEFAULT_TENANT, name)
    return [row.id for row in found]


async def test_an_id_wins_over_a_serial_number() -> None:
    """An id is what everything else takes."""
    assert await find("A", Row("A", "S"), Row("B", "A")) == ["A"]


async def test_a_serial_number_is_found_beyond_the_first_page() -> None:
    """A fleet has more rows than a page; users' rows name no device."""
    many = [Row(f"A{number:04}", None) for number in range(2500)]
    assert await find("S", *many, Row("B", "S"), Row("B:u", "S", is_user_channel=True)) == ["B"]


async def test_two_devices_of_one_serial_number_are_not_guessed_between() -> None:
    """A replaced logic board gives a device a second id."""
    with pytest.raises(SerialAmbiguous, match="A, B"):
        await find("S", Row("A", "S"), Row("B", "S"))


async def test_what_nobody_is_called_is_unknown() -> None:
    """As with an id."""
    with pytest.raises(EnrollmentUnknown):
        await find("S", Row("A", None))
