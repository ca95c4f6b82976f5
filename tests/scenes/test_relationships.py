"""Who a certificate may speak for: bindings, renewals, contests, and what an operator says."""

from dataclasses import replace

import pytest

from ostiary.domain.authenticate import EnrollmentWasReleased, InvitedAnother, TooManyContenders
from ostiary.domain.enrollment import Bound, Proof, Standing, State
from ostiary.domain.operator import NothingToAccept
from ostiary.domain.pairing import CertificateNotPaired, CertificateSuperseded
from ostiary.domain.token import DEFAULT_TENANT, TokenKind, TokenState
from ostiary.errors import Refused
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.reply import Farewell, Reply
from scenes.house import BYOD_IPHONE, IPHONE, MAC, TOPIC, Device, House


async def accept(house: House, device: Device, fingerprint: str | None = None) -> None:
    """`ostiary device accept-certificate`."""
    await house.devices.accept_certificate(
        DEFAULT_TENANT,
        EnrollmentId(device.id),
        device.identity.fingerprint if fingerprint is not None else None,
        actor="operator",
        reason="seen it myself",
    )


async def relationships(house: House, device: Device) -> list[tuple[Standing, State]]:
    rows = await house.storage.reports.find_enrollments(DEFAULT_TENANT, EnrollmentId(device.id))
    return [(row.standing, row.state) for row in rows if row.parent_key is None]


@pytest.mark.case("CI-46")
async def test_a_certificate_of_one_device_does_not_enroll_another(house: House) -> None:
    """3.8 binding rule 2."""
    phone = await house.enrolled(IPHONE)
    with pytest.raises(CertificateNotPaired):
        await phone.authenticate(UDID="another device")
    assert await house.row("another device") is None


@pytest.mark.case("CI-41")
async def test_a_pending_renewal_is_no_proof_for_a_certificate_without_the_credential(
    house: House,
) -> None:
    """2.3 rule 3: treated as a new enrollment; with the same certificate what was held goes to history."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(b"V")
    await house.renewal_of(mac)
    await mac.authenticate()
    assert (await mac.row()).state is State.PENDING
    (record,) = await house.history(mac.id, TokenKind.BOOTSTRAP)
    assert (record.state, record.cause) == (TokenState.RETIRED, "the device enrolled again")
    assert await mac.get_bootstrap() == b""


@pytest.mark.case("UT-12")
async def test_an_unproven_new_start_retires_the_unlock_token(house: House) -> None:
    """2.3-C: not offered, visible in history."""
    phone = await house.enrolled(IPHONE)
    await phone.authenticate()
    await phone.token_update(UnlockToken=None)
    assert await house.value(phone.id, TokenKind.UNLOCK) is None
    (record,) = await house.history(phone.id, TokenKind.UNLOCK)
    assert record.state is TokenState.RETIRED


@pytest.mark.case("CI-44")
async def test_a_renewal_that_failed_on_the_device_is_over_when_the_old_certificate_speaks(
    house: House,
) -> None:
    """2.4 row 8: accepted, both bindings stay."""
    mac = await house.enrolled(MAC)
    house.clock.advance(days=300)
    renewed = await house.renewal_of(mac)
    await renewed.authenticate()
    assert (await mac.row()).state is State.RENEWING
    assert await mac.report() is None
    assert (await mac.row()).state is State.ENROLLED
    assert await renewed.report() is None


@pytest.mark.case("CI-45")
async def test_after_a_completed_renewal_the_old_certificate_is_refused_by_name(
    house: House,
) -> None:
    """3.8 binding rule 5: refused, not 401."""
    mac = await house.enrolled(MAC)
    renewed = await house.renewal_of(mac)
    await renewed.authenticate()
    await renewed.token_update()
    with pytest.raises(CertificateSuperseded) as refused:
        await mac.report()
    assert isinstance(refused.value, Refused)
    assert (await mac.row()).state is State.ENROLLED


@pytest.mark.case("CI-47")
async def test_on_first_use_an_enrollment_without_binding_gets_one_once(house: House) -> None:
    """3.8 binding rule 3: retroactive mode."""
    phone = await house.enrolled(IPHONE)
    house.forget_bindings()
    with pytest.raises(CertificateNotPaired):
        await phone.token_update()
    house.set_policy(bind_on_first_use=True)
    await phone.token_update(Token=b"\x07" * 32)
    assert (await house.push_address(phone.id))[0] == b"\x07" * 32
    with pytest.raises(CertificateNotPaired):
        await phone.with_certificate("another").token_update()


async def test_a_live_relationship_loses_nothing_to_an_unproven_newcomer(house: House) -> None:
    """2.3, contested: the old binding goes on working, commands go to it."""
    phone = await house.enrolled(IPHONE)
    newcomer = phone.with_certificate("newcomer")
    await newcomer.authenticate()
    await newcomer.token_update(UnlockToken=b"of the newcomer", Token=b"\x03" * 32)
    assert await relationships(house, phone) == [
        (Standing.CURRENT, State.ENROLLED),
        (Standing.CONTESTED, State.ENROLLED),
    ]
    assert "contested" in await house.alerts()
    await house.enqueue(phone.id, "ClearPasscode")
    assert "ClearPasscode" not in await newcomer.drain()
    command = await phone.report()
    assert command is not None
    assert command["Command"]["UnlockToken"] == phone.unlock


async def test_an_operator_settles_a_contest(house: House) -> None:
    """2.3: `device accept-certificate`."""
    phone = await house.enrolled(IPHONE)
    newcomer = phone.with_certificate("newcomer")
    await newcomer.authenticate()
    await newcomer.token_update(UnlockToken=b"of the newcomer")
    await accept(house, phone)
    with pytest.raises(CertificateSuperseded):
        await phone.report()
    assert await house.value(phone.id, TokenKind.UNLOCK) == b"of the newcomer"
    assert (await phone.row()).proof is Proof.ACCEPTED
    old, new = await house.history(phone.id, TokenKind.UNLOCK)
    assert (old.state, new.state) == (TokenState.RETIRED, TokenState.OK)


async def test_silence_of_the_old_side_settles_a_contest(house: House) -> None:
    """2.3: a policy time, by default 24 hours, counted from the contest's beginning."""
    phone = await house.enrolled(IPHONE)
    house.clock.advance(days=10)
    newcomer = phone.with_certificate("newcomer")
    await newcomer.authenticate()
    await house.pushed(phone.id)
    await newcomer.token_update()
    assert len(await relationships(house, phone)) == 2
    house.clock.advance(hours=25)
    await newcomer.report()
    assert (Standing.CURRENT, State.ENROLLED) in await relationships(house, phone)
    assert (Standing.ENDED, State.OUT) in await relationships(house, phone)
    with pytest.raises(CertificateSuperseded):
        await phone.report()


