"""Erasing devices and having them back: what goes along, and what is believed afterwards."""

from datetime import timedelta
from typing import Any

import pytest

from ostiary.domain.decision import Ask, ByKey, Change, Snapshot
from ostiary.domain.enrollment import Enrollment, Proof, Purpose
from ostiary.domain.erasing import NoBootstrapToken
from ostiary.domain.erasure import Erasure
from ostiary.domain.invitation import Challenge
from ostiary.domain.pairing import CertificateNotPaired, EnrollmentIsOut
from ostiary.domain.token import DEFAULT_TENANT, TokenKind
from ostiary.formats import plist
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.erasures import find_erasure
from ostiary.services.reply import Media, Reply
from scenes.house import APPLE_TV, CATALINA, IPAD, IPHONE, TOPIC, Device, House, Model

NEW_IPHONE = Model("iPhone17,1", "26.1", unlock=True)
V, W = b"\xfb\xef first bootstrap token", b"second bootstrap token"


async def _automated(house: House, model: Model, *, said: bool = True) -> Device:
    """A device that has reported whether Automated Device Enrollment brought it here."""
    device = await house.enrolled(model)
    uuid = await house.enqueue(device.id, "SecurityInfo")
    await device.report()
    status = {"EnrolledViaDEP": said}
    await device.report("Acknowledged", uuid, SecurityInfo={"ManagementStatus": status})
    return device


async def _asks(device: Device) -> dict[str, Any]:
    reply = await device.send("ReturnToService")
    assert isinstance(reply, Reply)
    assert reply.media is Media.PLIST
    answer = plist.read_dict(reply.body).as_mapping()["ReturnToService"]
    assert isinstance(answer, dict)
    return answer


async def _handed_out(device: Device) -> dict[str, Any]:
    command = await device.report()
    assert command is not None
    assert command["Command"]["RequestType"] == "EraseDevice"
    wish = command["Command"]["ReturnToService"]
    assert isinstance(wish, dict)
    return wish


async def _credential_in(house: House, profile: bytes) -> Challenge:
    """The challenge in an enrollment profile, as the CA would find it; asserts that it is unused."""
    payloads: Any = plist.read_dict(profile).as_mapping()["PayloadContent"]
    (scep,) = (one for one in payloads if one["PayloadType"] == "com.apple.security.scep")
    secret = Secret(scep["PayloadContent"]["Challenge"].encode())
    found = await house.storage.challenges.find_challenge(house.sealer.digest("default", secret))
    assert found is not None
    challenge, _, certificate = found
    assert certificate is None, "nobody has used it"
    return challenge


@pytest.mark.case("CI-39")
async def test_a_device_that_wants_to_return_is_told_how(house: House) -> None:
    """check-in-and-commands.md 1.3.8: Enabled, and the token with which it keeps its apps."""
    phone = await _automated(house, NEW_IPHONE)
    await phone.set_bootstrap(V)
    assert await _asks(phone) == {"Enabled": True, "BootstrapToken": V}
    await phone.set_bootstrap(W)
    assert (await _asks(phone))["BootstrapToken"] == W


async def test_a_device_without_a_token_returns_empty(house: House) -> None:
    """1.3.8: without a token it falls back to a full erase; the key is left out, not empty."""
    assert await _asks(await _automated(house, NEW_IPHONE)) == {"Enabled": True}


async def test_who_is_not_known_to_come_back_by_itself_gets_a_profile(house: House) -> None:
    """1.3.8: MDMProfileData, with a credential made for this device."""
    phone = await house.enrolled(NEW_IPHONE)
    answer = await _asks(phone)
    challenge = await _credential_in(house, answer["MDMProfileData"])
    assert challenge.bound.serial_number == phone.serial


async def test_policy_may_keep_devices_as_they_are(house: House) -> None:
    """Enabled false leaves the device as it is."""
    house.set_policy(return_to_service=False)
    assert await _asks(await _automated(house, NEW_IPHONE)) == {"Enabled": False}


async def test_the_token_goes_to_no_certificate_that_proved_nothing(house: House) -> None:
    """A newcomer is told to stay as it is; who is bound to nothing, or has left, is refused."""
    phone = await _automated(house, NEW_IPHONE)
    await phone.set_bootstrap(V)
    stranger = phone.with_certificate("a certificate that proved nothing")
    with pytest.raises(CertificateNotPaired):
        await _asks(stranger)
    await stranger.authenticate()
    await stranger.token_update()
    assert await _asks(stranger) == {"Enabled": False}
    gone = await _automated(house, NEW_IPHONE)
    await gone.send("CheckOut")
    with pytest.raises(EnrollmentIsOut):
        await _asks(gone)


