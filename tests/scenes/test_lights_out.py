"""Lights-out management: a Mac is switched by another one, and what failed is told by its line. (4.11)"""

from typing import Any

import pytest

from database_file import database
from ostiary.domain.destructive_cap import TooManyDestructive
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.formats import plist
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.protocol.mdm.lights_out import LightsOutSetupUnknown, Switch, SwitchedByHand
from ostiary.services.lights_out import LightsOutDesk, Switching
from scenes.house import MAC, OPERATOR, Device, House

ASK, SWITCH = "LOMSetupRequest", "LOMDeviceRequest"
TOLD = {
    "PrimaryIPv6AddressList": ["fe80::1"],
    "SecondaryIPv6AddressList": ["fe80::2"],
    "LOMProtocolVersion": 1,
}


async def switch(
    house: House, controller: Device, *targets: Device, confirmed: int | None = None
) -> None:
    """As `ostiary lights-out CONTROLLER reset TARGET=NAME…` asks."""
    desk = LightsOutDesk(house.storage.enrollments, house.desk, house.clock)
    names = {
        EnrollmentId(mac.id): f"mac-{number}.lom.example.org" for number, mac in enumerate(targets)
    }
    wish = Switching(
        controller=EnrollmentId(controller.id),
        switch=Switch.RESET,
        dns_name_by_target=names,
        confirmed=confirmed,
    )
    await desk.switch(wish, OPERATOR)


async def told_where_it_listens(house: House, mac: Device) -> None:
    await house.enqueue(mac.id, ASK)
    assert await mac.work_off(**{ASK: TOLD}) == [ASK]


async def handed_out(controller: Device) -> dict[str, Any]:
    command = await controller.report()
    assert command is not None
    assert command["Command"]["RequestType"] == SWITCH
    return command


@pytest.mark.case("LO-01")
async def test_a_mac_is_switched_only_after_it_told_where_it_listens(house: House) -> None:
    """4.11: setup data of the target before any device request; one that is missing stops all."""
    controller, known, unknown = [await house.enrolled(MAC) for _ in range(3)]
    await told_where_it_listens(house, known)
    with pytest.raises(LightsOutSetupUnknown):
        await switch(house, controller, known, unknown)
    assert await controller.report() is None
    await switch(house, controller, known)
    (request,) = (await handed_out(controller))["Command"]["RequestList"]
    assert request["PrimaryIPv6AddressList"] == ["fe80::1"]
    assert request["DeviceRequestType"] == "Reset"


@pytest.mark.case("LO-02")
async def test_one_that_failed_is_told_although_the_command_was_acknowledged(house: House) -> None:
    """4.11: one Acknowledged may contain failed items: judge each list item."""
    controller, *targets = [await house.enrolled(MAC) for _ in range(3)]
    for mac in targets:
        await told_where_it_listens(house, mac)
    await switch(house, controller, *targets)
    command = await handed_out(controller)
    done, failed = [one["DeviceRequestUUID"] for one in command["Command"]["RequestList"]]
    answers = [
        {"DeviceRequestUUID": done, "DeviceRequestSuccess": True},
        {
            "DeviceRequestUUID": failed,
            "DeviceRequestSuccess": False,
            "DeviceRequestReturnError": "no route",
        },
    ]
    await controller.report("Acknowledged", command["CommandUUID"], ResponseList=answers)
    assert (SWITCH, "done") in await house.queue(controller.id)
    (told,) = [
        line.alert
        for line in await house.storage.reports.list_alerts(DEFAULT_TENANT, limit=50)
        if line.alert.kind == "lights-out-failed"
    ]
    assert told.subject == controller.id
    assert f"{failed} (no route)" in told.sentence
    assert done not in told.sentence


async def test_nothing_is_told_where_all_were_switched(house: House) -> None:
    controller, mac = await house.enrolled(MAC), await house.enrolled(MAC)
    await told_where_it_listens(house, mac)
    await switch(house, controller, mac)
    command = await handed_out(controller)
    answers = [
        {"DeviceRequestUUID": one["DeviceRequestUUID"], "DeviceRequestSuccess": True}
        for one in command["Command"]["RequestList"]
    ]
    await controller.report("Acknowledged", command["CommandUUID"], ResponseList=answers)
    assert "lights-out-failed" not in await house.alerts()


async def test_the_cap_counts_each_mac_that_is_switched(house: House) -> None:
    """One command to one controller may put a whole hall out: its targets count, within the hour too."""
    house.set_policy(most_destructive_an_hour=3)
    controller, *targets = [await house.enrolled(MAC) for _ in range(5)]
    for mac in targets:
        await told_where_it_listens(house, mac)
    with pytest.raises(TooManyDestructive, match="devices=4"):
        await switch(house, controller, *targets)
    assert await controller.report() is None
    await switch(house, controller, *targets[:2])
    with pytest.raises(TooManyDestructive, match="devices=2, queued_within_the_hour=2"):
        await switch(house, controller, *targets[2:])
    await house.enqueue(targets[0].id, "DeviceLock")
    with pytest.raises(TooManyDestructive, match="queued_within_the_hour=3"):
        await house.enqueue(targets[1].id, "DeviceLock")
    await switch(house, controller, *targets, confirmed=4)


async def test_every_mac_that_is_switched_stands_in_the_audit(house: House) -> None:
    controller, mac = await house.enrolled(MAC), await house.enrolled(MAC)
    await told_where_it_listens(house, mac)
    await switch(house, controller, mac)
    with database(house.path) as connection:
        found = connection.execute("SELECT actor, subject FROM audit WHERE verb = 'lights-out'")
        assert found.fetchall() == [("operator", mac.id)]


@pytest.mark.case("LO-01")
async def test_a_property_list_switches_nobody(house: House) -> None:
    """4.11: where a Mac listens is what it told, not what somebody wrote; a dry run says so as well."""
    controller = await house.enrolled(MAC)
    request = {"DeviceRequestType": "PowerOFF", "DeviceDNSName": "mac.example", **TOLD}
    command = {"RequestType": SWITCH, "RequestList": [request] * 500}
    ids = [EnrollmentId(controller.id)]
    body = plist.encode({"Command": command})
    with pytest.raises(SwitchedByHand, match="property list"):
        await house.desk.enqueue_raw(ids, body, OPERATOR, pushes=True)
    assert isinstance((await house.desk.rehearse(ids, command, OPERATOR)).refused, SwitchedByHand)
    assert await controller.report() is None
