"""The lifecycle matrix, lived by simulated devices: what is believed of a device's secrets is compared with the device.

Source: escrowed-secrets.md 4.13; scenes/test_lifecycle.py has every cell.
"""

import pytest

from e2e.fleet import Fleet, Row
from ostiary_sim.causes import Cause, play
from ostiary_sim.device import Device


async def happens(fleet: Fleet, cause: Cause, device: Device) -> None:
    """It happens to the device, whose invitation names it, and everything that follows is done."""
    if cause is Cause.RENEWAL:
        assert (await fleet.renew(device))["error"] is None
    else:
        ask = {"valid_seconds": 3600, "uses": 1, "serial": device.serial}
        invitation = await fleet.desk.ask("POST", "/invitations", content=ask)
        await play(cause, device, await device.fetch_profile(invitation["url"]))
    for _ in range(4):
        await fleet.wake()


async def believed(fleet: Fleet, device: Device) -> dict[str, Row]:
    """What an operator is shown of each secret."""
    found = await fleet.desk.ask("GET", "/secrets", params={"id": device.udid})
    return {line["kind"]: line for line in found["secrets"]}


async def revealed(fleet: Fleet, device: Device, kind: str) -> list[str]:
    ask = {"id": device.udid, "kind": kind, "reason": "a scene"}
    found = await fleet.desk.ask("POST", "/secrets/reveal", content=ask)
    return [line["value"] for line in found["values"]]


@pytest.mark.parametrize(
    "cause", [Cause.RENEWAL, Cause.ENROLLED_AGAIN, Cause.PROFILES_RENEW, Cause.ERASED]
)
async def test_what_a_mac_holds_is_shown_and_what_it_lost_is_not_offered(
    fleet: Fleet, cause: Cause
) -> None:
    """Its Recovery Lock and its bootstrap token, after each cause."""
    mac = await fleet.enroll("mac")
    await fleet.desk.ask(
        "POST", "/secrets/change", content={"id": mac.udid, "kind": "recovery-lock"}
    )
    for _ in range(3):
        await fleet.wake()
    before = mac.truth().recovery_lock
    assert [before] == await revealed(fleet, mac, "recovery-lock")
    await happens(fleet, cause, mac)
    shown, truth = await believed(fleet, mac), mac.truth()
    if truth.recovery_lock is not None:
        assert await revealed(fleet, mac, "recovery-lock") == [truth.recovery_lock]
    else:
        line = shown.get("recovery-lock")
        assert line is None or line["uncertain"] or not line["values"]
    held = (await mac.get_bootstrap_token()).token
    assert held in (b"", None, truth.bootstrap_token), "an old one is served to nobody"
    if cause is Cause.RENEWAL:
        assert held == truth.bootstrap_token
    assert shown["recovery-lock"]["generations"] >= 1, "what was, stays in history"


@pytest.mark.parametrize(
    "cause", [Cause.RENEWAL, Cause.ENROLLED_AGAIN, Cause.ERASED, Cause.RESTORED]
)
async def test_the_unlock_token_that_would_be_used_is_the_iphones_own(
    fleet: Fleet, cause: Cause
) -> None:
    """UT-11, UT-12: after each cause a ClearPasscode works, or is refused; never is a dead token tried."""
    phone = await fleet.enroll("iphone")
    await happens(fleet, cause, phone)
    phone.passcode_set = True
    queued = await fleet.enqueue(phone.udid, "clear-passcode")
    await fleet.wake()
    if queued["error"] is None:
        done = {each["uuid"]: each["state"] for each in await fleet.commands(phone.udid)}
        assert done[queued["uuid"]] == "done"
        assert not phone.passcode_set
    else:
        assert cause is not Cause.RENEWAL
