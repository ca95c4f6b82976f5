"""What the fleet lacks, played by simulated devices over TLS: a gap appears with the fact, and goes with the escrow."""

from dataclasses import replace
from typing import Any

from e2e.fleet import Fleet, Row
from ostiary_sim.device import Device
from ostiary_sim.personality import PERSONALITIES

PASSWORD = "correct horse"


async def missing(fleet: Fleet, **params: Any) -> tuple[dict[str, Row], Row]:
    """The gaps by kind, and what was counted."""
    found: Row = await fleet.desk.ask("GET", "/secrets/missing", params=params)
    assert not found["more"]
    return {each["kind"]: each for each in found["items"]}, found


async def asked(fleet: Fleet, device: Device) -> None:
    """The device is asked of itself, and has answered."""
    for word in ("device-information", "security-info"):
        assert not (await fleet.enqueue(device.udid, word))["error"]
    await fleet.wake()
    await device.idle()


async def changed(fleet: Fleet, path: str, device: Device, **content: Any) -> None:
    """A person asks for something, and the device has done it."""
    await fleet.desk.ask("POST", path, content={"id": device.udid, **content})
    await fleet.wake()
    await device.idle()


async def test_a_disk_that_its_user_encrypted_is_a_gap_until_its_key_is_here(fleet: Fleet) -> None:
    """4.3: encrypted before the profile came, it escrows nothing before its key is rotated with a user's password."""
    mac = await fleet.enroll("mac")
    await asked(fleet, mac)
    gaps, counted = await missing(fleet, kind="filevault-key")
    assert (gaps, counted["looked_at"], counted["not_known"]) == ({}, 1, {})
    mac.users["ada"].password = PASSWORD
    mac.turn_on_filevault()
    await asked(fleet, mac)
    gaps, counted = await missing(fleet)
    disk = gaps["filevault-key"]
    assert (disk["id"], disk["state"], disk["severity"]) == (mac.udid, "missing", "critical")
    assert disk["why"] == "FileVault is on (FDE_Enabled), and no recovery key is held"
    assert disk["todo"].startswith("ostiary filevault install --location ")
    assert f" {mac.udid}; then " in disk["todo"]
    assert counted["by_kind"]["filevault-key"] == 1
    await changed(fleet, "/filevault", mac, location="the help desk")
    await asked(fleet, mac)
    gaps, _ = await missing(fleet)
    rotate = f"ostiary token rotate --unlock-with-stdin {mac.udid} filevault-key"
    assert gaps["filevault-key"]["todo"] == rotate, "the profile alone brings nothing"
    await changed(fleet, "/secrets/change", mac, kind="filevault-key", unlock_with=PASSWORD)
    gaps, counted = await missing(fleet)
    assert "filevault-key" not in gaps
    assert mac.volume.recovery_key is not None
    await asked(fleet, mac)
    assert (await missing(fleet, kind="filevault-key"))[0] == {}


async def test_a_mac_encrypted_under_the_profile_never_shows_a_gap(fleet: Fleet) -> None:
    mac = await fleet.enroll("mac")
    await changed(fleet, "/filevault", mac, location="the help desk")
    mac.turn_on_filevault()
    await asked(fleet, mac)
    assert (await missing(fleet, kind="filevault-key"))[0] == {}


async def test_a_recovery_lock_that_nobody_here_set_is_a_gap(fleet: Fleet) -> None:
    """4.4: an earlier management set it; ours is none."""
    mac = await fleet.enroll("mac")
    mac.recovery_lock.password = "somebody else's"
    await asked(fleet, mac)
    gaps, _ = await missing(fleet, kind="recovery-lock")
    assert gaps["recovery-lock"]["state"] == "missing"
    mac.recovery_lock.password = None
    await asked(fleet, mac)
    await changed(fleet, "/secrets/change", mac, kind="recovery-lock")
    await asked(fleet, mac)
    assert (await missing(fleet, kind="recovery-lock"))[0] == {}


async def test_a_fleet_that_answered_is_known_and_in_order(fleet: Fleet) -> None:
    """Every kind of device, as it enrolls: what none of them owes is asked of none."""
    devices = [
        await fleet.enroll(each) for each in ("iphone", "ipad", "apple-tv", "watch", "vision")
    ]
    for device in devices:
        await asked(fleet, device)
    gaps, counted = await missing(fleet)
    assert gaps == {}
    assert counted["looked_at"] == len(devices)
    assert counted["not_known"] == {}


async def test_a_phone_without_an_unlock_token_or_a_bypass_code_is_a_gap(fleet: Fleet) -> None:
    """4.1: nothing but a new enrollment brings the token; activation-lock.md 5: the code can be fetched in time."""
    silent = replace(PERSONALITIES["iphone"], sends_unlock_token=False)
    phone = await fleet.enroll(silent)
    await asked(fleet, phone)
    gaps, _ = await missing(fleet)
    assert set(gaps) == {"unlock"}
    assert "no unlock token is held" in gaps["unlock"]["why"]
    fleet.clock.advance(days=2)
    gaps, _ = await missing(fleet)
    code = gaps["activation-bypass-device"]
    assert code["why"].endswith("days left to fetch it: 12")
    assert code["todo"] == f"ostiary token rotate {phone.udid} activation-bypass-device"
    await changed(fleet, "/secrets/change", phone, kind="activation-bypass-device")
    assert set((await missing(fleet))[0]) == {"unlock"}