async def test_a_fetch_by_this_way_is_watched_as_any_other(house: House) -> None:
    """design.md 5: who fetches a bootstrap token unexpectedly is told of, whichever message asks."""
    phone = await _automated(house, NEW_IPHONE)
    await phone.set_bootstrap(V)
    house.clock.advance(days=3)
    await _asks(phone)
    assert "bootstrap-token-read" in await house.alerts()


@pytest.mark.case("ER-05")
async def test_a_profile_is_made_when_the_command_leaves(house: House) -> None:
    """escrowed-secrets.md 4.7 rule 7: unused, for days, for this device alone; what waited in a queue would be over."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "EraseDevice", ReturnToService={"Enabled": True})
    house.clock.advance(days=2)
    first = await _credential_in(house, (await _handed_out(phone))["MDMProfileData"])
    assert first.created_at == house.clock.now()
    assert first.valid_until - house.clock.now() >= timedelta(days=2)
    assert (first.purpose, first.bound.serial_number) == (Purpose.ENROLL, phone.serial)
    again = await _credential_in(house, (await _handed_out(phone))["MDMProfileData"])
    assert again.id != first.id, "and each hand-out has its own"


@pytest.mark.case("ER-05")
async def test_a_device_that_came_back_with_it_is_believed(house: House) -> None:
    """It enrolls anew, with proof: nobody has to settle a contest, and what it held before is dead."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "EraseDevice", ReturnToService={"Enabled": True})
    challenge = await _credential_in(house, (await _handed_out(phone))["MDMProfileData"])
    erased = phone.with_certificate("the certificate of its next life")
    await house.credential(
        erased, purpose=challenge.purpose, bound=challenge.bound, profile=challenge.profile
    )
    await erased.authenticate()
    row = await erased.row()
    assert row.proof is Proof.PROVEN
    await erased.token_update(UnlockToken=b"another")
    assert await house.value(phone.id, TokenKind.UNLOCK) == b"another"
    assert "contested" not in await house.alerts()
    assert (await erased.row()).profile == challenge.profile


async def test_a_device_that_comes_back_by_itself_gets_no_profile(house: House) -> None:
    """4.7: MDMProfileData is for those that Automated Device Enrollment does not bring back."""
    phone = await _automated(house, IPHONE)
    wish = {"Enabled": True, "MDMProfileData": b"", "WiFiProfileData": b"<wifi/>"}
    await house.enqueue(phone.id, "EraseDevice", ReturnToService=wish)
    assert await _handed_out(phone) == {"Enabled": True, "WiFiProfileData": b"<wifi/>"}


async def test_one_that_certainly_does_not_come_back_by_itself_may_be_given_one(
    house: House,
) -> None:
    """An empty MDMProfileData asks for one to be made; `ostiary enqueue … --return-to-service` does. (ER-04, ER-05)"""
    tv = await _automated(house, APPLE_TV, said=False)
    wish = {"Enabled": True, "MDMProfileData": b""}
    await house.enqueue(tv.id, "EraseDevice", ReturnToService=wish)
    assert await _credential_in(house, (await _handed_out(tv))["MDMProfileData"])


async def test_a_profile_that_somebody_gave_goes_out_as_it_is(house: House) -> None:
    phone = await house.enrolled(IPHONE)
    wish = {"Enabled": True, "MDMProfileData": b"<mine/>"}
    await house.enqueue(phone.id, "EraseDevice", ReturnToService=wish)
    assert await _handed_out(phone) == wish


