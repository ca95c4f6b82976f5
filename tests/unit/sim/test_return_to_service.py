"""Return to Service. Source: escrowed-secrets.md 4.7; check-in-and-commands.md 1.3.8."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from ostiary_sim.device import Device
from ostiary_sim.errors import NotPossible
from ostiary_sim.personality import PERSONALITIES
from unit.sim.fake_mdm import HOST, Stage, plist_reply

KIOSK = replace(PERSONALITIES["ipad"], os_version="26.0", automated=True)


async def kiosk(stage: Stage) -> Device:
    """An iPad in return-to-service mode with one app."""
    ipad = stage.device(KIOSK)
    ipad.return_to_service.mode = True
    ipad.return_to_service.enroll_url = f"{HOST}/enroll"
    await ipad.enroll(stage.server.profile())
    ipad.return_to_service.apps = {"example.till"}
    return ipad


async def return_it(stage: Stage, device: Device, **order: Any) -> dict[str, Any]:
    return await stage.ask(device, "EraseDevice", ReturnToService={"Enabled": True, **order})


async def test_a_device_comes_back_by_the_profile_it_was_given(stage: Stage) -> None:
    phone = await stage.enrolled()
    old = phone.installed.identity.fingerprint
    report = await return_it(stage, phone, MDMProfileData=stage.server.profile())
    assert report["Status"] == "Acknowledged"
    assert stage.server.kinds() == ["Authenticate", "TokenUpdate"] * 2
    assert phone.installed.identity.fingerprint != old
    assert stage.events[-1].what == "returned_to_service"


async def test_without_a_profile_only_automated_enrollment_leads_back(stage: Stage) -> None:
    phone = await stage.enrolled()
    await return_it(stage, phone)
    assert phone.profile is None
    assert stage.events[-1].what == "return_to_service_stopped"
    assigned = await kiosk(stage)
    await return_it(stage, assigned)
    assert assigned.enrolled
    assert [request.url.path for request in stage.server.requests].count("/enroll") == 1


async def test_without_wifi_where_there_is_no_other_network_it_stops(stage: Stage) -> None:
    phone = await stage.enrolled()
    phone.levers.only_wifi = True
    await return_it(stage, phone, MDMProfileData=stage.server.profile())
    assert phone.profile is None
    await phone.enroll(stage.server.profile())
    order = {"MDMProfileData": stage.server.profile(), "WiFiProfileData": b"wifi"}
    await return_it(stage, phone, **order)
    assert phone.enrolled


async def test_a_lock_in_force_stops_it(stage: Stage) -> None:
    phone = await stage.enrolled()
    phone.mdm_options["ActivationLockAllowedWhileSupervised"] = True
    assert phone.turn_on_find_my("ada@example.org", "hers")
    await return_it(stage, phone, MDMProfileData=stage.server.profile())
    assert phone.profile is None
    assert stage.events[-1].what == "return_to_service_stopped"


async def test_a_lost_network_stops_it(stage: Stage) -> None:
    phone = await stage.enrolled()
    phone.levers.erase_cuts_network = True
    await return_it(stage, phone, MDMProfileData=stage.server.profile())
    assert phone.profile is None


@pytest.mark.parametrize(
    ("order", "status"),
    [
        ({}, "CommandFormatError"),
        ({"Enabled": True, "MDMProfileData": "text"}, "CommandFormatError"),
    ],
)
async def test_a_malformed_order_erases_nothing(
    stage: Stage, order: dict[str, Any], status: str
) -> None:
    phone = await stage.enrolled()
    assert (await stage.ask(phone, "EraseDevice", ReturnToService=order))["Status"] == status
    assert phone.enrolled


async def test_old_systems_and_macs_do_not_know_it(stage: Stage) -> None:
    for kind in ("old-ipad", "mac"):
        device = await stage.enrolled(kind)
        stage.server.queues.clear()
        assert (await return_it(stage, device))["Status"] == "Error"
        assert device.enrolled


async def test_not_enabled_is_a_plain_erasure(stage: Stage) -> None:
    phone = await stage.enrolled()
    await stage.ask(phone, "EraseDevice", ReturnToService={"Enabled": False})
    assert phone.profile is None


async def test_in_that_mode_the_bootstrap_token_follows_the_enrollment(stage: Stage) -> None:
    """4.2, the table of triggers."""
    ipad = await kiosk(stage)
    assert stage.server.kinds() == ["Authenticate", "TokenUpdate", "SetBootstrapToken"]
    assert stage.server.bootstrap_token == ipad.truth().bootstrap_token
    other = await stage.enrolled(KIOSK)
    assert other.truth().bootstrap_token is None
    with pytest.raises(NotPossible):
        await other.set_bootstrap_token()


async def test_only_the_right_bootstrap_token_keeps_the_apps(stage: Stage) -> None:
    ipad = await kiosk(stage)
    token = stage.server.bootstrap_token
    await return_it(stage, ipad, BootstrapToken=token)
    assert ipad.return_to_service.apps == {"example.till"}
    assert ipad.awaiting
    assert ipad.truth().bootstrap_token == token
    await return_it(stage, ipad, BootstrapToken=b"wrong")
    assert ipad.return_to_service.apps == set()
    assert not ipad.awaiting
    assert ipad.truth().bootstrap_token != token


async def test_after_keeping_apps_a_snapshot_is_taken_and_the_rest_put_off(stage: Stage) -> None:
    ipad = await kiosk(stage)
    await return_it(stage, ipad, BootstrapToken=stage.server.bootstrap_token)
    assert (await stage.ask(ipad, "DeviceConfigured"))["Status"] == "Acknowledged"
    stage.server.queue("SecurityInfo")
    await ipad.idle()
    assert stage.server.statuses()[-1] == "NotNow"
    stage.clock.advance(seconds=timedelta(minutes=5).total_seconds())
    assert await ipad.poll() is not None
    assert stage.server.statuses()[-1] == "Acknowledged"


async def test_a_device_may_escrow_once_in_its_life(stage: Stage) -> None:
    ipad = await kiosk(stage)
    ipad.levers.bootstrap_once = True
    await return_it(stage, ipad, BootstrapToken=stage.server.bootstrap_token)
    assert stage.server.kinds().count("SetBootstrapToken") == 1


async def test_a_device_asks_to_return_and_the_server_decides(stage: Stage) -> None:
    ipad = await kiosk(stage)
    assert not await ipad.return_to_service.request()
    assert stage.server.last("ReturnToService") == {
        "MessageType": "ReturnToService",
        "UDID": ipad.udid,
    }
    stage.server.script("ReturnToService", plist_reply({"ReturnToService": {"Enabled": False}}))
    assert not await ipad.return_to_service.request()
    stage.server.script("ReturnToService", httpx.Response(200, content=b"nonsense"))
    assert not await ipad.return_to_service.request()
    order = {"Enabled": True, "BootstrapToken": stage.server.bootstrap_token}
    stage.server.script("ReturnToService", plist_reply({"ReturnToService": order}))
    assert await ipad.return_to_service.request()
    assert stage.server.kinds()[-3:] == ["Authenticate", "TokenUpdate", "SetBootstrapToken"]
    assert stage.server.last("TokenUpdate")["AwaitingConfiguration"] is True
    assert ipad.return_to_service.apps == {"example.till"}


async def test_others_do_not_ask(stage: Stage) -> None:
    phone = await stage.enrolled()
    with pytest.raises(NotPossible):
        await phone.return_to_service.request()
