"""Identities renewed by policy, on simulated devices: canaries, waves, roll-back, and those that came too late."""

from typing import Any

import pytest

from e2e.fleet import Fleet, Row
from ostiary_sim.device import Device

ALMOST_A_THIRD_LEFT = 500
"""Days after which every certificate of two years is due, wherever its place within the spread."""


async def identities(fleet: Fleet) -> list[Row]:
    found = await fleet.desk.ask("GET", "/identities")
    items: list[Row] = found["items"]
    return items


async def identity(fleet: Fleet, device: Device) -> Row:
    """The certificate of a device that ends first."""
    return next(one for one in await identities(fleet) if one["id"] == device.udid)


async def set_policy(fleet: Fleet, **values: Any) -> None:
    for name, value in values.items():
        await fleet.desk.ask("POST", "/policies", content={"name": name, "value": str(value)})


async def next_round(fleet: Fleet, **later: float) -> int:
    """Let time pass, run a round, and let the devices act upon their pushes; how many were asked."""
    fleet.clock.advance(**later)
    done = await fleet.house.renewals.run_round()
    await fleet.wake()
    return done.asked


def renewed(devices: dict[str, Device]) -> set[str]:
    """The former fingerprints of those that have another identity now."""
    return {old for old, device in devices.items() if device.installed.identity.fingerprint != old}


async def enrolled(fleet: Fleet, *personalities: str) -> dict[str, Device]:
    """Devices by the fingerprint they enrolled with."""
    devices = [await fleet.enroll(one) for one in personalities]
    return {device.installed.identity.fingerprint: device for device in devices}


async def fail_to_renew(fleet: Fleet, device: Device) -> None:
    """Let a device get a new certificate, lose the server before its TokenUpdate, and go back."""
    fleet.disk.fails_at = "authenticated"
    await fleet.wake()
    fleet.disk.repair()
    assert "profile_rolled_back" in {event.what for event in fleet.events}
    await device.idle()


async def test_one_device_renews_first_and_the_others_follow(fleet: Fleet) -> None:
    """6.1, users.md complaint 9: a canary, then the wave; each keeps what it had."""
    devices = await enrolled(fleet, "iphone", "mac", "ipad")
    assert await next_round(fleet) == 0
    assert {one["renewal"] for one in await identities(fleet)} == {"scheduled"}
    fleet.clock.advance(days=ALMOST_A_THIRD_LEFT)
    assert await next_round(fleet) == 0, "the clock jumped: nothing is begun for a day"
    assert await next_round(fleet, days=1, minutes=1) == 1
    assert len(renewed(devices)) == 1
    assert await next_round(fleet, hours=1) == 2
    assert renewed(devices) == set(devices)
    assert await next_round(fleet, hours=1) == 0
    lines = await identities(fleet)
    assert {one["life_left"] for one in lines} == {99}
    assert not {one["fingerprint"] for one in lines} & set(devices)
    for device in devices.values():
        assert (await fleet.enrollment(device.udid))["state"] == "enrolled"


async def test_who_would_go_is_told_and_nobody_is_asked(fleet: Fleet) -> None:
    devices = await enrolled(fleet, "iphone", "ipad")
    nobody = await fleet.desk.ask("GET", "/identities/due")
    assert (nobody["items"], nobody["gate"]) == ([], "unproven")
    ahead = await fleet.desk.ask("GET", "/identities/due", params={"within_seconds": 500 * 86400})
    assert [one["renewal"] for one in ahead["items"]] == ["scheduled"] * 2
    fleet.clock.advance(days=ALMOST_A_THIRD_LEFT)
    due = await fleet.desk.ask("GET", "/identities/due")
    assert {one["id"] for one in due["items"]} == {device.udid for device in devices.values()}
    assert {one["renewal"] for one in due["items"]} == {"due"}
    await fleet.wake()
    assert renewed(devices) == set()
    done = await fleet.desk.ask("POST", "/identities/renew-due", content={})
    assert done["asked"] == 1


