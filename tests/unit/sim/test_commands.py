"""Commands and the queue as a device sees them. Source: check-in-and-commands.md 3; escrowed-secrets.md 4.1."""

import plistlib
from datetime import timedelta
from typing import Any

import httpx
import pytest

from unit.sim.fake_mdm import Stage


async def run(stage: Stage, device_kind: str, request_type: str, **keys: Any) -> dict[str, object]:
    device = await stage.enrolled(device_kind)
    stage.server.queue(request_type, **keys)
    await device.idle()
    return stage.server.reports[-1]


async def test_an_empty_answer_ends_the_session(stage: Stage) -> None:
    phone = await stage.enrolled()
    session = await phone.idle()
    assert session.completed
    assert stage.server.reports == [{"UDID": phone.udid, "Status": "Idle"}]
    put = stage.server.requests[-1]
    assert put.url.path == "/mdm"
    assert put.headers["content-type"] == "application/x-apple-aspen-mdm; charset=UTF-8"


async def test_commands_are_answered_one_after_the_other(stage: Stage) -> None:
    phone = await stage.enrolled()
    first = stage.server.queue("DeviceInformation", Queries=["DeviceName", "UDID", "Nonsense"])
    second = stage.server.queue("SecurityInfo")
    session = await phone.idle()
    assert session.request_types == ["DeviceInformation", "SecurityInfo"]
    reports = stage.server.reports
    assert [each.get("CommandUUID") for each in reports] == [None, first, second]
    assert reports[1]["QueryResponses"] == {"DeviceName": phone.device_name, "UDID": phone.udid}
    assert reports[2]["SecurityInfo"]["PasscodePresent"] is True


async def test_a_lost_report_is_cached_and_sent_first_next_time(stage: Stage) -> None:
    """3.4 rule 4."""
    phone = await stage.enrolled()
    uuid = stage.server.queue("SecurityInfo")
    stage.server.script("Acknowledged", 500)
    session = await phone.idle()
    assert not session.completed
    assert session.status == 500
    await phone.idle()
    assert stage.server.statuses() == ["Idle", "Acknowledged", "Acknowledged"]
    assert stage.server.reports[-1]["CommandUUID"] == uuid
    phone.levers.lose_reports = 1
    stage.server.queue("SecurityInfo")
    await phone.idle()
    assert stage.server.statuses()[-1] == "Idle"
    await phone.idle()
    assert stage.server.statuses()[-1] == "Acknowledged"


async def test_a_connection_lost_before_the_report_makes_the_device_ask_again(
    stage: Stage,
) -> None:
    """3.3, Idle after SENT."""
    phone = await stage.enrolled()
    stage.server.queue("SecurityInfo")
    phone.levers.break_off_after = 1
    session = await phone.idle()
    assert session.executed == []
    session = await phone.idle()
    assert session.request_types == ["SecurityInfo"]
    assert stage.server.statuses() == ["Idle", "Idle", "Acknowledged"]


async def test_a_report_may_come_twice(stage: Stage) -> None:
    phone = await stage.enrolled()
    phone.levers.report_twice = True
    stage.server.queue("SecurityInfo")
    await phone.idle()
    assert stage.server.statuses() == ["Idle", "Acknowledged", "Acknowledged"]


async def test_not_now_ends_and_only_then_the_device_polls_by_itself(stage: Stage) -> None:
    """3.4 rule 5."""
    phone = await stage.enrolled()
    phone.say_not_now(["InstallProfile"], until=stage.clock.now + timedelta(hours=8))
    stage.server.queue("InstallProfile", Payload=stage.server.other_profile())
    assert await phone.poll() is None
    session = await phone.idle()
    assert [each.status for each in session.executed] == ["NotNow"]
    assert phone.channel().polls_by_itself
    stage.clock.advance(hours=8)
    polled = await phone.poll()
    assert polled is not None
    assert [each.status for each in polled.executed] == ["Acknowledged"]
    assert not phone.channel().polls_by_itself


@pytest.mark.parametrize(
    ("kind", "request_type", "status"),
    [
        ("iphone", "DeviceInformation", "Acknowledged"),
        ("iphone", "SecurityInfo", "NotNow"),
        ("mac", "DeviceInformation", "NotNow"),
        ("mac", "UserList", "Acknowledged"),
    ],
)
async def test_some_commands_are_never_put_off(
    stage: Stage, kind: str, request_type: str, status: str
) -> None:
    """3.4 rule 8."""
    device = await stage.enrolled(kind)
    device.say_not_now()
    stage.server.queue(request_type, Queries=[])
    session = await device.idle()
    assert [each.status for each in session.executed] == [status]
    device.ready()
    assert [each.status for each in (await device.idle()).executed] in ([], ["Acknowledged"])


async def test_clear_passcode_needs_the_equal_bytes(stage: Stage) -> None:
    """escrowed-secrets.md 4.1."""
    phone = await stage.enrolled()
    stage.server.queue("ClearPasscode", UnlockToken=b"wrong")
    await phone.idle()
    assert phone.passcode_set
    report = stage.server.reports[-1]
    assert report["Status"] == "Error"
    assert set(report["ErrorChain"][0]) == {
        "ErrorCode",
        "ErrorDomain",
        "LocalizedDescription",
        "USEnglishDescription",
    }
    stage.server.queue("ClearPasscode", UnlockToken=phone.unlock_token)
    await phone.idle()
    assert not phone.passcode_set
    assert stage.server.statuses()[-1] == "Acknowledged"


async def test_an_unlock_token_may_die_on_use(stage: Stage) -> None:
    phone = await stage.enrolled()
    phone.levers.unlock_token_dies_on_use = True
    for _ in range(2):
        stage.server.queue("ClearPasscode", UnlockToken=phone.unlock_token)
        await phone.idle()
    assert stage.server.statuses()[-1] == "Error"


