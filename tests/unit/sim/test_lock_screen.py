"""DeviceLock and the person before the screen. Source: escrowed-secrets.md 4.6."""

from dataclasses import replace

import pytest

from ostiary_sim.errors import NotPossible
from ostiary_sim.personality import PERSONALITIES
from unit.sim.fake_mdm import TOPIC, Stage


async def test_a_locked_mac_says_nothing_until_a_person_types_the_pin(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    assert (await stage.ask(mac, "DeviceLock", PIN="123456"))["Status"] == "Acknowledged"
    assert mac.truth().lock_pin == "123456"
    heard = len(stage.server.requests)
    await mac.idle()
    await mac.receive_push(TOPIC, mac.push_magic)
    await mac.change_push_token()
    with pytest.raises(NotPossible):
        await mac.user_login("ada")
    assert len(stage.server.requests) == heard
    assert not mac.lock_screen.type_pin("654321")
    assert mac.lock_screen.type_pin("123456")
    assert mac.truth().lock_pin is None
    await mac.idle()
    assert stage.server.statuses()[-1] == "Idle"


async def test_a_locked_mac_takes_no_further_command_in_the_same_session(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    stage.server.queue("DeviceLock", PIN="123456")
    stage.server.queue("SecurityInfo")
    session = await mac.idle()
    assert session.request_types == ["DeviceLock"]


async def test_a_mac_may_lock_and_lose_the_network_before_the_reply(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    mac.levers.lock_loses_reply = True
    await stage.ask(mac, "DeviceLock", PIN="123456")
    assert stage.server.statuses() == ["Idle"]
    assert mac.truth().lock_pin == "123456"
    assert mac.lock_screen.type_pin("123456")
    session = await mac.idle()
    assert session.request_types == ["DeviceLock"]  # handed out again, as it was never answered
    assert stage.server.statuses()[-1] == "Acknowledged"
    assert mac.lock_screen.is_silent


async def test_a_lost_report_does_not_keep_a_mac_from_locking(stage: Stage) -> None:
    """3.4 rule 4: the report is cached, and sent once the Mac has started."""
    mac = await stage.enrolled("mac")
    mac.levers.lose_reports = 1
    uuid = stage.server.queue("DeviceLock", PIN="123456")
    await mac.idle()
    assert mac.lock_screen.is_silent
    mac.lock_screen.type_pin("123456")
    await mac.idle()
    assert stage.server.reports[-1]["CommandUUID"] == uuid
    assert not mac.lock_screen.locked


async def test_early_apple_silicon_is_deactivated_until_an_administrator_activates_it(
    stage: Stage,
) -> None:
    mac = await stage.enrolled(replace(PERSONALITIES["mac"], os_version="11.4"))
    ada = await mac.user_login("ada", password="hers")
    await stage.ask(mac, "DeviceLock", PIN="123456")
    assert not mac.lock_screen.type_pin("123456")
    assert mac.lock_screen.is_silent
    assert not mac.lock_screen.activate(ada, "wrong")
    assert mac.lock_screen.activate(ada, "hers")
    await mac.idle()
    assert stage.server.statuses()[-1] == "Idle"


async def test_a_locked_iphone_goes_on_talking_and_needs_its_own_passcode(stage: Stage) -> None:
    phone = await stage.enrolled()
    await stage.ask(phone, "DeviceLock", PIN="123456", Message="Return me", PhoneNumber="555")
    assert phone.lock_screen.locked
    assert (phone.lock_screen.message, phone.lock_screen.phone_number) == ("Return me", "555")
    assert phone.truth().lock_pin is None
    assert (await stage.ask(phone, "SecurityInfo"))["Status"] == "Acknowledged"
    phone.lock_screen.unlock()
    assert not phone.lock_screen.locked


async def test_the_result_of_the_message_follows_the_state_or_the_lever(stage: Stage) -> None:
    phone = await stage.enrolled()
    phone.passcode_set = False
    assert (await stage.ask(phone, "DeviceLock", Message="x"))["MessageResult"] == "NoPasscodeSet"
    assert "MessageResult" not in await stage.ask(phone, "DeviceLock")
    phone.lock_screen.lost_mode = True
    told = await stage.ask(phone, "DeviceLock", Message="x")
    assert told["MessageResult"] == "DeviceInLostMode"
    phone.levers.lock_message_result = "Unknown"
    assert (await stage.ask(phone, "DeviceLock", Message="x"))["MessageResult"] == "Unknown"


async def test_a_shared_ipad_ignores_the_message(stage: Stage) -> None:
    ipad = await stage.enrolled("shared-ipad")
    report = await stage.ask(ipad, "DeviceLock", Message="x")
    assert report["Status"] == "Acknowledged"
    assert "MessageResult" not in report


@pytest.mark.parametrize(
    ("kind", "status"), [("byod-mac", "Error"), ("byod-iphone", "Acknowledged")]
)
async def test_user_enrollment_allows_it_on_phones_and_not_on_macs(
    stage: Stage, kind: str, status: str
) -> None:
    device = await stage.enrolled(kind)
    assert (await stage.ask(device, "DeviceLock", PIN="123456"))["Status"] == status
