"""Names and kinds of devices. Source: check-in-and-commands.md 2.1, 1.3.2."""

import random
import re

import pytest

from ostiary_sim.personality import PERSONALITIES, UdidForm, draw_names
from unit.sim.fake_mdm import Stage

FORMS = {
    UdidForm.HEX_40: r"[0-9a-f]{40}",
    UdidForm.CHIP: r"[0-9A-F]{8}-[0-9A-F]{16}",
    UdidForm.UUID: r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}",
}


@pytest.mark.parametrize("name", PERSONALITIES)
def test_udids_have_the_form_of_their_age(name: str) -> None:
    personality = PERSONALITIES[name]
    assert personality.name == name
    names = draw_names(personality, random.Random(3))
    assert re.fullmatch(FORMS[personality.udid_form], names.udid)
    assert re.fullmatch(r"[0-9A-Z]{10}", names.serial)


@pytest.mark.parametrize("name", PERSONALITIES)
async def test_every_personality_enrolls_answers_and_leaves(stage: Stage, name: str) -> None:
    device = await stage.enrolled(name)
    for user in device.personality.initial_users:
        await device.user_login(user)
    stage.server.queue("DeviceInformation", Queries=["OSVersion"])
    session = await device.idle()
    assert [each.status for each in session.executed] == ["Acknowledged"]
    assert stage.server.reports[-1]["QueryResponses"] == {
        "OSVersion": device.personality.os_version
    }
    await device.remove_profile()
    assert stage.server.kinds()[-1] == "CheckOut"


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("iphone", {"OSVersion", "BuildVersion", "ProductName", "SerialNumber", "IMEI"}),
        ("ipad", {"OSVersion", "BuildVersion", "ProductName", "SerialNumber"}),
        (
            "mac",
            {"OSVersion", "BuildVersion", "ProductName", "SerialNumber", "DeviceName", "Model"}
            | {"ModelName"},
        ),
        ("byod-iphone", {"OSVersion", "BuildVersion", "ProductName"}),
    ],
)
async def test_authenticate_carries_what_the_platform_sends(
    stage: Stage, name: str, keys: set[str]
) -> None:
    """1.3.2."""
    await stage.enrolled(name)
    message = stage.server.last("Authenticate")
    assert set(message) - {"MessageType", "Topic", "UDID", "EnrollmentID"} == keys


async def test_without_right_16_an_iphone_tells_nothing_of_itself(stage: Stage) -> None:
    phone = stage.device("iphone")
    await phone.enroll(stage.server.profile(AccessRights=8191 & ~16))
    assert set(stage.server.last("Authenticate")) == {"MessageType", "Topic", "UDID"}
