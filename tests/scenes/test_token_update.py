"""TokenUpdate: every value a device hands over is kept, and absence never erases one."""

import pytest

from ostiary.domain.authenticate import TopicNotHeld
from ostiary.domain.enrollment import State
from ostiary.domain.pairing import CertificateNotPaired
from ostiary.domain.policy import RestoredBackup
from ostiary.domain.token import TokenKind, TokenState
from ostiary.errors import Malformed, Refused
from ostiary.protocol.mdm.checkin import FieldEmpty, UnusableTopic
from ostiary.services.reply import Farewell, Reply, UserIsNotManaged
from scenes.house import (
    ALL_F,
    BYOD_IPHONE,
    IPAD,
    IPHONE,
    MAC,
    OTHER_TOPIC,
    SHARED_IPAD,
    TOPIC,
    House,
)


@pytest.mark.case("CI-01")
async def test_an_authenticate_is_answered_empty_and_leaves_the_enrollment_pending(
    house: House,
) -> None:
    """CI-01: 200 empty, PENDING, nothing that could be pushed."""
    phone = house.device(IPHONE)
    assert await phone.authenticate() is Reply.EMPTY
    row = await phone.row()
    assert (row.state, row.push) == (State.PENDING, None)
    assert await house.due() == []


@pytest.mark.case("UT-01")
async def test_the_first_token_update_enrolls_and_keeps_the_unlock_token_byte_for_byte(
    house: House,
) -> None:
    """UT-01, TU-1: 1288 bytes, equal to what came."""
    phone = house.device(IPHONE)
    assert len(phone.unlock) == 1288
    await phone.authenticate()
    assert await phone.token_update() is Reply.EMPTY
    assert (await phone.row()).state is State.ENROLLED
    assert await house.value(phone.id, TokenKind.UNLOCK) == phone.unlock


@pytest.mark.case("CI-05", "UT-02")
async def test_a_later_update_without_unlock_token_keeps_the_first(house: House) -> None:
    """TU-4: absent means unchanged."""
    phone = await house.enrolled(IPHONE)
    await phone.token_update(UnlockToken=None)
    assert await house.value(phone.id, TokenKind.UNLOCK) == phone.unlock
    await house.enqueue(phone.id, "ClearPasscode")
    command = await phone.report()
    assert command is not None
    assert command["Command"]["UnlockToken"] == phone.unlock


@pytest.mark.case("CI-06", "UT-04")
async def test_an_empty_unlock_token_is_the_same_as_none(house: House) -> None:
    """TU-4: an empty data element keeps the stored token."""
    phone = await house.enrolled(IPHONE)
    await phone.token_update(UnlockToken=b"")
    assert await house.value(phone.id, TokenKind.UNLOCK) == phone.unlock


@pytest.mark.case("CI-07", "UT-03")
async def test_another_unlock_token_becomes_current_and_the_first_goes_to_history(
    house: House,
) -> None:
    """TU-3: another value, of another length, replaces the pointer and not the record."""
    phone = await house.enrolled(IPHONE)
    await phone.token_update(UnlockToken=b"second")
    assert await house.value(phone.id, TokenKind.UNLOCK) == b"second"
    first, second = await house.history(phone.id, TokenKind.UNLOCK)
    assert (first.state, second.state) == (TokenState.SUPERSEDED, TokenState.OK)
    kept = await house.storage.enrollments.load_record(first.id)
    assert kept is not None
    assert house.open(kept) == phone.unlock


@pytest.mark.case("CI-08")
async def test_the_next_push_uses_the_newest_token_and_magic(house: House) -> None:
    """TU-3: both travel together."""
    phone = await house.enrolled(IPHONE)
    await phone.token_update(Token=b"\x02" * 64, PushMagic="another magic")
    assert await house.push_address(phone.id) == (b"\x02" * 64, b"another magic")