async def test_a_side_that_nobody_asked_is_not_silent(house: House) -> None:
    """2.3: a device speaks when it is pushed; a healthy one must not be lost because nobody had work for it."""
    phone = await house.enrolled(IPHONE)
    newcomer = phone.with_certificate("newcomer")
    await newcomer.authenticate()
    assert await house.due() == [phone.id]  # asked at once; this push gets lost
    await newcomer.token_update()
    house.clock.advance(hours=25)
    await newcomer.report()
    assert (await phone.row()).unlock is not None
    assert await phone.report() is None


async def test_a_side_that_is_asked_again_and_stays_silent_gives_way(house: House) -> None:
    """2.3: the policy time is counted anew from the question, and only then ends the old side."""
    phone = await house.enrolled(IPHONE)
    newcomer = phone.with_certificate("newcomer")
    await newcomer.authenticate()
    await house.pushed(phone.id)
    await phone.report()
    house.clock.advance(hours=25)
    await newcomer.authenticate()
    assert (Standing.CONTESTED, State.PENDING) in await relationships(house, phone)
    await house.pushed(phone.id)
    house.clock.advance(hours=23)
    await newcomer.authenticate()
    assert (Standing.CONTESTED, State.PENDING) in await relationships(house, phone)
    house.clock.advance(hours=2)
    await newcomer.authenticate()
    assert (Standing.ENDED, State.OUT) in await relationships(house, phone)


async def test_an_old_side_that_speaks_keeps_its_place(house: House) -> None:
    """2.3: silence is counted from its last word."""
    phone = await house.enrolled(IPHONE)
    newcomer = phone.with_certificate("newcomer")
    await newcomer.authenticate()
    await newcomer.token_update()
    for _ in range(3):
        house.clock.advance(hours=20)
        await phone.report()
        await newcomer.report()
    assert len(await relationships(house, phone)) == 2
    assert await phone.report() is None


async def test_check_out_of_the_old_side_settles_a_contest(house: House) -> None:
    """2.3."""
    phone = await house.enrolled(IPHONE)
    newcomer = phone.with_certificate("newcomer")
    await newcomer.authenticate()
    await newcomer.token_update(UnlockToken=b"of the newcomer")
    await phone.send("CheckOut", Topic=TOPIC)
    assert await house.value(phone.id, TokenKind.UNLOCK) == b"of the newcomer"