async def test_nobody_is_erased_who_could_not_come_back(house: House) -> None:
    """Without a topic no profile enrolls anybody: the command is closed with the reason instead of handed out."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "EraseDevice", ReturnToService={"Enabled": True})
    house.forget_topic(TOPIC)
    assert await phone.report() is None
    assert ("EraseDevice", "cancelled") in await house.queue(phone.id)
    assert "destructive-withheld" in await house.alerts()


@pytest.mark.case("ER-06")
async def test_apps_cannot_be_kept_without_the_token(house: House) -> None:
    """4.7 rule 8: refused with the reason, and nothing is queued."""
    phone = await house.enrolled(NEW_IPHONE)
    wish = {"Enabled": True, "BootstrapToken": b""}
    with pytest.raises(NoBootstrapToken):
        await house.enqueue(phone.id, "EraseDevice", ReturnToService=wish)
    assert await phone.report() is None


async def test_apps_that_cannot_be_kept_any_more_are_not_erased(house: House) -> None:
    """The token was taken back after the command was queued: it does not go out without it."""
    phone = await house.enrolled(NEW_IPHONE)
    await phone.set_bootstrap(V)
    wish = {"Enabled": True, "BootstrapToken": b""}
    await house.enqueue(phone.id, "EraseDevice", ReturnToService=wish)
    await phone.set_bootstrap(None)
    assert await phone.report() is None
    assert ("EraseDevice", "cancelled") in await house.queue(phone.id)


@pytest.mark.case("ER-07")
async def test_the_newest_token_goes_along(house: House) -> None:
    """4.7 rule 8: rendered at hand-out."""
    phone = await _automated(house, NEW_IPHONE)
    await phone.set_bootstrap(V)
    await house.enqueue(phone.id, "EraseDevice", ReturnToService={"Enabled": True})
    await phone.set_bootstrap(W)
    assert await _handed_out(phone) == {"Enabled": True, "BootstrapToken": W}


@pytest.mark.case("ER-01")
async def test_an_error_does_not_say_that_a_mac_was_not_erased(house: House) -> None:
    """4.7 consequence 1: the preflight fails, the Mac says Error and erases itself; every secret is kept."""
    mac = await house.enrolled(CATALINA)
    await mac.set_bootstrap(V)
    uuid = await house.enqueue(mac.id, "EraseDevice")
    assert await _erasure(house, mac) is Erasure.QUEUED
    command = await mac.report()
    assert command is not None
    assert await _erasure(house, mac) is Erasure.MAYBE, "no answer says nothing either"
    await mac.report("Error", uuid, ErrorChain=[])
    assert await _erasure(house, mac) is Erasure.MAYBE
    assert await house.value(mac.id, TokenKind.BOOTSTRAP) == V
    (pin,) = await house.history(mac.id, TokenKind.LOCK_PIN)
    assert pin.state == "suspect"
    record = await house.storage.enrollments.load_record(pin.id)
    assert record is not None
    assert house.open(record).decode() == command["Command"]["PIN"]


@pytest.mark.case("ER-02")
async def test_who_goes_on_polling_was_not_erased(house: House) -> None:
    """4.7 consequence 1: Acknowledged does not mean erased; the secrets are what they were."""
    ipad = await house.enrolled(IPAD)
    uuid = await house.enqueue(ipad.id, "EraseDevice")
    await ipad.report()
    await ipad.report("Acknowledged", uuid)
    assert await _erasure(house, ipad) is Erasure.MAYBE
    house.clock.advance(minutes=30)
    await ipad.report()
    assert await _erasure(house, ipad) is Erasure.NOT_ERASED
    assert await house.value(ipad.id, TokenKind.UNLOCK) == ipad.unlock


async def test_who_enrolled_anew_is_told_as_such(house: House) -> None:
    ipad = await house.enrolled(IPAD)
    assert await _erasure(house, ipad) is None
    uuid = await house.enqueue(ipad.id, "EraseDevice")
    await ipad.report()
    await ipad.report("Acknowledged", uuid)
    house.clock.advance(hours=1)
    await ipad.authenticate()
    await ipad.token_update()
    assert await _erasure(house, ipad) is Erasure.ENROLLED_ANEW


async def _erasure(house: House, device: Device) -> Erasure | None:
    """As the server knows it now; lists of people may lag by what was seen in the last moments."""
    who = ByKey(key=(await device.row()).key)

    def rule(seen: Snapshot) -> Change[Enrollment]:
        assert seen.device is not None
        return Change(at=house.clock.now(), answer=seen.device)

    row = (await house.storage.enrollments.decide(Ask(who=who), rule)).answer
    return await find_erasure(house.storage.reports, row)


async def test_another_erase_in_the_queue_hides_nothing(house: House) -> None:
    """The first may have been carried out; a second that waits, or was cancelled, says nothing of that."""
    ipad = await house.enrolled(IPAD)
    first = await house.enqueue(ipad.id, "EraseDevice")
    await ipad.report()
    await ipad.report("Acknowledged", first)
    second = await house.enqueue(ipad.id, "EraseDevice")
    assert await _erasure(house, ipad) is Erasure.MAYBE
    await house.cancel(ipad.id, second)
    assert await _erasure(house, ipad) is Erasure.MAYBE


async def test_of_the_credentials_that_a_device_was_told_only_the_last_can_be_used(
    house: House,
) -> None:
    """Each message mints one: they must not pile up beside each other."""
    phone = await house.enrolled(NEW_IPHONE)
    profiles = [(await _asks(phone))["MDMProfileData"] for _ in range(4)]
    made = [await _credential_in(house, profile) for profile in profiles]
    now = house.clock.now()
    assert [one.valid_until > now for one in made] == [False, False, False, True]


async def test_a_device_that_is_let_go_does_not_come_back_by_what_it_was_given(
    house: House,
) -> None:
    """Released, it could else enroll as one that proved itself."""
    phone, other = await house.enrolled(NEW_IPHONE), await house.enrolled(NEW_IPHONE)
    profile, others = (
        (await _asks(phone))["MDMProfileData"],
        (await _asks(other))["MDMProfileData"],
    )
    await house.devices.release(
        DEFAULT_TENANT, EnrollmentId(phone.id), actor="operator", reason="stolen"
    )
    assert (await _credential_in(house, profile)).valid_until <= house.clock.now()
    assert (await _credential_in(house, others)).valid_until > house.clock.now()
