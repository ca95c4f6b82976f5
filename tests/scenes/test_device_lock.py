"""Locks: whoever stands before a locked Mac finds its PIN here, whatever was heard of the lock. (4.6)"""

from typing import Any

import pytest

from ostiary.domain.escrow import EscrowState
from ostiary.domain.escrow_orders import AnotherPinPending, PinNotForThisPlatform
from ostiary.domain.suitability import CommandNotForThisEnrollment
from ostiary.domain.token import TokenKind, TokenState
from ostiary.formats import plist
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.protocol.mdm.lock_commands import UnusablePin
from ostiary.services.commands import Enqueued
from ostiary.services.reveal import NotTakenYet
from ostiary.services.secrets_desk import SecretsDesk
from ostiary.web.secret_lines import revealed_line
from ostiary.web.typed_commands import build_command
from scenes.house import (
    BYOD_IPHONE,
    INTEL_MAC,
    IPAD,
    IPHONE,
    MAC,
    OPERATOR,
    Device,
    House,
    Model,
)

PIN = TokenKind.LOCK_PIN
LOCK = "DeviceLock"
BYOD_MAC = Model("Mac14,2", "15.1", unlock=False, user_enrollment=True)


async def by_words(house: House, device: Device, **given: str) -> Enqueued:
    """As `ostiary enqueue ID device-lock` asks."""
    command = build_command("device-lock", given)
    return await house.desk.enqueue([EnrollmentId(device.id)], command, OPERATOR)


async def by_plist(house: House, device: Device, **keys: str) -> Enqueued:
    """As /v1/enqueue asks."""
    body = plist.encode({"Command": {"RequestType": LOCK, **keys}})
    return await house.desk.enqueue_raw([EnrollmentId(device.id)], body, OPERATOR, pushes=False)


async def handed_out(device: Device) -> dict[str, Any]:
    command = await device.report()
    assert command is not None
    assert command["Command"]["RequestType"] == LOCK
    return command


@pytest.mark.case("DL-01")
@pytest.mark.parametrize("door", [by_words, by_plist], ids=["words", "plist"])
@pytest.mark.parametrize("model", [MAC, INTEL_MAC], ids=["apple-silicon", "intel"])
async def test_a_pin_is_drawn_and_stored_before_the_lock_can_be_fetched(
    house: House, door: Any, model: Model
) -> None:
    """4.6: six digits; every Mac, through both doors."""
    mac = await house.enrolled(model)
    await door(house, mac)
    (stored,) = await house.generations(mac.id, PIN)
    pin = stored.decode()
    assert len(pin) == 6
    assert pin.isdecimal()
    assert (await handed_out(mac))["Command"]["PIN"] == pin


@pytest.mark.case("DL-01")
async def test_a_pin_that_was_given_is_the_one_that_is_stored(house: House) -> None:
    """4.6: no door leads past the ledger."""
    one, other = await house.enrolled(MAC), await house.enrolled(MAC)
    await by_words(house, one, pin="012345", message="call us")
    await by_plist(house, other, PIN="678901")
    for mac, pin in ((one, "012345"), (other, "678901")):
        assert await house.believed(mac.id, PIN) == [pin.encode()]
        assert (await handed_out(mac))["Command"]["PIN"] == pin


@pytest.mark.case("DL-01")
@pytest.mark.parametrize("name", [LOCK, "EraseDevice"])
@pytest.mark.parametrize("given", ["654321", None])
async def test_a_device_that_never_said_what_it_is_gets_a_pin_that_is_kept(
    house: House, name: str, given: str | None
) -> None:
    """4.6, 4.7: it may be a Mac, which nobody could open without one; others ignore it."""
    nameless = house.device(MAC)
    await nameless.authenticate(ProductName=None, OSVersion=None)
    await nameless.token_update()
    await nameless.drain()
    await house.enqueue(nameless.id, name, **({} if given is None else {"PIN": given}))
    (kept,) = await house.believed(nameless.id, PIN)
    command = await nameless.report()
    assert command is not None
    assert command["Command"] == {"RequestType": name, "PIN": kept.decode()}
    assert given in (None, kept.decode())


async def test_pins_are_drawn_for_each_mac_by_itself(house: House) -> None:
    """4.0.2 rule 8. One command for many Macs; three equal PINs of a million would be no chance."""
    macs = [await house.enrolled(MAC) for _ in range(3)]
    await house.desk.enqueue(
        [EnrollmentId(mac.id) for mac in macs], {"RequestType": LOCK}, OPERATOR
    )
    pins = {(await handed_out(mac))["Command"]["PIN"] for mac in macs}
    assert len(pins) > 1


@pytest.mark.parametrize("pin", ["12345", "1234567", "12345a", "１２３４５６"])
async def test_a_pin_that_no_lock_screen_takes_is_refused(house: House, pin: str) -> None:
    mac = await house.enrolled(MAC)
    with pytest.raises(UnusablePin):
        await by_plist(house, mac, PIN=pin)
    with pytest.raises(UnusablePin):
        await by_words(house, mac, pin=pin)
    assert await house.history(mac.id, PIN) == []


