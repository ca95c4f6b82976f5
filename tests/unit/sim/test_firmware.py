"""The firmware password of an Intel Mac. Source: escrowed-secrets.md 4.5."""

from typing import Any

import pytest

from ostiary_sim.device import Device
from unit.sim.fake_mdm import Stage


async def status(stage: Stage, mac: Device) -> object:
    return (await stage.ask(mac, "SecurityInfo"))["SecurityInfo"]["FirmwarePasswordStatus"]


async def is_verified(stage: Stage, mac: Device, password: str) -> object:
    report = await stage.ask(mac, "VerifyFirmwarePassword", Password=password)
    return report["VerifyFirmwarePassword"]["PasswordVerified"]


async def test_a_change_counts_from_the_next_restart_on(stage: Stage) -> None:
    mac = await stage.enrolled("mac-intel")
    report = await stage.ask(mac, "SetFirmwarePassword", NewPassword="first", AllowOroms=True)
    assert report["SetFirmwarePassword"] == {"PasswordChanged": True}
    assert await status(stage, mac) == {
        "PasswordExists": False,
        "ChangePending": True,
        "AllowOroms": False,
    }
    assert await is_verified(stage, mac, "first") is False
    await stage.ask(mac, "RestartDevice")
    assert await status(stage, mac) == {
        "PasswordExists": True,
        "ChangePending": False,
        "AllowOroms": True,
    }
    assert await is_verified(stage, mac, "first") is True


async def test_while_a_change_is_pending_the_old_password_is_in_force_and_none_other_is_taken(
    stage: Stage,
) -> None:
    mac = await stage.enrolled("mac-intel")
    mac.firmware.password = "old"
    await stage.ask(mac, "SetFirmwarePassword", CurrentPassword="old", NewPassword="new")
    again = await stage.ask(mac, "SetFirmwarePassword", CurrentPassword="old", NewPassword="newer")
    assert again["Status"] == "Error"
    assert await is_verified(stage, mac, "old") is True
    assert mac.truth().firmware_password_after_restart == "new"
    await mac.restart()
    assert mac.truth().firmware_password == "new"


@pytest.mark.parametrize(
    ("keys", "reported"),
    [
        ({"NewPassword": "new"}, "Error"),
        ({"NewPassword": "new", "CurrentPassword": "wrong"}, "Error"),
        ({"NewPassword": "n\u00e9w", "CurrentPassword": "old"}, "Error"),
        ({"CurrentPassword": "old"}, "CommandFormatError"),
    ],
)
async def test_a_wrong_change_is_an_error_and_changes_nothing(
    stage: Stage, keys: dict[str, Any], reported: str
) -> None:
    mac = await stage.enrolled("mac-intel")
    mac.firmware.password = "old"
    assert (await stage.ask(mac, "SetFirmwarePassword", **keys))["Status"] == reported
    await mac.restart()
    assert mac.firmware.password == "old"


async def test_an_empty_password_clears(stage: Stage) -> None:
    mac = await stage.enrolled("mac-intel")
    mac.firmware.password = "old"
    await stage.ask(mac, "SetFirmwarePassword", CurrentPassword="old", NewPassword="")
    await mac.restart()
    assert mac.firmware.password is None
    assert await is_verified(stage, mac, "") is False


async def test_acknowledged_may_mean_unchanged(stage: Stage) -> None:
    mac = await stage.enrolled("mac-intel")
    mac.levers.firmware_not_changed = True
    report = await stage.ask(mac, "SetFirmwarePassword", NewPassword="new")
    assert report["Status"] == "Acknowledged"
    assert report["SetFirmwarePassword"] == {"PasswordChanged": False}
    assert not mac.firmware.change_pending


async def test_neither_an_erasure_nor_the_end_of_management_removes_it(stage: Stage) -> None:
    mac = await stage.enrolled("mac-intel")
    mac.firmware.password = "old"
    await mac.remove_profile()
    await mac.erase()
    assert mac.truth().firmware_password == "old"


async def test_a_restart_may_wait_for_a_person(stage: Stage) -> None:
    mac = await stage.enrolled("mac-intel")
    mac.levers.restart_waits_for_user = True
    await stage.ask(mac, "SetFirmwarePassword", NewPassword="new")
    assert (await stage.ask(mac, "RestartDevice", NotifyUser=True))["Status"] == "Acknowledged"
    assert mac.firmware.change_pending
    await mac.restart()
    assert mac.firmware.password == "new"


@pytest.mark.parametrize("request_type", ["SetFirmwarePassword", "VerifyFirmwarePassword"])
@pytest.mark.parametrize("kind", ["mac", "byod-mac", "iphone"])
async def test_only_managed_intel_macs_have_one(stage: Stage, kind: str, request_type: str) -> None:
    device = await stage.enrolled(kind)
    report = await stage.ask(device, request_type, NewPassword="new", Password="new")
    assert report["Status"] == "Error"
    told = (await stage.ask(device, "SecurityInfo"))["SecurityInfo"]
    assert "FirmwarePasswordStatus" not in told


async def test_setting_needs_the_right_to_lock_and_verifying_none(stage: Stage) -> None:
    mac = stage.device("mac-intel")
    await mac.enroll(stage.server.profile(AccessRights=8191 & ~4))
    assert (await stage.ask(mac, "SetFirmwarePassword", NewPassword="new"))["Status"] == "Error"
    verified = await stage.ask(mac, "VerifyFirmwarePassword", Password="new")
    assert verified["Status"] == "Acknowledged"
    assert (await stage.ask(mac, "VerifyFirmwarePassword"))["Status"] == "CommandFormatError"
