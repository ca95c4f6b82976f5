"""Naming a device by its id or by what stands on it."""

from typing import Any, cast

import pytest

from ostiary.domain.enrollment import Enrollment, Standing, State
from ostiary.domain.operator import EnrollmentUnknown
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.ports.reports import Reports
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.services.finding import SerialAmbiguous, find_enrollments, find_ids


class Row:
    """As much of an enrollment as is looked at."""

    def __init__(
        self,
        name: str,
        serial: str | None,
        *,
        is_user_channel: bool = False,
        state: State = State.ENROLLED,
        standing: Standing = Standing.CURRENT,
    ) -> None:
        self.id = self.key = name
        self.state, self.standing = state, standing
        self.facts = DeviceFacts(serial_number=serial)
        self.is_user_channel = is_user_channel


class Listed:
    """Rows in pages, as a report gives them."""

    def __init__(self, *rows: Row) -> None:
        self._rows = sorted(rows, key=lambda row: row.id)
        self.pages = self.looked_up = 0

    async def find_enrollments(self, _tenant: Any, name: str) -> tuple[Enrollment, ...]:
        self.looked_up += 1
        return cast("tuple[Enrollment, ...]", tuple(row for row in self._rows if row.id == name))

    async def list_enrollments(
        self, _tenant: Any, *, state: str | None, limit: int, after: str | None
    ) -> tuple[Enrollment, ...]:
        assert state is None
        self.pages += 1
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


async def test_the_only_one_of_a_serial_number_that_is_enrolled_is_meant() -> None:
    """What a replaced logic board, a release or a lost contest left behind takes no commands."""
    left = [
        Row("A", "S", state=State.OUT),
        Row("B", "S", state=State.REVOKED),
        Row("C", "S", standing=Standing.ENDED),
    ]
    assert await find("S", *left, Row("D", "S")) == ["D"]
    assert await find("S", *left, Row("D", "S", state=State.PENDING)) == ["D"]
    with pytest.raises(SerialAmbiguous, match="A, B, C"):
        await find("S", *left)
    with pytest.raises(SerialAmbiguous, match="ids=D, E"):
        await find("S", *left, Row("D", "S"), Row("E", "S"))


async def test_many_names_take_one_look_through_the_fleet_and_udids_none() -> None:
    """An enqueue may name ten thousand."""
    udid = "00008110-001A2B3C4D5E6F70"
    fleet = Listed(Row("A", "S1"), Row("B", "S2"), Row("C", "S3"), Row("D", "S3"))
    names = ["A", "S2", "S1", "S3", "NOBODY", udid, f"{udid}:u"]
    found = await find_ids(cast("Reports", fleet), DEFAULT_TENANT, names)
    assert {name: one for name, one in found.items() if isinstance(one, str)} == {
        "A": "A",
        "S2": "B",
        "S1": "A",
        udid: udid,
        f"{udid}:u": f"{udid}:u",
    }
    assert isinstance(found["S3"], SerialAmbiguous)
    assert isinstance(found["NOBODY"], EnrollmentUnknown)
    assert (fleet.pages, fleet.looked_up) == (1, 5)