async def test_while_a_canary_fails_nobody_else_is_asked(fleet: Fleet) -> None:
    """Whatever breaks renewing is met on one device; it is tried again, and then the others follow."""
    devices = await enrolled(fleet, "iphone", "ipad", "mac")
    first = next(iter(devices.values()))
    await set_policy(fleet, renewal_canaries=first.udid)
    fleet.clock.advance(days=ALMOST_A_THIRD_LEFT)
    assert (await fleet.house.renewals.run_round()).asked == 1
    await fail_to_renew(fleet, first)
    assert await next_round(fleet, hours=1) == 0
    line = await identity(fleet, first)
    assert (line["renewal"], line["attempts"], line["canary"]) == ("failed", 1, True)
    assert "went back to its earlier identity" in line["outcome"]
    health = await fleet.desk.ask("GET", "/health")
    told = " ".join(finding["subject"] for finding in health)
    assert "alert identity-renewals-stopped" in told
    assert f"alert identity-renewal-failed, {first.udid}" in told
    assert await next_round(fleet, hours=1) == 0
    assert renewed(devices) == set()
    assert await next_round(fleet, hours=4) == 1, "the canary alone, after its back-off"
    assert len(renewed(devices)) == 1
    assert await next_round(fleet, hours=1) == 2
    assert renewed(devices) == set(devices)


@pytest.mark.case("CI-44")
async def test_a_renewal_that_fails_on_the_device_leaves_it_as_it_was(fleet: Fleet) -> None:
    """2.4 row 8: the old certificate speaks again, and is served as before; both stay bound."""
    devices = await enrolled(fleet, "mac")
    ((old, mac),) = devices.items()
    assert (await fleet.renew(mac))["error"] is None
    await fail_to_renew(fleet, mac)
    assert mac.installed.identity.fingerprint == old
    assert (await fleet.enrollment(mac.udid))["state"] == "enrolled"
    assert (await mac.get_bootstrap_token()).token == mac.bootstrap.token
    assert len(await identities(fleet)) == 2
    fleet.clock.advance(days=1)
    assert (await fleet.renew(mac))["error"] is None
    await fleet.wake()
    assert renewed(devices) == {old}
    assert len(await identities(fleet)) == 1, "the new one has taken the place of both"


@pytest.mark.case("CI-41")
async def test_a_new_certificate_without_the_credential_is_no_renewal(fleet: Fleet) -> None:
    """A renewal waits, and the Mac enrolls by an invitation instead: its old bootstrap token is not its. (2.3 rule 3)"""
    mac = await fleet.enroll("mac")
    assert mac.bootstrap.escrowed
    await fleet.renew(mac)
    profile = await fleet.profile(mac)
    await mac.replace_profile(profile)
    assert not (await mac.get_bootstrap_token()).token


@pytest.mark.case("CI-42")
async def test_a_mac_that_was_erased_while_its_renewal_waited_is_a_new_one(fleet: Fleet) -> None:
    """2.3 rule 2: it waits in Setup Assistant, so nothing of before is its own; and it is let go."""
    mac = await fleet.enroll("mac")
    mac.say_not_now(["InstallProfile"])
    await fleet.renew(mac)
    await fleet.wake()
    mac.ready()
    await mac.erase()
    mac.awaits_when_enrolled = True
    ask = {"valid_seconds": 3600, "uses": 1, "serial": mac.serial}
    invitation = await fleet.desk.ask("POST", "/invitations", content=ask)
    await mac.enroll(await mac.fetch_profile(invitation["url"]))
    assert not (await mac.get_bootstrap_token()).token
    await fleet.wake()
    states = {each["request_type"]: each["state"] for each in await fleet.commands(mac.udid)}
    assert states["InstallProfile"] == "cancelled"
    assert states["DeviceConfigured"] == "done"
    assert not mac.awaiting


