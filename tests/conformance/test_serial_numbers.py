"""Whose a serial number is, on both databases: the devices in force that say it."""

from conformance.storage_twins import Database, store
from conformance.storage_values import device, udid, user
from ostiary.domain.enrollment import Standing, State
from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.protocol.mdm.checkin import DeviceFacts

ODD = 'a "b" \\ \ufdd0'
LONG = "S" * 100_000


def says(serial: str) -> DeviceFacts:
    return DeviceFacts(serial_number=serial)


async def find(database: Database, *serials: str) -> list[tuple[str, str | None]]:
    found = await database.reports.find_by_serial(DEFAULT_TENANT, serials)
    return sorted((row.id, row.facts.serial_number) for row in found)


async def test_devices_in_force_are_found_by_serial_number_and_nobody_else(
    database: Database,
) -> None:
    """Those that left are; a contested or ended relationship says what a stranger chose. (check-in-and-commands.md 3.8)"""
    rows = (
        device(1, facts=says("S1")),
        device(2, facts=says("S1"), state=State.OUT),
        device(3, facts=says("S3")),
        device(4, facts=says("S1"), standing=Standing.CONTESTED),
        device(5, facts=says("S1"), standing=Standing.ENDED),
        device(6, facts=says("S1"), tenant=TenantId("other")),
        device(7, facts=says("s1")),
        user(8, parent=1, facts=says("S1")),
    )
    await store(database, rows=rows)
    assert await find(database, "S1", "S3", "S1", "S9") == [
        (udid(1), "S1"),
        (udid(2), "S1"),
        (udid(3), "S3"),
    ]
    assert await find(database) == []


async def test_a_serial_number_may_be_odd_and_one_beyond_an_indexs_bounds_does_no_harm(
    database: Database,
) -> None:
    """A device says what it likes: it is enrolled, and goes by its id."""
    await store(database, rows=(device(1, facts=says(ODD)), device(2, facts=says(LONG))))
    assert await find(database, ODD, LONG) == [(udid(1), ODD)]
    (row,) = await database.reports.find_enrollments(DEFAULT_TENANT, udid(2))
    assert row.facts.serial_number == LONG


async def test_a_device_that_says_another_serial_number_is_found_by_that_one(
    database: Database,
) -> None:
    await store(database, rows=(device(1, facts=says("S1")),))
    await store(database, rows=(device(1, facts=says("S2"), version=1),))
    assert await find(database, "S1", "S2") == [(udid(1), "S2")]