@pytest.mark.case("CI-09")
async def test_an_identical_update_adds_no_generation_and_moves_the_arrival_time(
    house: House,
) -> None:
    """TU-20: the arrival time is what APNs' 410 is judged against."""
    phone = await house.enrolled(IPHONE)
    house.clock.advance(hours=5)
    await phone.token_update()
    assert len(await house.history(phone.id, TokenKind.PUSH)) == 1
    assert len(await house.history(phone.id, TokenKind.UNLOCK)) == 1
    push = (await phone.row()).push
    assert push is not None
    assert push.arrived_at == house.clock.now()
    assert push.received_at < push.arrived_at


@pytest.mark.case("CI-10")
@pytest.mark.parametrize("topic", ["com.apple.mgmtX.y", "com.apple.mgmt", "com.apple.mgmt.", ""])
async def test_a_topic_without_the_prefix_and_its_second_dot_is_refused(
    house: House, topic: str
) -> None:
    """TU-8."""
    phone = await house.enrolled(IPHONE)
    with pytest.raises((UnusableTopic, Malformed)):
        await phone.token_update(Topic=topic, UnlockToken=b"not to be stored")
    assert await house.value(phone.id, TokenKind.UNLOCK) == phone.unlock


@pytest.mark.case("CI-11")
async def test_a_topic_that_nobody_holds_is_refused_with_an_alert(house: House) -> None:
    """CI-11, TU-8."""
    phone = house.device(IPHONE, topic=OTHER_TOPIC)
    with pytest.raises(TopicNotHeld):
        await phone.authenticate()
    assert await house.row(phone.id) is None
    known = await house.enrolled(IPHONE)
    with pytest.raises(TopicNotHeld):
        await known.token_update(Topic=OTHER_TOPIC, UnlockToken=b"not to be stored")
    assert await house.value(known.id, TokenKind.UNLOCK) == known.unlock
    assert "topic-not-held" in await house.alerts()


@pytest.mark.case("CI-11")
async def test_a_token_of_an_enrollments_own_topic_is_kept_though_its_certificate_is_gone(
    house: House,
) -> None:
    """CI-11: the token may come only once, so it is stored, with an alarm."""
    await house.hold_topic(OTHER_TOPIC)
    phone = await house.enrolled(IPHONE, topic=OTHER_TOPIC)
    house.forget_topic(OTHER_TOPIC)
    await phone.token_update(UnlockToken=b"came only once")
    assert await house.value(phone.id, TokenKind.UNLOCK) == b"came only once"
    assert "topic-not-held" in await house.alerts()


async def test_a_known_topic_other_than_the_first_is_stored_with_an_alert(house: House) -> None:
    """TU-8, Design."""
    await house.hold_topic(OTHER_TOPIC)
    phone = await house.enrolled(IPHONE)
    await phone.token_update(Topic=OTHER_TOPIC)
    assert (await phone.row()).topic == OTHER_TOPIC
    assert "topic-changed" in await house.alerts()


@pytest.mark.case("CI-12")
@pytest.mark.parametrize(
    "missing",
    [{"Token": None}, {"Token": b""}, {"PushMagic": None}, {"PushMagic": ""}, {"Topic": None}],
)
async def test_an_update_without_token_magic_or_topic_changes_nothing(
    house: House, missing: dict[str, object]
) -> None:
    """The reject set of 1.3.3."""
    phone = await house.enrolled(IPHONE)
    before = await phone.row()
    with pytest.raises((FieldEmpty, Malformed)):
        await phone.token_update(UnlockToken=b"not to be stored", **missing)
    assert await phone.row() == before


@pytest.mark.case("CI-13")
async def test_an_update_without_authenticate_is_refused_and_makes_no_row(house: House) -> None:
    """CI-13: not bound; the family Refused is never answered 401."""
    phone = house.device(IPHONE)
    with pytest.raises(CertificateNotPaired) as refused:
        await phone.token_update()
    assert isinstance(refused.value, Refused)
    assert await house.row(phone.id) is None