@pytest.mark.case("DL-02")
async def test_the_pin_of_a_lock_that_was_never_answered_stays_visible_and_uncertain(
    house: House,
) -> None:
    """4.6: Zentral stores at Acknowledged only, and such a Mac's PIN is lost."""
    mac = await house.enrolled(MAC)
    await by_words(house, mac)
    pin = (await handed_out(mac))["Command"]["PIN"].encode()
    assert await house.believed(mac.id, PIN) == [pin], "at once"
    house.clock.advance(days=8)
    await house.escrow_watch.tend()
    stands = await house.stands(mac.id, PIN)
    assert stands is not None
    assert stands.state is EscrowState.UNCERTAIN
    house.clock.advance(days=400)
    await house.escrow_watch.tend()
    assert await house.believed(mac.id, PIN) == [pin]
    assert "lock-pin-uncertain" in await house.alerts()


@pytest.mark.case("DL-03")
async def test_a_lock_that_is_fetched_twice_carries_the_same_uuid_and_pin(house: House) -> None:
    """4.6, 4.0.2 rule 6: pinned."""
    mac = await house.enrolled(MAC)
    await by_words(house, mac)
    assert await handed_out(mac) == await handed_out(mac)


@pytest.mark.case("DL-03")
async def test_every_lock_before_the_first_answer_carries_the_same_pin(house: House) -> None:
    """4.6, re-issue: whoever read the first PIN stands before a Mac that any of them may have locked."""
    mac = await house.enrolled(MAC)
    await by_words(house, mac)
    first = await handed_out(mac)
    for _ in range(2):
        await house.cancel_live(mac.id)
        await by_words(house, mac)
        again = await handed_out(mac)
        assert again["CommandUUID"] != first["CommandUUID"]
        assert again["Command"]["PIN"] == first["Command"]["PIN"]
    assert await house.believed(mac.id, PIN) == [first["Command"]["PIN"].encode()]


async def test_a_lock_after_an_answered_one_has_a_pin_of_its_own(house: House) -> None:
    """4.6: one PIN per lock event, history kept."""
    mac = await house.enrolled(MAC)
    pins = []
    for _ in range(2):
        await by_words(house, mac)
        command = await handed_out(mac)
        await mac.report("Acknowledged", command["CommandUUID"])
        pins.append(command["Command"]["PIN"].encode())
    assert await house.believed(mac.id, PIN) == pins[1:]
    before, after = await house.history(mac.id, PIN)
    assert (before.state, after.state) == (TokenState.SUPERSEDED, TokenState.OK)
    assert await house.generations(mac.id, PIN) == pins


@pytest.mark.case("DL-04")
async def test_an_iphone_without_a_passcode_is_shown_as_not_protected(house: House) -> None:
    """4.6: on iOS there is no PIN; NoPasscodeSet means nothing is protected."""
    phone = await house.enrolled(IPHONE)
    done = await by_words(house, phone, message="please return")
    command = await handed_out(phone)
    assert "PIN" not in command["Command"]
    await phone.report("Acknowledged", command["CommandUUID"], MessageResult="NoPasscodeSet")
    (line,) = [
        line.alert
        for line in await house.storage.reports.list_alerts(OPERATOR.tenant, limit=50)
        if line.alert.kind == "lock-without-passcode"
    ]
    assert line.subject == phone.id
    assert "not protected" in line.sentence
    assert await house.history(phone.id, PIN) == []
    assert done.uuid == command["CommandUUID"]


async def test_an_iphone_that_is_protected_raises_no_alert(house: House) -> None:
    phone = await house.enrolled(IPHONE)
    await by_words(house, phone, message="please return")
    command = await handed_out(phone)
    await phone.report("Acknowledged", command["CommandUUID"], MessageResult="Success")
    assert "lock-without-passcode" not in await house.alerts()


@pytest.mark.case("DL-05")
async def test_a_private_mac_is_not_locked_and_a_private_iphone_is(house: House) -> None:
    """4.6: User Enrollment allowed on iOS and visionOS, forbidden on macOS."""
    mac, phone = await house.enrolled(BYOD_MAC), await house.enrolled(BYOD_IPHONE)
    (refused,) = (await by_words(house, mac)).refused.values()
    assert isinstance(refused, CommandNotForThisEnrollment)
    assert await house.history(mac.id, PIN) == []
    assert await mac.report() is None
    (refused,) = (await by_words(house, phone)).refused.values()
    assert refused is None
    assert "PIN" not in (await handed_out(phone))["Command"]