async def test_a_credential_minted_for_the_serial_number_proves_a_new_enrollment(
    house: House,
) -> None:
    """2.3: proof ends what would be a contest; the old certificate is out."""
    phone = await house.enrolled(IPHONE)
    again = phone.with_certificate("issued for its serial number")
    await house.credential(again, bound=Bound(serial_number=phone.serial))
    await again.authenticate()
    assert await relationships(house, phone) == [(Standing.CURRENT, State.PENDING)]
    assert (await phone.row()).proof is Proof.PROVEN
    await again.token_update(UnlockToken=None)
    assert await house.value(phone.id, TokenKind.UNLOCK) is None
    with pytest.raises(CertificateSuperseded):
        await phone.report()


async def test_a_credential_for_another_serial_number_enrolls_nobody(house: House) -> None:
    """design.md 3: the challenge remembers what the invitation was bound to."""
    phone = house.device(IPHONE)
    await house.credential(phone, bound=Bound(serial_number="SOMEONE ELSE"))
    with pytest.raises(InvitedAnother):
        await phone.authenticate()
    assert await house.row(phone.id) is None


async def test_an_identity_renewed_for_one_enrollment_serves_no_other(house: House) -> None:
    """users.md 5.4 case 22: a device may mint renewals for itself; they contest and enroll nobody else."""
    victim, mac = await house.enrolled(MAC), await house.enrolled(MAC)
    renewed = await house.renewal_of(mac)
    for udid in (victim.udid, "a device that nobody invited"):
        with pytest.raises(InvitedAnother):
            await replace(renewed, udid=udid).authenticate()
    assert len(await relationships(house, victim)) == 1
    assert await house.row("a device that nobody invited") is None


async def test_a_renewed_identity_does_not_adopt_an_enrollment_without_a_certificate(
    house: House,
) -> None:
    """3.8 rule 3: first use binds what is nobody's, and a renewal is its own device's."""
    house.set_policy(bind_on_first_use=True)
    mac = await house.enrolled(MAC)
    imported = await house.enrolled(IPHONE)
    renewed = await house.renewal_of(mac)
    house.forget_bindings()
    with pytest.raises(CertificateNotPaired):
        await replace(renewed, udid=imported.udid).report()


async def test_a_repeated_authenticate_with_the_same_certificate_is_a_retry(house: House) -> None:
    """3.8 rule 8, 2.4 row 3."""
    phone = house.device(IPHONE)
    await phone.authenticate()
    key = (await phone.row()).key
    await phone.authenticate()
    await phone.token_update()
    assert (await phone.row()).key == key
    assert (await phone.row()).state is State.ENROLLED


async def test_a_named_certificate_is_let_in_once(house: House) -> None:
    """3.8 rule 6: a certificate may change without any check-in message."""
    phone = await house.enrolled(IPHONE)
    changed = phone.with_certificate("renewed outside of management")
    with pytest.raises(CertificateNotPaired):
        await changed.report()
    assert "certificate-not-paired" in await house.alerts()
    await accept(house, changed, fingerprint="")
    assert await changed.report() is None
    with pytest.raises(CertificateNotPaired):
        await phone.with_certificate("a third").report()


async def test_there_is_nothing_to_accept_without_a_contest(house: House) -> None:
    phone = await house.enrolled(IPHONE)
    with pytest.raises(NothingToAccept):
        await accept(house, phone)


async def test_a_released_device_comes_back_only_by_a_younger_invitation(house: House) -> None:
    """2.4 row 1: never from REVOKED, and an unknown certificate is never answered with a farewell. (3.7)"""
    phone = await house.enrolled(IPHONE)
    earlier = phone.with_certificate("invited before")
    await house.credential(earlier, bound=Bound(serial_number=phone.serial))
    house.clock.advance(minutes=1)
    await house.devices.release(DEFAULT_TENANT, EnrollmentId(phone.id), actor="op", reason="sold")
    assert isinstance(await phone.authenticate(), Farewell)
    for stranger in (phone.with_certificate("anybody's"), earlier):
        with pytest.raises(EnrollmentWasReleased):
            await stranger.authenticate()
    house.clock.advance(minutes=1)
    invited = phone.with_certificate("invited since")
    await house.credential(invited, bound=Bound(serial_number=phone.serial))
    assert await invited.authenticate() is Reply.EMPTY
    await invited.token_update()
    assert (await phone.row()).state is State.ENROLLED


async def test_contenders_are_bounded(house: House) -> None:
    """Whoever holds many certificates cannot fill the database with relationships."""
    phone = await house.enrolled(IPHONE)
    for number in range(7):
        await phone.with_certificate(f"newcomer {number}").authenticate()
    with pytest.raises(TooManyContenders):
        await phone.with_certificate("one too many").authenticate()


