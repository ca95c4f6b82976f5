"""Whom an operator's command means, whatever simulated devices say of themselves at the real door."""

import pytest

from e2e.fleet import Fleet
from ostiary.cli.failure import Failed
from ostiary_sim.device import Device

LOST = "C02LOST00001"


async def enroll_as(fleet: Fleet, udid: str, serial: str) -> Device:
    """A Mac that says it is somebody else."""
    rogue = fleet.new_device("mac", udid=udid, serial=serial)
    await rogue.enroll(await fleet.profile(rogue))
    await fleet.wake()
    return rogue


async def erasures(fleet: Fleet, udid: str) -> list[object]:
    return [one for one in await fleet.commands(udid) if one["request_type"] == "EraseDevice"]


async def test_a_device_that_says_a_victims_serial_number_as_its_udid_gets_none_of_its_commands(
    fleet: Fleet,
) -> None:
    """A UDID is what a device says. Both are told, and neither is erased or asked for its secrets."""
    victim = await fleet.enroll("mac")
    await enroll_as(fleet, udid=victim.serial, serial="OTHER123")
    answer = await fleet.enqueue(victim.serial, "erase-device")
    assert f"{victim.udid} [serial number {victim.serial}, " in answer["error"]
    assert f"{victim.serial} [serial number OTHER123, " in answer["error"]
    for udid in (victim.udid, f":{victim.serial}"):
        assert not await erasures(fleet, udid)
    with pytest.raises(Failed, match="go by this name"):
        await fleet.desk.ask(
            "POST", "/secrets/change", content={"id": victim.serial, "kind": "recovery-lock"}
        )
    with pytest.raises(Failed, match="go by this name"):
        await fleet.desk.ask("GET", "/tokens/history", params={"id": victim.serial})
    await fleet.desk.ask(
        "POST", "/device/release", content={"id": f":{victim.serial}", "reason": "a rogue"}
    )
    assert (await fleet.enrollment(victim.udid))["state"] == "enrolled"
    assert (await fleet.enqueue(victim.udid, "erase-device"))["error"] is None


@pytest.mark.parametrize("is_settled", [False, True])
async def test_the_serial_number_that_a_contest_says_does_not_name_the_true_device(
    fleet: Fleet, *, is_settled: bool
) -> None:
    """Whoever releases or erases the device that is lost would release or erase the true one. (3.8 rule 6)"""
    true = await fleet.enroll("mac")
    await enroll_as(fleet, udid=true.udid, serial=LOST)
    if is_settled:
        await fleet.desk.ask(
            "POST", "/device/keep-certificate", content={"id": true.udid, "reason": "not ours"}
        )
    answer = await fleet.enqueue(LOST, "erase-device")
    assert answer["error"] is not None
    with pytest.raises(Failed):
        await fleet.desk.ask("POST", "/device/release", content={"id": LOST, "reason": "sold"})
    await fleet.wake()
    await true.idle()
    assert true.enrolled
    assert (await fleet.enrollment(true.udid))["state"] == "enrolled"
    assert not await erasures(fleet, true.udid)