@pytest.mark.parametrize("model", [IPHONE, IPAD, BYOD_IPHONE], ids=["iphone", "ipad", "byod"])
@pytest.mark.parametrize("name", [LOCK, "EraseDevice"])
async def test_a_pin_for_a_device_that_takes_none_is_refused_and_not_forgotten(
    house: House, model: Model, name: str
) -> None:
    """4.6, 4.7: PIN is macOS alone; whoever gave one believes that it opens the device."""
    device = await house.enrolled(model)
    forbidden = name != LOCK and model.user_enrollment
    error = CommandNotForThisEnrollment if forbidden else PinNotForThisPlatform
    with pytest.raises(error):
        await house.enqueue(device.id, name, PIN="123456")
    assert await house.history(device.id, PIN) == []
    assert await device.report() is None
    if not forbidden:
        await house.enqueue(device.id, name)
        assert await device.drain() == [name]


async def test_a_pin_for_the_erase_of_a_mac_that_needs_none_is_kept_and_sent(house: House) -> None:
    """4.7 consequence 6: Apple silicon accepts it; what somebody gave is never dropped."""
    mac = await house.enrolled(MAC)
    await house.enqueue(mac.id, "EraseDevice", PIN="123456")
    assert await house.believed(mac.id, PIN) == [b"123456"]
    command = await mac.report()
    assert command is not None
    assert command["Command"]["PIN"] == "123456"
    other = await house.enrolled(MAC)
    await house.enqueue(other.id, "EraseDevice")
    assert await house.history(other.id, PIN) == []


@pytest.mark.case("DL-03")
@pytest.mark.parametrize("fetched", [False, True], ids=["waits", "went out"])
async def test_beside_an_unanswered_lock_every_given_pin_is_refused_with_the_same_words(
    house: House, *, fetched: bool
) -> None:
    """4.6, re-issue: it must carry the same PIN. Whoever may lock but not reveal learns nothing of it by trying."""
    mac = await house.enrolled(MAC)
    await by_words(house, mac, pin="111111")
    if fetched:
        await handed_out(mac)
    said = set()
    for pin in ("222222", "111111"):
        for door in (by_words, by_plist):
            given = {"pin": pin} if door is by_words else {"PIN": pin}
            (refused,) = (await door(house, mac, **given)).refused.values()
            assert isinstance(refused, AnotherPinPending)
            said.add(f"{refused} {refused.hint}")
    assert len(said) == 1
    assert "111111" not in said.pop()
    assert await house.generations(mac.id, PIN) == [b"111111"]
    drawn = await by_words(house, mac)
    assert drawn.pending_pins == {mac.id}, "the prompt says so"
    assert await house.believed(mac.id, PIN) == [b"111111"]


async def test_after_a_lock_that_nobody_fetched_was_cancelled_another_pin_is_free(
    house: House,
) -> None:
    """As the refusal's hint says."""
    mac = await house.enrolled(MAC)
    await by_words(house, mac, pin="111111")
    await house.cancel_live(mac.id)
    done = await by_words(house, mac, pin="222222")
    assert (done.refused[EnrollmentId(mac.id)], done.pending_pins) == (None, frozenset())
    assert (await handed_out(mac))["Command"]["PIN"] == "222222"


@pytest.mark.case("DL-02")
async def test_what_a_person_may_reveal_of_a_pin_is_what_the_overview_says(house: House) -> None:
    """Before the Mac has fetched the lock by its number alone, which the refusal names; afterwards as it is."""
    mac = await house.enrolled(MAC)
    await by_words(house, mac, pin="111111")
    assert await offered(house, mac) == ("reveal --generation 1",)
    asked = {"reason": "ticket 4711"}
    with pytest.raises(NotTakenYet, match="--generation 1 shows it"):
        await house.reveals.reveal(EnrollmentId(mac.id), PIN, OPERATOR, **asked)
    waiting = await house.reveals.reveal(EnrollmentId(mac.id), PIN, OPERATOR, generation=1, **asked)
    assert [one.value.reveal() for one in waiting.shown] == [b"111111"]
    assert "does not hold this value yet" in revealed_line(waiting)["sentence"]
    await handed_out(mac)
    assert await offered(house, mac) == ("reveal",)
    revealed = await house.reveals.reveal(EnrollmentId(mac.id), PIN, OPERATOR, **asked)
    assert [one.value.reveal() for one in revealed.shown] == [b"111111"]
    assert "not certain" in revealed_line(revealed)["sentence"]


async def offered(house: House, mac: Device) -> tuple[str, ...]:
    desk = SecretsDesk(house.storage.reports, house.storage.escrows, house.clock)
    held = await desk.secrets_of(OPERATOR.tenant, mac.id)
    (pin,) = [one for one in held.secrets if one.kind is PIN]
    return pin.can


async def test_a_dry_run_refuses_every_pin_beside_an_unanswered_lock(house: House) -> None:
    """Decided by the same rules: it audits nothing, so nobody would see the guesses."""
    mac = await house.enrolled(MAC)
    await by_words(house, mac, pin="111111")
    said = set()
    for pin in ("222222", "111111"):
        command = build_command("device-lock", {"pin": pin})
        tried = await house.desk.rehearse([EnrollmentId(mac.id)], command, OPERATOR)
        refused = tried.targets[EnrollmentId(mac.id)].refused
        assert isinstance(refused, AnotherPinPending)
        said.add(str(refused))
    assert len(said) == 1
