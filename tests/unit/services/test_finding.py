"""Naming a device by its id or by what stands on it."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from ostiary.domain.enrollment import Enrollment, Proof, Standing, State
from ostiary.domain.operator import EnrollmentUnknown
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.ports.reports import Reports
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.services.finding import SerialAmbiguous, find_enrollments, find_ids

UDID = "00008110-001A2B3C4D5E6F70"


class Row:
    """As much of an enrollment as is looked at."""

    created_at = datetime(2026, 1, 2, tzinfo=UTC)

    def __init__(
        self,
        name: str,
        serial: str | None,
        *,
        state: State = State.ENROLLED,
        standing: Standing = Standing.CURRENT,
        proof: Proof = Proof.FIRST_USE,
    ) -> None:
        self.id = self.key = name
        self.state, self.standing, self.proof = state, standing, proof
        self.facts = DeviceFacts(serial_number=serial)


class Listed:
    """Rows as a report gives them."""

    def __init__(self, *rows: Row) -> None:
        self._rows = rows
        self.by_serial = self.looked_up = 0

    async def find_enrollments(self, _tenant: Any, name: str) -> tuple[Enrollment, ...]:
        self.looked_up += 1
        return cast("tuple[Enrollment, ...]", tuple(row for row in self._rows if row.id == name))

    async def find_by_serial(
        self, _tenant: Any, serials: Collection[str]
    ) -> tuple[Enrollment, ...]:
        self.by_serial += 1
        rows = [row for row in self._rows if row.standing is Standing.CURRENT]
        found = tuple(row for row in rows if row.facts.serial_number in serials)
        return cast("tuple[Enrollment, ...]", found)


async def find(name: str, *rows: Row) -> list[str]:
    found = await find_enrollments(cast("Reports", Listed(*rows)), DEFAULT_TENANT, name)
    return [row.id for row in found]


async def test_an_id_that_is_another_devices_serial_number_means_neither_and_both_are_told() -> (
    None
):
    """A device says what its UDID is: whoever says the victim's serial number would get its commands."""
    rogue, victim = Row("A", "S"), Row("B", "A", state=State.OUT)
    with pytest.raises(SerialAmbiguous) as caught:
        await find("A", rogue, victim)
    assert "B [serial number A, " in str(caught.value)
    assert "A [serial number S, " in str(caught.value)
    assert await find("A", Row("A", "A")) == ["A"]


async def test_behind_a_colon_stands_an_id_whatever_serial_numbers_are_like_it() -> None:
    """Else a device that says another's serial number as its UDID, and as its serial number, had no name."""
    rows = (Row("A", "A"), Row("B", "A"))
    assert await find(":A", *rows) == ["A"]
    assert await find(":B", *rows) == ["B"]
    with pytest.raises(EnrollmentUnknown, match="enrollment_id=S"):
        await find(":S", Row("A", "S"))


async def test_a_serial_number_that_has_the_form_of_a_udid_names_nobody() -> None:
    """Else a device could say another's UDID, before that enrolls or after it is gone."""
    with pytest.raises(EnrollmentUnknown):
        await find(UDID, Row("A", UDID))


async def test_two_devices_of_one_serial_number_are_not_guessed_between() -> None:
    """A replaced logic board gives a device a second id."""
    with pytest.raises(SerialAmbiguous, match=r"name=S, ids=A \[.*; B \["):
        await find("S", Row("A", "S"), Row("B", "S"))


async def test_what_nobody_is_called_is_unknown() -> None:
    """As with an id."""
    with pytest.raises(EnrollmentUnknown):
        await find("S", Row("A", None))


@pytest.mark.parametrize("standing", [Standing.CONTESTED, Standing.ENDED])
async def test_a_serial_number_that_only_a_contest_said_names_nobody(standing: Standing) -> None:
    """A stranger chose it; the id beside it is the true device's, and that would be erased."""
    true, stranger = Row("A", "S"), Row("A", "LOST", standing=standing)
    assert await find("S", true, stranger) == ["A", "A"]
    with pytest.raises(EnrollmentUnknown):
        await find("LOST", true, stranger)


@pytest.mark.parametrize("proof", [Proof.PROVEN, Proof.ACCEPTED])
async def test_of_a_serial_number_the_only_one_enrolled_is_meant_if_it_was_invited_or_vouched_for(
    proof: Proof,
) -> None:
    """What a replaced logic board or a release left behind takes no commands."""
    left = [
        Row("A", "S", state=State.OUT),
        Row("B", "S", state=State.REVOKED),
        Row("C", "S", standing=Standing.ENDED),
    ]
    assert await find("S", *left, Row("D", "S", proof=proof)) == ["D"]
    assert await find("S", *left, Row("D", "S", state=State.PENDING, proof=proof)) == ["D"]
    with pytest.raises(SerialAmbiguous, match=r"ids=A \[.*; B \["):
        await find("S", *left)
    with pytest.raises(SerialAmbiguous, match=r"ids=D \[.*; E \["):
        await find("S", *left, Row("D", "S", proof=proof), Row("E", "S", proof=proof))


@pytest.mark.parametrize("proof", [Proof.FIRST_USE, Proof.IMPORTED])
async def test_whoever_says_the_serial_number_of_a_checked_out_device_is_not_meant_by_it(
    proof: Proof,
) -> None:
    """Nothing but its own word says so."""
    gone, claims = Row("Y", "S", state=State.OUT), Row("X", "S", proof=proof)
    with pytest.raises(SerialAmbiguous, match=r"ids=X \[.*enrolled, .*; Y \[.*out, "):
        await find("S", gone, claims)
    assert await find("S", gone) == ["Y"]


async def test_many_names_take_one_lookup_of_serial_numbers_and_udids_none() -> None:
    """An enqueue may name ten thousand."""
    fleet = Listed(Row("A", "S1"), Row("B", "S2"), Row("C", "S3"), Row("D", "S3"))
    names = ["A", "S2", "S1", "S3", "NOBODY", UDID, f"{UDID}:u", ":B"]
    found = await find_ids(cast("Reports", fleet), DEFAULT_TENANT, names)
    assert {name: one for name, one in found.items() if isinstance(one, str)} == {
        "A": "A",
        "S2": "B",
        "S1": "A",
        UDID: UDID,
        f"{UDID}:u": f"{UDID}:u",
        ":B": "B",
    }
    assert isinstance(found["S3"], SerialAmbiguous)
    assert isinstance(found["NOBODY"], EnrollmentUnknown)
    assert (fleet.by_serial, fleet.looked_up) == (1, 5)
    await find_ids(cast("Reports", fleet), DEFAULT_TENANT, [UDID])
    assert (fleet.by_serial, fleet.looked_up) == (1, 5)
