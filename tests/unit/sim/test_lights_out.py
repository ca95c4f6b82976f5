"""Lights-out management. Source: escrowed-secrets.md 4.11."""

from typing import Any

import pytest

from ostiary_sim.device import Device
from unit.sim.fake_mdm import Stage

BOTH = ("DeviceCertificateUUID", "ControllerCertificateUUID")


async def mac_with(stage: Stage, *parts: str, kind: str = "mac-mini") -> Device:
    mac = await stage.enrolled(kind)
    payload = {"PayloadType": "com.apple.lom"} | dict.fromkeys(parts, "SOME-UUID")
    await mac.install_profile(stage.server.other_profile("example.lom", payloads=[payload]))
    return mac


def item(uuid: str, told: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "DeviceRequestType": "PowerON",
        "DeviceRequestUUID": uuid,
        "DeviceDNSName": f"{uuid}.example",
        "PrimaryIPv6AddressList": told["PrimaryIPv6AddressList"],
        "SecondaryIPv6AddressList": told["SecondaryIPv6AddressList"],
        "LOMProtocolVersion": told["LOMProtocolVersion"],
    } | changes


async def test_the_addresses_are_told_and_change_at_a_restart(stage: Stage) -> None:
    mac = await mac_with(stage, *BOTH)
    first = await stage.ask(mac, "LOMSetupRequest")
    assert first["PrimaryIPv6AddressList"][0].startswith("fe80::")
    assert isinstance(first["LOMProtocolVersion"], int)
    await stage.ask(mac, "RestartDevice")
    second = await stage.ask(mac, "LOMSetupRequest")
    assert first["PrimaryIPv6AddressList"] != second["PrimaryIPv6AddressList"]


async def test_each_item_has_its_own_answer(stage: Stage) -> None:
    controller = await mac_with(stage, *BOTH)
    told = await stage.ask(controller, "LOMSetupRequest")
    controller.levers.lights_out_failures["two.example"] = "The device does not answer."
    wanted = [
        item("one", told),
        item("two", told),
        item("three", told, DeviceRequestType="Explode"),
        item("four", told, PrimaryIPv6AddressList=[]),
        item("five", told, LOMProtocolVersion=99),
    ]
    report = await stage.ask(controller, "LOMDeviceRequest", RequestList=wanted)
    assert report["Status"] == "Acknowledged"
    answers = {each["DeviceRequestUUID"]: each for each in report["ResponseList"]}
    assert answers["one"] == {"DeviceRequestSuccess": True, "DeviceRequestUUID": "one"}
    assert answers["two"]["DeviceRequestReturnError"] == "The device does not answer."
    failed = {uuid for uuid, each in answers.items() if not each["DeviceRequestSuccess"]}
    assert failed == {"two", "three", "four", "five"}


async def test_without_the_profile_a_mac_is_neither_device_nor_controller(stage: Stage) -> None:
    mac = await mac_with(stage)
    assert (await stage.ask(mac, "LOMSetupRequest"))["Status"] == "Error"
    assert (await stage.ask(mac, "LOMDeviceRequest", RequestList=[]))["Status"] == "Error"


async def test_a_malformed_request_is_said_to_be_one(stage: Stage) -> None:
    mac = await mac_with(stage, *BOTH)
    assert (await stage.ask(mac, "LOMDeviceRequest"))["Status"] == "CommandFormatError"


@pytest.mark.parametrize(("kind", "supports"), [("mac", False), ("mac-mini", True)])
async def test_a_mac_says_whether_it_can_be_woken(stage: Stage, kind: str, supports: bool) -> None:
    mac = await mac_with(stage, *BOTH, kind=kind)
    told = await stage.ask(mac, "DeviceInformation", Queries=["SupportsLOMDevice"])
    assert told["QueryResponses"] == {"SupportsLOMDevice": supports}
    status = (await stage.ask(mac, "LOMSetupRequest"))["Status"]
    assert (status == "Acknowledged") is supports