@pytest.mark.case("CI-14")
async def test_a_restored_backup_comes_back_with_a_token_update_alone(house: House) -> None:
    """TU-15, TU-16: accepted by default, with the unlock token that was kept."""
    phone = await house.enrolled(IPHONE)
    await phone.send("CheckOut", Topic=TOPIC)
    assert (await phone.row()).state is State.OUT
    await phone.token_update(UnlockToken=None, Token=b"\x09" * 32)
    assert (await phone.row()).state is State.ENROLLED
    assert await house.value(phone.id, TokenKind.UNLOCK) == phone.unlock


@pytest.mark.case("CI-14")
async def test_a_restored_backup_is_turned_away_only_by_policy_or_by_release(house: House) -> None:
    """TU-16: by policy refused, by the operator's explicit word told to leave."""
    phone = await house.enrolled(IPHONE)
    await phone.send("CheckOut", Topic=TOPIC)
    house.set_policy(restored_backup=RestoredBackup.REFUSE)
    with pytest.raises(Refused):
        await phone.token_update()
    assert (await phone.row()).state is State.OUT
    await house.devices.release(
        (await phone.row()).tenant, (await phone.row()).id, actor="op", reason="sold"
    )
    assert isinstance(await phone.token_update(), Farewell)


@pytest.mark.case("CI-15")
async def test_a_macs_user_has_a_record_of_their_own(house: House) -> None:
    """TU-9: the user channel never writes the device's tokens."""
    mac = await house.enrolled(MAC)
    before = await mac.row()
    await mac.token_update(
        UserID="U-1", UserShortName="ada", Token=b"\x05" * 32, PushMagic="of the user"
    )
    user = await house.require_row(f"{mac.id}:U-1")
    assert (user.type, user.state, user.user_short_name) == ("User", State.ENROLLED, "ada")
    assert await house.push_address(user.id) == (b"\x05" * 32, b"of the user")
    assert (await mac.row()).push == before.push


@pytest.mark.case("CI-16")
async def test_shared_ipad_users_are_told_apart_by_their_short_names(house: House) -> None:
    """TU-13: two names on two iPads are four records."""
    ipads = [await house.enrolled(SHARED_IPAD) for _ in range(2)]
    for ipad in ipads:
        for name in ("ada@school.example", "ben@school.example"):
            await ipad.token_update(UserID=ALL_F, UserShortName=name, Token=name.encode())
    for ipad in ipads:
        for name in ("ada@school.example", "ben@school.example"):
            assert (await house.push_address(f"{ipad.id}:{name}"))[0] == name.encode()


@pytest.mark.case("CI-17")
@pytest.mark.parametrize("name", [None, ""])
async def test_a_shared_ipad_user_without_a_name_is_refused(house: House, name: str | None) -> None:
    """2.1: otherwise every nameless user of the fleet would share one record."""
    ipad = await house.enrolled(SHARED_IPAD)
    with pytest.raises(Malformed):
        await ipad.token_update(UserID=ALL_F.lower(), UserShortName=name)


@pytest.mark.case("CI-18")
async def test_a_user_enrollment_has_its_own_type_and_id(house: House) -> None:
    """2.1: EnrollmentID alone."""
    phone = await house.enrolled(BYOD_IPHONE, udid="a-user-enrollment")
    assert (await phone.row()).type == "User Enrollment (Device)"
    assert (await phone.row()).id == "a-user-enrollment"


@pytest.mark.case("CI-19")
async def test_a_user_of_a_user_enrollment_hangs_on_its_device(house: House) -> None:
    """2.1: EnrollmentID:EnrollmentUserID, parent set."""
    mac = await house.enrolled(BYOD_IPHONE, udid="E-1")
    await mac.token_update(EnrollmentUserID="EU-1")
    user = await house.require_row("E-1:EU-1")
    assert (user.type, user.parent_key) == ("User Enrollment", (await mac.row()).key)


@pytest.mark.case("UT-13")
async def test_an_unlock_token_on_a_user_channel_is_dropped(house: House) -> None:
    """TU-9."""
    ipad = await house.enrolled(IPAD)
    await ipad.token_update(UserID=ALL_F, UserShortName="ada", UnlockToken=b"not of the device")
    assert await house.value(ipad.id, TokenKind.UNLOCK) == ipad.unlock
    assert (await house.require_row(f"{ipad.id}:ada")).unlock is None