@pytest.mark.case("CI-43")
async def test_a_certificate_of_ours_does_not_read_another_mac_s_bootstrap_token(
    fleet: Fleet,
) -> None:
    """Whoever was invited once and claims a Mac's UDID gets nothing of it, renewal or not. (2.3, security reason)"""
    mac = await fleet.enroll("mac")
    await fleet.renew(mac)
    thief = fleet.new_device("mac")
    thief.udid = mac.udid
    await thief.enroll(await fleet.profile(thief))
    assert not (await thief.get_bootstrap_token()).token
    assert not [
        one for one in (await thief.idle()).executed if one.request_type == "InstallProfile"
    ]
    assert (await mac.get_bootstrap_token()).token == mac.bootstrap.token


async def test_a_device_is_asked_once_at_a_time(fleet: Fleet) -> None:
    mac = await fleet.enroll("mac")
    mac.say_not_now(["InstallProfile"])
    assert (await fleet.renew(mac))["error"] is None
    await fleet.wake()
    again = await fleet.renew(mac)
    assert (again["uuid"], again["family"]) == (None, "Conflicting")
    waiting = [one for one in await fleet.commands(mac.udid) if one["closed"] is None]
    assert [one["request_type"] for one in waiting] == ["InstallProfile"]


async def test_a_device_that_puts_its_renewal_off_for_days_is_asked_anew(fleet: Fleet) -> None:
    """The credential in the profile lives for fourteen days: what waits longer is taken back. (6.3 rule 1)"""
    devices = await enrolled(fleet, "ipad")
    ((old, ipad),) = devices.items()
    await set_policy(fleet, renewal_canary_share=0)
    fleet.clock.advance(days=ALMOST_A_THIRD_LEFT)
    ipad.say_not_now(["InstallProfile"])
    assert await next_round(fleet) == 1
    for _ in range(3):
        assert await next_round(fleet, days=5) == 0
    assert (await identity(fleet, ipad))["renewal"] == "failed"
    ipad.ready()
    assert await next_round(fleet, hours=5) == 1
    assert renewed(devices) == {old}


async def test_an_identity_that_has_ended_fetches_its_renewal_and_nothing_else(
    fleet: Fleet,
) -> None:
    """Expired, but reachable: within the grace the device is healed at its next poll; never a 401. (3.8 step 7)"""
    devices = await enrolled(fleet, "mac")
    ((old, mac),) = devices.items()
    await fleet.enqueue(mac.udid, "device-information", push=False)
    fleet.clock.advance(days=740)
    assert (await identity(fleet, mac))["life_left"] < 0
    assert not (await mac.get_bootstrap_token()).token
    assert (await mac.check_out()).status == 400
    assert (await mac.change_push_token()).status == 200, "it may come only once"
    session = await mac.idle()
    assert session.executed[0].request_type == "InstallProfile"
    assert renewed(devices) == {old}
    assert {one["state"] for one in await fleet.commands(mac.udid)} == {"done"}
    assert (await fleet.enrollment(mac.udid))["state"] == "enrolled"
    assert (await mac.get_bootstrap_token()).token == mac.bootstrap.token


async def test_a_result_that_was_kept_is_taken_from_an_identity_that_has_ended(
    fleet: Fleet,
) -> None:
    """3.4 rule 4: a device repeats its last result until it sees 2xx; refused, it would never ask for its renewal."""
    devices = await enrolled(fleet, "ipad")
    ((old, ipad),) = devices.items()
    queued = await fleet.enqueue(ipad.udid, "device-information", push=False)
    ipad.levers.lose_reports = 1
    await ipad.idle()
    fleet.clock.advance(days=740)
    await ipad.idle()
    await ipad.idle()
    done = [one for one in await fleet.commands(ipad.udid) if one["uuid"] == queued["uuid"]]
    assert [one["state"] for one in done] == ["done"]
    assert renewed(devices) == {old}


async def test_after_the_grace_an_identity_that_has_ended_is_refused_and_not_by_401(
    fleet: Fleet,
) -> None:
    devices = await enrolled(fleet, "mac")
    (mac,) = devices.values()
    fleet.clock.advance(days=730 + 91)
    assert (await mac.idle()).status == 400
    assert mac.profile is not None
    await set_policy(fleet, expired_grace="365d")
    await mac.idle()
    assert renewed(devices) == set(devices)
