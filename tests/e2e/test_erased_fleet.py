"""Devices erased and back again, and Macs with an administrator account: played by simulated devices over real TLS."""

from dataclasses import replace
from typing import Any

import pytest

from e2e.fleet import Fleet
from ostiary_sim.device import Device
from ostiary_sim.personality import PERSONALITIES


async def _reveal(fleet: Fleet, device: Device, kind: str) -> str:
    ask: dict[str, Any] = {"id": device.udid, "kind": kind, "reason": "a scene"}
    revealed = await fleet.desk.ask("POST", "/secrets/reveal", content=ask)
    return str(revealed["values"][0]["value"])


@pytest.mark.case("ER-05")
async def test_an_erased_iphone_comes_back_with_the_profile_that_was_made_for_it(
    fleet: Fleet,
) -> None:
    """escrowed-secrets.md 4.7 rule 7: queued for two days, and its credential still enrolls the device, as proven."""
    phone = await fleet.enroll("iphone")
    old = phone.installed.identity.fingerprint
    ask = {"return_to_service": True, "push": False}
    queued = await fleet.enqueue(phone.udid, "erase-device", **ask)
    assert queued["error"] is None
    fleet.clock.advance(days=2)
    await phone.idle()
    assert [event.what for event in fleet.events if event.what == "returned_to_service"]
    assert phone.installed.identity.fingerprint != old
    row = await fleet.enrollment(phone.udid)
    assert (row["state"], row["proof"], row["erase"]) == (
        "enrolled",
        "proven",
        "enrolled anew since",
    )
    unlock = await fleet.tokens(phone.udid, "unlock")
    assert [one["state"] for one in unlock] == ["retired", "unproven"]


@pytest.mark.case("CI-39", "ER-07")
async def test_a_phone_that_wants_to_return_keeps_its_apps(fleet: Fleet) -> None:
    """check-in-and-commands.md 1.3.8: it is given its token and comes back by itself; so it is when an operator erases it."""
    kind = replace(PERSONALITIES["iphone"], os_version="26.1", supervised=True, automated=True)
    phone = fleet.new_device(kind)
    phone.return_to_service.mode = True
    ask = {"valid_seconds": 86400, "uses": 3, "serial": phone.serial}
    phone.return_to_service.enroll_url = (
        await fleet.desk.ask("POST", "/invitations", content=ask)
    )["url"]
    await phone.enroll(await phone.fetch_profile(phone.return_to_service.enroll_url))
    await fleet.wake()
    phone.return_to_service.apps = {"com.example.app"}
    assert await phone.return_to_service.request()
    assert phone.return_to_service.apps == {"com.example.app"}
    assert (await fleet.enrollment(phone.udid))["proof"] == "proven"
    fleet.clock.advance(hours=1)
    await fleet.wake()
    ask = {"return_to_service": True, "keep_apps": True}
    queued = await fleet.enqueue(phone.udid, "erase-device", **ask)
    assert queued["error"] is None
    await phone.idle()
    assert phone.return_to_service.apps == {"com.example.app"}
    details = [one.detail for one in fleet.events if one.what == "returned_to_service"]
    assert details == ["with its apps", "with its apps"]


@pytest.mark.case("ER-01")
async def test_a_mac_that_said_error_may_have_been_erased(fleet: Fleet) -> None:
    """4.7 consequence 1: with Default it says Error and erases itself; nothing of what is held is let go."""
    mac = await fleet.enroll("mac")
    mac.levers.eacs_preflight = "unknown failure"
    queued = await fleet.enqueue(mac.udid, "erase-device")
    await fleet.wake()
    states = {one["uuid"]: one["state"] for one in await fleet.commands(mac.udid)}
    assert states[queued["uuid"]] == "failed"
    fleet.clock.advance(days=1)
    assert (await fleet.enrollment(mac.udid))["erase"] == "may have been erased"
    (held,) = await fleet.tokens(mac.udid, "bootstrap")
    assert held["state"] not in ("retired", "superseded")


@pytest.mark.case("ER-02")
async def test_a_mac_that_did_not_erase_itself_is_told_as_such(fleet: Fleet) -> None:
    """4.7 consequence 1: it said Error, erased nothing, and goes on; its secrets are in force."""
    mac = await fleet.enroll("mac")
    mac.levers.eacs_preflight = "unknown failure"
    await fleet.enqueue(mac.udid, "erase-device", obliteration="DoNotObliterate")
    await fleet.wake()
    assert (await fleet.enrollment(mac.udid))["erase"] == "may have been erased"
    fleet.clock.advance(hours=1)
    await fleet.enqueue(mac.udid, "security-info")
    await fleet.wake()
    await mac.change_push_token()
    row = await fleet.enrollment(mac.udid)
    assert row["erase"] == "not erased: it went on polling with the old identity"
    assert (await mac.get_bootstrap_token()).token == mac.bootstrap.token


async def test_a_mac_in_setup_assistant_has_an_account_whose_password_we_know(
    fleet: Fleet,
) -> None:
    """4.8: made before the Mac was let go, revealed, and rotated; at each moment the Mac takes what we tell."""
    await fleet.desk.ask("POST", "/policies", content={"name": "admin_account", "value": "admin"})
    mac = fleet.new_device("mac")
    mac.awaits_when_enrolled = True
    await mac.enroll(await fleet.profile(mac))
    await fleet.wake()
    assert not mac.awaiting
    first = await _reveal(fleet, mac, "admin-password")
    assert mac.auto_admin.is_password(first)
    change = {"id": mac.udid, "kind": "admin-password"}
    answer = await fleet.desk.ask("POST", "/secrets/change", content=change)
    for _ in range(2):
        await fleet.wake()
        await fleet.house.escrow_watch.tend()
    await fleet.wake()
    second = await _reveal(fleet, mac, "admin-password")
    assert second != first, answer
    assert mac.auto_admin.is_password(second)


async def test_a_dry_run_over_the_command_line_s_door_erases_nobody(fleet: Fleet) -> None:
    """Issue 4, item 6: who is meant, and that nothing was queued."""
    phone = await fleet.enroll("iphone")
    ask = {"ids": [phone.udid, "NOBODY"], "command": "erase-device", "dry_run": True}
    tried = await fleet.desk.ask("POST", "/commands", content=ask)
    found, nobody = tried["results"]
    assert (found["serial"], found["would_be_queued"]) == (phone.serial, True)
    assert (nobody["serial"], nobody["would_be_queued"]) == (None, False)
    assert "EraseDevice" not in {one["request_type"] for one in await fleet.commands(phone.udid)}
