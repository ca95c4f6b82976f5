"""What may be queued, by whom and for whom; and what a command carries when it goes out."""

import re
from dataclasses import replace
from uuid import uuid4

import pytest

from ostiary.domain.enqueueing import CommandUuidTaken
from ostiary.domain.enrollment import InstalledProfile
from ostiary.domain.erasing import WayBackMissing
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_machine import follow_up_uuid
from ostiary.domain.operator import EnrollmentUnknown
from ostiary.domain.suitability import (
    AccessRightMissing,
    CommandNotForThisChannel,
    CommandNotForThisEnrollment,
    CommandNotForThisMac,
    CommandNotForThisPlatform,
    NotAwaiting,
    NoUnlockToken,
)
from ostiary.domain.token import DEFAULT_TENANT, Holder, TokenKind, TokenState
from ostiary.errors import Malformed
from ostiary.formats import plist
from ostiary.protocol.mdm.commands import CommandWithoutRequestType, UnusableRequestType
from ostiary.protocol.mdm.connect import CommandUuid, is_derived
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.protocol.mdm.lock_commands import UnusablePin
from ostiary.protocol.mdm.written_commands import MisspelledRequestType
from ostiary.services.caller import Caller, Scope, ScopeMissing
from ostiary.services.commands import CommandUuidReserved
from ostiary.services.reply import Reply
from scenes.house import (
    ALL_F,
    APPLE_TV,
    BYOD_IPHONE,
    CATALINA,
    IPAD,
    IPHONE,
    MAC,
    OPERATOR,
    House,
)


@pytest.mark.case("UT-06")
async def test_clear_passcode_carries_the_stored_token_exactly(house: House) -> None:
    """4.1: the encoder does the only base64; the bytes give + and /."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "ClearPasscode")
    reply = await phone.report_raw()
    assert isinstance(reply, Reply)
    command = plist.read_dict(reply.body).optional_dict("Command")
    assert command is not None
    assert command.data("UnlockToken") == phone.unlock
    assert b"+" in reply.body
    assert b"/" in reply.body


@pytest.mark.case("UT-07")
async def test_clear_passcode_carries_the_token_that_is_current_at_hand_out(house: House) -> None:
    """4.0.2 rule 6: a reference, rendered late."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "ClearPasscode")
    await phone.token_update(UnlockToken=b"came after the order")
    command = await phone.report()
    assert command is not None
    assert command["Command"]["UnlockToken"] == b"came after the order"


@pytest.mark.case("UT-06")
async def test_a_token_in_a_raw_clear_passcode_is_replaced_by_the_stored_one(house: House) -> None:
    """design.md 5: every door takes the typed path."""
    phone = await house.enrolled(IPHONE)
    raw = plist.encode({"Command": {"RequestType": "ClearPasscode", "UnlockToken": b"somebody's"}})
    await house.desk.enqueue_raw([EnrollmentId(phone.id)], raw, OPERATOR, pushes=True)
    command = await phone.report()
    assert command is not None
    assert command["Command"]["UnlockToken"] == phone.unlock


@pytest.mark.case("UT-08")
async def test_clear_passcode_is_refused_where_it_cannot_work_and_the_reason_is_told(
    house: House,
) -> None:
    """4.1 server rule 3: nothing is queued."""
    mac, tv = await house.enrolled(MAC), await house.enrolled(APPLE_TV)
    byod = await house.enrolled(BYOD_IPHONE, udid="E-2")
    ipad = await house.enrolled(IPAD)
    await ipad.token_update(UserID=ALL_F, UserShortName="ada")
    for target, error in [
        (mac.id, CommandNotForThisPlatform),
        (tv.id, CommandNotForThisPlatform),
        (byod.id, CommandNotForThisEnrollment),
        (f"{ipad.id}:ada", CommandNotForThisChannel),
    ]:
        with pytest.raises(error):
            await house.enqueue(target, "ClearPasscode")
        assert "ClearPasscode" not in dict(await house.queue(target))


@pytest.mark.case("UT-08")
async def test_clear_passcode_needs_access_right_4_in_the_installed_profile(house: House) -> None:
    """4.1: only if the MDM payload has right 4."""
    phone = house.device(IPHONE)
    await house.credential(
        phone, profile=InstalledProfile(access_rights=8187, capabilities=frozenset())
    )
    await phone.authenticate()
    await phone.token_update()
    with pytest.raises(AccessRightMissing):
        await house.enqueue(phone.id, "ClearPasscode")


@pytest.mark.case("UT-09")
async def test_without_an_unlock_token_only_a_new_enrollment_helps(house: House) -> None:
    """4.1: no current OS can be asked for one."""
    phone = house.device(IPHONE)
    await phone.authenticate()
    await phone.token_update(UnlockToken=None)
    with pytest.raises(NoUnlockToken) as refused:
        await house.enqueue(phone.id, "ClearPasscode")
    assert "new enrollment" in refused.value.hint


