"""EraseDevice. Source: escrowed-secrets.md 4.7."""

from dataclasses import replace

import pytest

from ostiary_sim.erasing import Erasure, decide
from ostiary_sim.errors import NotPossible
from ostiary_sim.personality import PERSONALITIES
from unit.sim.fake_mdm import Stage

GENTLY, HARD = Erasure.CONTENT_AND_SETTINGS, Erasure.OBLITERATED


@pytest.mark.parametrize(
    ("behaviour", "preflight", "eacs", "acknowledges", "erasure"),
    [
        ("Default", False, True, False, HARD),
        ("Default", True, False, True, HARD),
        ("Default", True, True, True, GENTLY),
        ("DoNotObliterate", False, True, False, None),
        ("DoNotObliterate", True, False, True, None),
        ("DoNotObliterate", True, True, True, GENTLY),
        ("ObliterateWithWarning", False, True, True, HARD),
        ("ObliterateWithWarning", True, False, True, HARD),
        ("ObliterateWithWarning", True, True, True, GENTLY),
        ("Always", True, True, True, HARD),
        ("Always", False, False, True, HARD),
    ],
)
def test_the_answer_and_the_erasure_are_two_things(
    behaviour: str, preflight: bool, eacs: bool, acknowledges: bool, erasure: Erasure | None
) -> None:
    decision = decide(behaviour, preflight_passes=preflight, eacs_works=eacs)
    assert (decision.acknowledges, decision.erasure) == (acknowledges, erasure)


async def test_a_mac_whose_server_lost_the_bootstrap_token_says_error_and_erases_all_the_same(
    stage: Stage,
) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada")
    stage.server.bootstrap_token = b""
    assert (await stage.ask(mac, "EraseDevice"))["Status"] == "Error"
    assert mac.profile is None
    assert stage.events[-1].detail == HARD.value


async def test_with_the_token_a_mac_erases_gently(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada")
    assert (await stage.ask(mac, "EraseDevice", PIN="123456"))["Status"] == "Acknowledged"
    assert stage.events[-1].detail == GENTLY.value
    assert not mac.lock_screen.locked


async def test_a_mac_that_is_not_erased_goes_on_polling_with_the_old_identity(
    stage: Stage,
) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada")
    mac.levers.eacs_fails = True
    report = await stage.ask(mac, "EraseDevice", ObliterationBehavior="DoNotObliterate")
    assert report["Status"] == "Acknowledged"
    assert "not_erased" in stage.said()
    await mac.idle()
    assert stage.server.statuses()[-1] == "Idle"


async def test_the_preflight_asks_the_server_and_only_once_something_was_escrowed(
    stage: Stage,
) -> None:
    """4.2: the Mac's memory is no proof, this is."""
    mac = await stage.enrolled("mac")

    async def preflight() -> object:
        report = await stage.ask(mac, "DeviceInformation", Queries=["EACSPreflight"])
        return report["QueryResponses"]["EACSPreflight"]

    assert await preflight() == "unknown failure"
    assert "GetBootstrapToken" not in stage.server.kinds()
    await mac.user_login("ada")
    assert await preflight() == "success"
    stage.server.bootstrap_token = b"another"
    assert await preflight() == "unknown failure"
    mac.levers.eacs_preflight = "something else"
    assert await preflight() == "something else"


async def test_a_mac_without_a_security_chip_needs_the_pin_and_is_locked_by_it(
    stage: Stage,
) -> None:
    mac = await stage.enrolled("mac-intel")
    assert (await stage.ask(mac, "EraseDevice"))["Status"] == "CommandFormatError"
    told = await stage.ask(mac, "DeviceInformation", Queries=["EACSPreflight"])
    assert told["QueryResponses"] == {"EACSPreflight": "not supported"}
    assert (await stage.ask(mac, "EraseDevice", PIN="123456"))["Status"] == "Acknowledged"
    with pytest.raises(NotPossible, match="PIN"):
        await mac.enroll(stage.server.profile())
    assert mac.lock_screen.type_pin("123456")
    await mac.enroll(stage.server.profile())


async def test_an_unknown_behaviour_is_refused(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    report = await stage.ask(mac, "EraseDevice", ObliterationBehavior="Perhaps")
    assert report["Status"] == "CommandFormatError"
    assert mac.enrolled


async def test_an_erasure_may_go_unanswered(stage: Stage) -> None:
    phone = await stage.enrolled()
    phone.levers.erase_without_reply = True
    await stage.ask(phone, "EraseDevice")
    assert stage.server.statuses() == ["Idle"]
    assert phone.profile is None


async def test_a_lost_report_does_not_keep_a_device_from_erasing_and_is_never_repeated(
    stage: Stage,
) -> None:
    phone = await stage.enrolled()
    phone.levers.lose_reports = 1
    await stage.ask(phone, "EraseDevice")
    assert phone.profile is None
    await phone.enroll(stage.server.profile())
    stage.server.queues.clear()
    await phone.idle()
    assert stage.server.statuses() == ["Idle", "Idle"]


async def test_the_network_may_be_gone_after_the_reply(stage: Stage) -> None:
    phone = await stage.enrolled()
    phone.levers.erase_cuts_network = True
    assert (await stage.ask(phone, "EraseDevice"))["Status"] == "Acknowledged"
    assert phone.profile is None
    assert phone.levers.offline


async def test_every_secret_is_new_after_an_erasure_but_the_firmware_password(
    stage: Stage,
) -> None:
    """4.13, column D."""
    mac = await stage.enrolled("mac-intel")
    await mac.user_login("ada")
    mac.turn_on_filevault()
    mac.recovery_lock.password, mac.firmware.password = "lock", "firmware"
    before = mac.truth()
    await mac.erase()
    await mac.enroll(stage.server.profile())
    await mac.user_login("ada")
    after = mac.truth()
    assert before.bootstrap_token != after.bootstrap_token is not None
    assert (after.recovery_key, after.recovery_lock) == (None, None)
    assert before.bypass_code != after.bypass_code
    assert after.firmware_password == "firmware"


async def test_macs_before_monterey_know_no_gentle_way(stage: Stage) -> None:
    mac = await stage.enrolled(replace(PERSONALITIES["mac"], os_version="11.7"))
    assert (await stage.ask(mac, "EraseDevice"))["Status"] == "Acknowledged"
    assert stage.events[-1].detail == HARD.value