async def test_an_erased_device_that_contests_still_leaves_setup_assistant(house: House) -> None:
    """3.5: without DeviceConfigured it would sit there for ever; it gets nothing else that was there before."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(b"V")
    await house.enqueue(mac.id, "ProfileList")
    erased = mac.with_certificate("after the erase")
    await erased.authenticate()
    await erased.token_update(AwaitingConfiguration=True)
    assert await erased.drain() == ["DeviceInformation", "SecurityInfo", "DeviceConfigured"]
    assert await erased.get_bootstrap() == b""


async def test_an_identity_renewed_without_any_message_is_proven_by_its_credential(
    house: House,
) -> None:
    """3.8 rules 5, 6: a RenewalReq sends no Authenticate; the first request with the new one drops the old."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(b"V")
    renewed = await house.renewal_of(mac)
    assert await renewed.get_bootstrap() == b"V"
    assert (await mac.row()).state is State.ENROLLED
    with pytest.raises(CertificateSuperseded):
        await mac.report()


async def test_a_released_device_does_not_come_back_by_a_renewal(house: House) -> None:
    """2.4 row 12: a renewal challenge may have been out when the operator released the device."""
    mac = await house.enrolled(MAC)
    await house.devices.release(DEFAULT_TENANT, EnrollmentId(mac.id), actor="op", reason="stolen")
    house.clock.advance(days=1)
    renewed = await house.renewal_of(mac)
    with pytest.raises(EnrollmentWasReleased):
        await renewed.authenticate()
    with pytest.raises(CertificateNotPaired):
        await renewed.report()


async def test_a_new_start_with_the_old_certificate_ends_a_renewal(house: House) -> None:
    """2.3-C with the same certificate, also while a renewal was under way."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(b"V")
    renewed = await house.renewal_of(mac)
    await renewed.authenticate()
    await renewed.authenticate()
    assert (await mac.row()).state is State.RENEWING
    await mac.authenticate()
    assert (await mac.row()).state is State.PENDING
    assert await mac.get_bootstrap() == b""


async def test_proof_turns_every_other_newcomer_away(house: House) -> None:
    """2.3: whoever contested before is answered, and cannot win by patience afterwards."""
    phone = await house.enrolled(IPHONE)
    squatter = phone.with_certificate("squatter")
    await squatter.authenticate()
    await squatter.token_update()
    again = phone.with_certificate("issued for its serial number")
    await house.credential(again, bound=Bound(serial_number=phone.serial))
    await again.authenticate()
    assert await relationships(house, phone) == [
        (Standing.CURRENT, State.PENDING),
        (Standing.ENDED, State.OUT),
    ]
    with pytest.raises(CertificateSuperseded):
        await squatter.report()


async def test_an_operator_keeps_the_certificate_in_use(house: House) -> None:
    """2.3: a contest can be settled for the old side, too."""
    phone = await house.enrolled(IPHONE)
    for name in ("one", "another"):
        await phone.with_certificate(name).authenticate()
    keep = house.devices.keep_certificate
    await keep(DEFAULT_TENANT, EnrollmentId(phone.id), actor="op", reason="it is on my desk")
    assert await phone.report() is None
    with pytest.raises(CertificateSuperseded):
        await phone.with_certificate("one").token_update()
    with pytest.raises(NothingToAccept):
        await keep(DEFAULT_TENANT, EnrollmentId(phone.id), actor="op", reason="again")


async def test_an_id_squatted_by_another_kind_of_enrollment_is_contested_and_settled(
    house: House,
) -> None:
    """2.1: a User Enrollment that calls itself by a Mac's UDID does not shut the Mac out."""
    squatter = await house.enrolled(BYOD_IPHONE, udid="THE-UDID")
    mac = house.device(MAC, udid="THE-UDID", certificate="the Mac's own")
    await mac.authenticate()
    assert (Standing.CONTESTED, State.PENDING) in await relationships(house, mac)
    await mac.token_update()
    await accept(house, mac)
    assert (await mac.row()).type == "Device"
    await mac.set_bootstrap(b"V")
    assert await mac.get_bootstrap() == b"V"
    with pytest.raises(CertificateSuperseded):
        await squatter.report()


async def test_a_renewal_leaves_what_is_known_of_the_device(house: House) -> None:
    """Authenticate leaves the name out, and the first commands are not asked again: absence never erases."""
    mac = await house.enrolled(MAC)
    await mac.authenticate(DeviceName="Ada's Mac")
    await mac.token_update()
    renewed = await house.renewal_of(mac)
    await renewed.authenticate(OSVersion="26.2")
    await renewed.authenticate(OSVersion="26.2")
    await renewed.token_update()
    facts = (await mac.row()).facts
    assert (facts.device_name, facts.os_version) == ("Ada's Mac", "26.2")