@pytest.mark.case("UT-10")
async def test_a_failed_clear_passcode_keeps_and_flags_the_token(house: House) -> None:
    """4.1 server rule 5."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "ClearPasscode")
    await phone.report()
    await phone.report("Error", uuid)
    (record,) = await house.history(phone.id, TokenKind.UNLOCK)
    assert record.state is TokenState.SUSPECT
    assert ("ClearPasscode", "failed") in await house.queue(phone.id)
    await house.enqueue(phone.id, "ClearPasscode")
    assert await phone.drain() == ["ClearPasscode"]
    (record,) = await house.history(phone.id, TokenKind.UNLOCK)
    assert record.proven_at is not None
    assert record.state is TokenState.OK


async def test_a_command_uuid_is_used_once_on_a_channel(house: House) -> None:
    """fleet#17510: a new CommandUUID each time."""
    phone = await house.enrolled(IPHONE)
    raw = plist.encode({"CommandUUID": "mine", "Command": {"RequestType": "ProfileList"}})
    target = EnrollmentId(phone.id)
    first = await house.desk.enqueue_raw([target], raw, OPERATOR, pushes=True)
    assert first.refused == {target: None}
    await phone.drain()
    again = await house.desk.enqueue_raw([target], raw, OPERATOR, pushes=True)
    assert isinstance(again.refused[target], CommandUuidTaken)


async def test_one_request_may_name_many_and_each_is_decided_by_itself(house: House) -> None:
    """users.md 3.4.1: per-id results."""
    phone, other = await house.enrolled(IPHONE), await house.enrolled(IPHONE)
    raw = plist.encode({"Command": {"RequestType": "ProfileList"}})
    names = [EnrollmentId(name) for name in (phone.id, "nobody", other.id)]
    done = await house.desk.enqueue_raw(names, raw, OPERATOR, pushes=True)
    assert [type(error).__name__ for error in done.refused.values()] == [
        "NoneType",
        "EnrollmentUnknown",
        "NoneType",
    ]
    assert isinstance(done.refused[EnrollmentId("nobody")], EnrollmentUnknown)
    assert await phone.drain() == await other.drain() == ["ProfileList"]


async def test_destructive_commands_need_their_own_scope_through_any_door(house: House) -> None:
    """design.md 5: classified by RequestType."""
    phone = await house.enrolled(IPHONE)
    clerk = Caller(name="clerk", tenant=DEFAULT_TENANT, scopes=frozenset({Scope.COMMANDS}))
    for request_type in ("EraseDevice", "DeviceLock", "ClearPasscode"):
        raw = plist.encode({"Command": {"RequestType": request_type}})
        with pytest.raises(ScopeMissing):
            await house.desk.enqueue_raw([EnrollmentId(phone.id)], raw, clerk, pushes=True)
    assert await phone.report() is None


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"not a plist", Malformed),
        (plist.encode({"Command": "ProfileList"}), Malformed),
        (plist.encode({"Command": {}}), CommandWithoutRequestType),
        (plist.encode({"Command": {"RequestType": "DeviceLock", "PIN": "12a456"}}), UnusablePin),
    ],
)
async def test_a_broken_raw_command_is_queued_for_nobody(
    house: House, raw: bytes, error: type[Exception]
) -> None:
    phone = await house.enrolled(IPHONE)
    with pytest.raises(error):
        await house.desk.enqueue_raw([EnrollmentId(phone.id)], raw, OPERATOR, pushes=True)
    assert await phone.report() is None


@pytest.mark.case("AA-02", "RL-08")
async def test_what_a_mac_cannot_do_is_not_queued(house: House) -> None:
    """escrowed-secrets.md 4.4, 4.8: an Intel Mac, and one that does not wait."""
    intel, mac = await house.enrolled(CATALINA), await house.enrolled(MAC)
    lock = {"NewPassword": "an old horse battery"}
    for target, request_type, keys, error in (
        (intel, "SetRecoveryLock", lock, CommandNotForThisMac),
        (mac, "SetFirmwarePassword", lock, CommandNotForThisMac),
        (mac, "AccountConfiguration", {}, NotAwaiting),
    ):
        with pytest.raises(error):
            await house.enqueue(target.id, request_type, **keys)
        assert request_type not in dict(await house.queue(target.id))