@pytest.mark.parametrize(
    ("kind", "request_type", "keys", "status"),
    [
        ("mac", "ClearPasscode", {"UnlockToken": b"x"}, "Error"),
        ("iphone", "Nonsense", {}, "CommandFormatError"),
        ("iphone", "DeviceInformation", {}, "CommandFormatError"),
        ("iphone", "InstallProfile", {}, "CommandFormatError"),
        ("iphone", "RemoveProfile", {"Identifier": "unknown"}, "Error"),
        ("mac", "DeviceLock", {"PIN": "12"}, "CommandFormatError"),
        ("mac", "DeviceLock", {"PIN": "123456"}, "Acknowledged"),
        ("iphone", "DeviceConfigured", {}, "Error"),
        ("apple-tv", "DeviceLock", {}, "Error"),
        ("byod-iphone", "EraseDevice", {}, "Error"),
        ("iphone", "DeclarativeManagement", {}, "Acknowledged"),
        ("iphone", "RestartDevice", {}, "Acknowledged"),
    ],
)
async def test_each_command_has_its_status(
    stage: Stage, kind: str, request_type: str, keys: dict[str, Any], status: str
) -> None:
    report = await run(stage, kind, request_type, **keys)
    assert report["Status"] == status


async def test_a_command_without_its_access_right_fails(stage: Stage) -> None:
    """6.1."""
    phone = stage.device()
    await phone.enroll(stage.server.profile(AccessRights=8191 & ~8))
    stage.server.queue("EraseDevice")
    await phone.idle()
    assert phone.enrolled
    assert stage.server.statuses()[-1] == "Error"


async def test_profiles_are_installed_listed_and_removed(stage: Stage) -> None:
    phone = await stage.enrolled()
    stage.server.queue("InstallProfile", Payload=stage.server.other_profile("example.wifi"))
    stage.server.queue("ProfileList")
    stage.server.queue("RemoveProfile", Identifier="example.wifi")
    stage.server.queue("ProfileList")
    await phone.idle()
    listed = [each["ProfileList"] for each in stage.server.reports if "ProfileList" in each]
    names = [[each["PayloadIdentifier"] for each in one] for one in listed]
    assert names == [["example.mdm", "example.wifi"], ["example.mdm"]]


async def test_removing_the_enrollment_profile_ends_management_after_the_report(
    stage: Stage,
) -> None:
    phone = await stage.enrolled()
    stage.server.queue("RemoveProfile", Identifier="example.mdm")
    await phone.idle()
    assert stage.server.statuses() == ["Idle", "Acknowledged"]
    assert stage.server.kinds()[-1] == "CheckOut"
    assert phone.profile is None


async def test_a_broken_enrollment_profile_is_an_error_with_a_chain(stage: Stage) -> None:
    phone = await stage.enrolled()
    stage.server.queue("InstallProfile", Payload=stage.server.profile(AccessRights=0))
    await phone.idle()
    assert stage.server.reports[-1]["ErrorChain"][0]["ErrorDomain"] == "MCInstallationErrorDomain"
    assert phone.enrolled


async def test_settings_answer_item_by_item(stage: Stage) -> None:
    settings = [
        {"Item": "MDMOptions", "MDMOptions": {"BootstrapTokenAllowed": True}},
        {"Item": "Wallpaper"},
    ]
    report = await run(stage, "mac", "Settings", Settings=settings)
    assert report["Settings"] == [
        {"Item": "MDMOptions", "Status": "Acknowledged"},
        {"Item": "Wallpaper", "Status": "Error"},
    ]


async def test_device_lock_says_what_became_of_the_message(stage: Stage) -> None:
    """escrowed-secrets.md 4.6."""
    phone = await stage.enrolled()
    stage.server.queue("DeviceLock", Message="Return me")
    await phone.idle()
    assert stage.server.reports[-1]["MessageResult"] == "Success"
    phone.passcode_set = False
    stage.server.queue("DeviceLock", Message="Return me")
    await phone.idle()
    assert stage.server.reports[-1]["MessageResult"] == "NoPasscodeSet"


async def test_user_commands_stay_on_their_channel(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    ada = await mac.user_login("ada")
    stage.server.queue("DeviceLock", channel="ada", PIN="123456")
    stage.server.queue("ProfileList", channel="ada")
    session = await mac.idle(ada)
    assert [each.status for each in session.executed] == ["Error", "Acknowledged"]
    assert stage.server.reports[-1]["UserID"] == ada.guid
    assert stage.server.reports[-1]["ProfileList"] == []


async def test_a_user_without_an_account_yet_puts_everything_off(stage: Stage) -> None:
    """3.6."""
    mac = await stage.enrolled("mac")
    ada = await mac.user_login("ada")
    ada.user_configuration = True
    stage.server.queue("ProfileList", channel="ada")
    session = await mac.idle("ada")
    assert [each.status for each in session.executed] == ["NotNow"]
    assert stage.server.reports[-1]["UserConfiguration"] is True


async def test_an_unreadable_command_ends_the_session(stage: Stage) -> None:
    phone = await stage.enrolled()
    for body in (b"nonsense", plistlib.dumps({"Command": {}}), plistlib.dumps([1])):
        stage.server.script("Idle", httpx.Response(200, content=body))
        session = await phone.idle()
        assert not session.completed
    assert stage.said().count("command_unreadable") == 3


async def test_user_list_tells_who_holds_a_secure_token(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada")
    stage.server.queue("UserList")
    await mac.idle()
    (ada,) = stage.server.reports[-1]["Users"]
    assert ada["HasSecureToken"] is True
    assert ada["UserGUID"] == mac.users["ada"].guid
