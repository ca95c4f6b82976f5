"""Scenes that random lives, and reading for them, led to; each was a bug once."""

from datetime import timedelta

import pytest

from ostiary.domain.enrollment import Bound, InstalledProfile, Proof, Standing, State
from ostiary.domain.pairing import CertificateSuperseded
from ostiary.domain.token import DEFAULT_TENANT, TokenKind, TokenState
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.reply import Farewell, Reply
from scenes.house import ALL_F, FULL_PROFILE, IPHONE, MAC, SHARED_IPAD, TOPIC, Device, House


async def contested(device: Device, name: str = "newcomer", *, asked: bool = False) -> Device:
    """A newcomer that stands beside a live relationship and has handed over tokens of its own.

    `asked`: the push that asks the old side to speak reached APNs, so that its silence says something.
    """
    newcomer = device.with_certificate(name)
    await newcomer.authenticate()
    if asked:
        await device.house.pushed(device.id)
    await newcomer.token_update(UnlockToken=b"of the newcomer", Token=b"\x03" * 32)
    return newcomer


async def standings(house: House, device: Device) -> dict[Standing, State]:
    rows = await house.storage.reports.find_enrollments(DEFAULT_TENANT, EnrollmentId(device.id))
    return {row.standing: row.state for row in rows if row.parent_key is None}


async def test_a_newcomer_that_leaves_after_the_old_side_fell_silent_just_leaves(
    house: House,
) -> None:
    """2.3, 2.4 row 10: the CheckOut settles the contest and ends the newcomer, in one change."""
    phone = await house.enrolled(IPHONE)
    newcomer = await contested(phone, asked=True)
    house.clock.advance(hours=25)
    assert await newcomer.send("CheckOut", Topic=TOPIC) is Reply.EMPTY
    assert (await phone.row()).state is State.OUT


async def test_a_newcomer_that_left_takes_nothing_over(house: House) -> None:
    """2.3: silence of the old side is no reason to end it for a newcomer that is gone itself."""
    phone = await house.enrolled(IPHONE)
    newcomer = await contested(phone)
    await newcomer.send("CheckOut", Topic=TOPIC)
    house.clock.advance(hours=25)
    await newcomer.report()
    assert (await standings(house, phone))[Standing.CURRENT] is State.ENROLLED
    assert await house.value(phone.id, TokenKind.UNLOCK) == phone.unlock
    await phone.send("CheckOut", Topic=TOPIC)
    assert await house.value(phone.id, TokenKind.UNLOCK) == phone.unlock


async def test_the_users_of_the_side_that_lost_a_contest_are_out_whatever_settled_it(
    house: House,
) -> None:
    """2.3: user channels are disabled with their device."""
    mac = await house.enrolled(MAC)
    await mac.token_update(UserID="U", UserShortName="u")
    newcomer = await contested(mac, asked=True)
    house.clock.advance(hours=25)
    await newcomer.authenticate()
    rows = await house.storage.reports.find_enrollments(DEFAULT_TENANT, EnrollmentId(f"{mac.id}:U"))
    assert [row.state for row in rows] == [State.OUT]


async def test_a_released_device_is_told_so_though_a_newcomer_contested_it(house: House) -> None:
    """2.4 row 12: any request, and never from REVOKED without a younger invitation."""
    phone = await house.enrolled(IPHONE)
    newcomer = await contested(phone)
    await house.devices.release(DEFAULT_TENANT, EnrollmentId(phone.id), actor="op", reason="sold")
    await newcomer.report_raw()
    assert isinstance(await phone.report_raw(), Farewell)
    assert (await standings(house, phone))[Standing.CURRENT] is State.REVOKED
    await house.devices.accept_certificate(
        DEFAULT_TENANT, EnrollmentId(phone.id), None, actor="op", reason="mine"
    )
    assert await newcomer.report() is not None
    assert isinstance(await phone.report_raw(), Farewell)


async def test_one_of_several_newcomers_is_accepted_by_its_certificate(house: House) -> None:
    """2.3: a contest ends by an operator, who must be able to say for whom."""
    phone = await house.enrolled(IPHONE)
    await contested(phone, "first newcomer")
    second = await contested(phone, "second newcomer")
    await house.devices.accept_certificate(
        DEFAULT_TENANT,
        EnrollmentId(phone.id),
        second.identity.fingerprint,
        actor="op",
        reason="seen it",
    )
    await second.report()
    row = await phone.row()
    assert (row.standing, row.proof) == (Standing.CURRENT, Proof.ACCEPTED)
    assert await house.value(phone.id, TokenKind.UNLOCK) == b"of the newcomer"
    with pytest.raises(CertificateSuperseded):
        await phone.report()


async def test_a_device_that_enrolls_again_has_the_rights_of_its_new_profile(house: House) -> None:
    """6.1: rights come with the installed profile; the hint of AccessRightMissing says to enroll again."""
    phone = house.device(IPHONE)
    poor = InstalledProfile(access_rights=8191 & ~4, capabilities=frozenset())
    await house.credential(phone, profile=poor)
    await phone.authenticate()
    await phone.token_update()
    again = phone.with_certificate("with a better profile")
    await house.credential(again, bound=Bound(serial_number=phone.serial))
    await again.authenticate()
    await again.token_update()
    assert (await phone.row()).profile == FULL_PROFILE
    await house.enqueue(phone.id, "ClearPasscode")


async def test_an_unlock_token_that_came_after_the_hand_out_is_not_judged_by_its_result(
    house: House,
) -> None:
    """design.md 2, stored is not proven: the value that was sent proved itself, not a later one."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "ClearPasscode")
    command = await phone.report()
    assert command is not None
    house.clock.advance(seconds=5)
    await phone.token_update(UnlockToken=b"a later one")
    house.clock.advance(seconds=5)
    await phone.report("Error", command["CommandUUID"])
    _, later = await house.history(phone.id, TokenKind.UNLOCK)
    assert (later.state, later.proven_at) == (TokenState.OK, None)


async def test_a_token_handed_over_again_after_the_renewal_began_survives_an_erase(
    house: House,
) -> None:
    """2.3 D, TU-20: what the device said since its Authenticate is its own, though the value is not new."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(b"V")
    house.clock.advance(minutes=1)
    renewed = await house.renewal_of(mac)
    await renewed.authenticate()
    house.clock.advance(minutes=1)
    await renewed.set_bootstrap(b"V")
    await renewed.token_update(AwaitingConfiguration=True)
    assert await renewed.get_bootstrap() == b"V"


async def test_a_user_is_not_pushed_before_the_device_is_enrolled(house: House) -> None:
    """2.4: a user's TokenUpdate while the device is PENDING is accepted and held."""
    ipad = house.device(SHARED_IPAD)
    await ipad.authenticate()
    await ipad.token_update(UserID=ALL_F, UserShortName="bob", AwaitingConfiguration=True)
    assert await house.due(timedelta(minutes=1)) == []
    await ipad.token_update()
    house.clock.advance(minutes=2)
    assert set(await house.due()) == {ipad.id, f"{ipad.id}:bob"}


async def test_a_release_that_was_sent_stays_the_only_command_in_hand(house: House) -> None:
    """3.4 rule 1: what was sent without a report stays first, whatever odd report comes in between."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "DeviceConfigured")
    in_hand = await phone.report()
    assert in_hand is not None
    deferred = await house.enqueue(phone.id, "ProfileList")
    await house.enqueue(phone.id, "InstalledApplicationList")
    assert await phone.report("NotNow", deferred) == in_hand
    assert await phone.report("Acknowledged", "of another life") == in_hand