@pytest.mark.case("ER-04")
async def test_what_a_device_reported_decides_whether_it_can_come_back(house: House) -> None:
    """escrowed-secrets.md 4.7: an unsupervised iPhone came by no automated enrollment."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "DeviceInformation", Queries=["IsSupervised"])
    await phone.report()
    await phone.report("Acknowledged", uuid, QueryResponses={"IsSupervised": False})
    with pytest.raises(WayBackMissing):
        await house.enqueue(phone.id, "EraseDevice", ReturnToService={"Enabled": True})
    assert "EraseDevice" not in dict(await house.queue(phone.id))


@pytest.mark.parametrize(
    "spelling", ["EraseDevice ", "\nEraseDevice", "Erase\u200bDevice", "Erase.Device"]
)
async def test_a_request_type_is_letters_alone(house: House, spelling: str) -> None:
    """design.md 5: what slips past the classification is not queued."""
    phone = await house.enrolled(IPHONE)
    raw = plist.encode({"Command": {"RequestType": spelling}})
    with pytest.raises(UnusableRequestType):
        await house.desk.enqueue_raw([EnrollmentId(phone.id)], raw, OPERATOR, pushes=True)


async def test_a_destructive_command_is_one_however_it_is_written(house: House) -> None:
    """design.md 5: a right name in wrong capitals is queued for nobody, and said to be one."""
    phone = await house.enrolled(IPHONE)
    clerk = Caller(name="clerk", tenant=DEFAULT_TENANT, scopes=frozenset({Scope.COMMANDS}))
    for name, refusal in (("EraseDevice", ScopeMissing), ("erasedevice", MisspelledRequestType)):
        raw = plist.encode({"Command": {"RequestType": name}})
        with pytest.raises(refusal):
            await house.desk.enqueue_raw([EnrollmentId(phone.id)], raw, clerk, pushes=True)


@pytest.mark.case("DL-01")
async def test_a_mac_is_locked_with_six_digits_that_are_kept_before_it_can_fetch_them(
    house: House,
) -> None:
    """escrowed-secrets.md 4.6: else a Mac that locks and falls silent could be opened by nobody."""
    mac, phone = await house.enrolled(MAC), await house.enrolled(IPHONE)
    await house.enqueue(mac.id, "DeviceLock")
    await house.enqueue(phone.id, "DeviceLock")
    (kept,) = await house.history(mac.id, TokenKind.LOCK_PIN)
    assert kept.size == 6
    command = await mac.report()
    assert command is not None
    assert re.fullmatch("[0-9]{6}", command["Command"]["PIN"])
    assert await house.history(phone.id, TokenKind.LOCK_PIN) == []
    command = await phone.report()
    assert command is not None
    assert "PIN" not in command["Command"], "an iPhone is opened with its own passcode"


@pytest.mark.case("DL-05")
async def test_a_mac_under_user_enrollment_cannot_be_locked(house: House) -> None:
    """4.6: refused; an iPhone under User Enrollment can be."""
    mac = await house.enrolled(replace(MAC, user_enrollment=True), udid="E-MAC")
    with pytest.raises(CommandNotForThisEnrollment):
        await house.enqueue(mac.id, "DeviceLock", PIN="123456")
    phone = await house.enrolled(BYOD_IPHONE, udid="E-PHONE")
    await house.enqueue(phone.id, "DeviceLock")
    assert await phone.drain() == ["DeviceLock"]


@pytest.mark.case("DL-03")
async def test_a_lock_that_is_handed_out_again_carries_the_same_pin(house: House) -> None:
    """4.6: pinned; another PIN would lock somebody out for good."""
    mac = await house.enrolled(MAC)
    await house.enqueue(mac.id, "DeviceLock", PIN="123456")
    first = await mac.report()
    assert first is not None
    assert first["Command"]["PIN"] == "123456"
    assert await mac.report() == first


async def test_nobody_chooses_a_command_uuid_that_a_follow_up_of_ours_will_have(
    house: House,
) -> None:
    """A report is always booked (3.4): its follow-up must not find its name taken by whoever may queue commands."""
    mac = await house.enrolled(MAC)
    held = Escrow(
        tenant=DEFAULT_TENANT,
        holder=Holder(mac.id),
        kind=TokenKind.RECOVERY_LOCK,
        state=EscrowState.SETTLED,
        since=house.clock.now(),
    )
    taken = follow_up_uuid(held, CommandUuid("A1"), "look")
    for spelling in (taken, taken.lower(), f"{{{taken}}}", taken.replace("-", "")):
        body = plist.encode({"Command": {"RequestType": "ProfileList"}, "CommandUUID": spelling})
        with pytest.raises(CommandUuidReserved):
            await house.desk.enqueue_raw([EnrollmentId(mac.id)], body, OPERATOR, pushes=False)
        with pytest.raises(CommandUuidReserved):
            await house.desk.rehearse(
                [EnrollmentId(mac.id)],
                {"RequestType": "ProfileList"},
                OPERATOR,
                uuid=CommandUuid(spelling),
            )
    for free in ("A1", str(uuid4()), "profile list of Monday"):
        body = plist.encode({"Command": {"RequestType": "ProfileList"}, "CommandUUID": free})
        done = await house.desk.enqueue_raw([EnrollmentId(mac.id)], body, OPERATOR, pushes=False)
        assert list(done.refused.values()) == [None]


async def test_whatever_is_queued_while_a_mac_enrolls_has_a_name_that_nobody_may_choose(
    house: House,
) -> None:
    """First commands and the administrator's account are named after records that callers may come to know."""
    house.set_policy(admin_account="admin")
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    lines = await house.storage.reports.list_commands(
        DEFAULT_TENANT, EnrollmentId(mac.id), live_only=True, limit=50
    )
    assert "AccountConfiguration" in {line.request_type for line in lines}
    assert all(is_derived(CommandUuid(line.uuid)) for line in lines)