@pytest.mark.case("CI-28")
async def test_a_waiting_device_is_let_go_last_and_only_on_its_word(house: House) -> None:
    """TU-10: DeviceConfigured when nothing else is left; the flag falls on Acknowledged alone."""
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    await house.enqueue(mac.id, "InstallProfile", Payload=b"<plist/>")
    offered = []
    command = await mac.report()
    while command is not None and command["Command"]["RequestType"] != "DeviceConfigured":
        offered.append(command["Command"]["RequestType"])
        command = await mac.report("Acknowledged", command["CommandUUID"])
    assert offered == ["DeviceInformation", "SecurityInfo", "InstallProfile"]
    assert command is not None
    assert (await mac.row()).awaiting
    assert await mac.report("Acknowledged", command["CommandUUID"]) is None
    assert not (await mac.row()).awaiting


async def test_a_failed_release_keeps_the_device_waiting_and_is_told(house: House) -> None:
    """3.5: the flag falls on Acknowledged only; without a release the device sits in Setup Assistant for ever."""
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    command = await mac.report()
    while command is not None and command["Command"]["RequestType"] != "DeviceConfigured":
        command = await mac.report("Acknowledged", command["CommandUUID"])
    assert command is not None
    await mac.report("Error", command["CommandUUID"])
    assert (await mac.row()).awaiting
    assert "still-awaiting" in await house.alerts()
    await mac.token_update(AwaitingConfiguration=True)
    assert await mac.drain() == ["DeviceConfigured"]
    assert not (await mac.row()).awaiting


@pytest.mark.case("CI-29")
@pytest.mark.parametrize("later", [None, False])
async def test_a_later_update_does_not_end_the_wait(house: House, later: bool | None) -> None:
    """TU-12: on later updates absence leaves the state alone."""
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    await mac.token_update(AwaitingConfiguration=later)
    assert (await mac.row()).awaiting


@pytest.mark.case("CI-30")
async def test_a_waiting_shared_ipad_user_is_let_go_on_their_own_channel(house: House) -> None:
    """TU-11: UserConfigured on the user channel, never on the device's."""
    ipad = await house.enrolled(SHARED_IPAD)
    await ipad.token_update(UserID=ALL_F, UserShortName="ada", AwaitingConfiguration=True)
    assert await ipad.report() is None
    assert await ipad.drain(UserID=ALL_F, UserShortName="ada") == ["UserConfigured"]
    assert not (await house.require_row(f"{ipad.id}:ada")).awaiting


async def test_a_shared_ipad_user_can_be_declined(house: House) -> None:
    """TU-13: 410 refuses this user for the login session."""
    ipad = await house.enrolled(SHARED_IPAD)
    house.set_policy(shared_ipad_users=False)
    with pytest.raises(UserIsNotManaged):
        await ipad.token_update(UserID=ALL_F, UserShortName="ada")
    assert await house.row(f"{ipad.id}:ada") is None


async def test_the_first_push_waits_a_moment_after_the_first_token_update(house: House) -> None:
    """TU-19: the device may not be known to APNs yet."""
    phone = house.device(IPHONE)
    await phone.authenticate()
    await phone.token_update()
    assert await house.due() == []
    house.clock.advance(seconds=2)
    assert await house.due() == [phone.id]


@pytest.mark.case("AP-04")
async def test_a_token_update_revives_a_dead_push_token_even_with_the_same_value(
    house: House,
) -> None:
    """5.5: APNs said 410; the device says how to reach it, so it is pushed again, for the work that waits."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "ProfileList")
    await house.push_died(phone.id)
    (dead,) = await house.history(phone.id, TokenKind.PUSH)
    assert dead.state is TokenState.DEAD
    assert (await phone.row()).state is State.ENROLLED
    house.clock.advance(days=2)
    assert await house.due() == []
    await phone.token_update()
    (alive,) = await house.history(phone.id, TokenKind.PUSH)
    assert alive.state is TokenState.OK
    house.clock.advance(seconds=2)
    assert await house.due() == [phone.id]
