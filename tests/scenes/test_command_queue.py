"""The command queue of one channel, as the device sees it: one command at a time, none lost, none twice by mistake."""

import asyncio

import pytest

from ostiary.domain.command import CommandState
from ostiary.domain.enqueueing import (
    NotEnrolled,
)
from ostiary.domain.enrollment import State
from ostiary.domain.operator import CommandIsOver
from ostiary.domain.pairing import CertificateNotPaired
from ostiary.domain.token import DEFAULT_TENANT, TokenKind
from ostiary.errors import Malformed
from ostiary.formats import plist
from ostiary.protocol.mdm.connect import (
    CommandUuid,
    UnknownStatus,
    UnusableCommandUuid,
    decode_connect,
)
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.reply import Farewell, Reply
from scenes.house import IPHONE, MAC, OPERATOR, TOPIC, House


@pytest.mark.case("CQ-01")
async def test_an_empty_queue_is_answered_with_zero_bytes(house: House) -> None:
    """3.2: an empty body is zero bytes, not an empty property list."""
    phone = await house.enrolled(IPHONE)
    assert await phone.report_raw() is Reply.EMPTY


@pytest.mark.case("CQ-02")
async def test_commands_go_out_one_by_one_in_order(house: House) -> None:
    """3.4 rule 1."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "ProfileList")
    await house.enqueue(phone.id, "CertificateList")
    assert await phone.drain() == ["ProfileList", "CertificateList"]
    assert await phone.report() is None


async def test_urgent_commands_overtake(house: House) -> None:
    """3.4 rule 9: the priority lane."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "ProfileList")
    await house.enqueue(phone.id, "DeviceLock")
    assert await phone.drain() == ["DeviceLock", "ProfileList"]


@pytest.mark.case("CQ-03")
async def test_a_lost_connection_brings_the_same_command_with_the_same_uuid(house: House) -> None:
    """3.4: Idle after a hand-out means the connection was lost before a report."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "ProfileList")
    await house.enqueue(phone.id, "DeviceLock")
    first = await phone.report()
    assert first is not None
    again = await phone.report()
    assert again == first
    await house.enqueue(phone.id, "ClearPasscode")
    assert await phone.report() == first
    assert first["CommandUUID"] != uuid


@pytest.mark.case("CQ-04")
async def test_not_now_keeps_the_command_and_ends_the_session(house: House) -> None:
    """3.4 rules 5, 6: not offered again in the same session; the device polls by itself."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "InstallProfile", Payload=b"p")
    await phone.report()
    assert await phone.report("NotNow", uuid) is None
    assert ("InstallProfile", "deferred") in await house.queue(phone.id)
    house.clock.advance(hours=2)
    assert phone.id in await house.due()


@pytest.mark.case("CQ-05")
async def test_the_next_idle_lifts_not_now(house: House) -> None:
    """3.3: every NotNow mark of this channel is lifted."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "InstallProfile", Payload=b"p")
    await phone.report()
    await phone.report("NotNow", uuid)
    again = await phone.report()
    assert again is not None
    assert again["CommandUUID"] == uuid


@pytest.mark.case("CQ-06")
async def test_a_deferred_command_gets_a_push_if_the_session_ends_on_another_word(
    house: House,
) -> None:
    """3.4 rule 5: the device polls by itself only if NotNow was its last word."""
    phone = await house.enrolled(IPHONE)
    first = await house.enqueue(phone.id, "InstallProfile", Payload=b"p")
    second = await house.enqueue(phone.id, "ProfileList")
    await phone.report()
    offered = await phone.report("NotNow", first)
    assert offered is not None
    assert offered["CommandUUID"] == second
    assert await phone.report("Acknowledged", second) is None
    house.clock.advance(minutes=10)
    assert phone.id in await house.due()


@pytest.mark.case("CQ-07")
async def test_a_report_that_comes_twice_changes_nothing(house: House) -> None:
    """3.4 rule 2."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "ProfileList")
    await phone.report()
    await phone.report("Acknowledged", uuid, Fact="first")
    before = await house.storage.reports.list_commands(
        DEFAULT_TENANT, EnrollmentId(phone.id), live_only=False, limit=10
    )
    assert await phone.report("Error", uuid, Fact="second") is None
    after = await house.storage.reports.list_commands(
        DEFAULT_TENANT, EnrollmentId(phone.id), live_only=False, limit=10
    )
    assert after == before


@pytest.mark.case("CQ-08")
async def test_a_report_for_an_unknown_command_is_answered_with_the_next_one(house: House) -> None:
    """3.4 rule 3: anything but 2xx would be repeated for ever."""
    phone = await house.enrolled(IPHONE)
    assert await phone.report("Acknowledged", "never sent") is None
    uuid = await house.enqueue(phone.id, "ProfileList")
    command = await phone.report("Error", "never sent either")
    assert command is not None
    assert command["CommandUUID"] == uuid


@pytest.mark.case("CQ-08")
async def test_a_report_for_another_devices_command_closes_nothing(house: House) -> None:
    """A device acts only as itself."""
    phone, other = await house.enrolled(IPHONE), await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "ProfileList")
    await phone.report()
    await other.report("Acknowledged", uuid)
    assert ("ProfileList", "sent") in await house.queue(phone.id)


@pytest.mark.case("CQ-09", "CQ-10")
@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({}, Malformed),
        ({"Status": "Perhaps"}, UnknownStatus),
        ({"Status": "Acknowledged"}, UnusableCommandUuid),
        ({"Status": "NotNow", "CommandUUID": ""}, UnusableCommandUuid),
    ],
)
def test_a_report_without_a_known_status_or_its_command_is_malformed(
    keys: dict[str, str], error: type[Exception]
) -> None:
    """3.1."""
    with pytest.raises(error):
        decode_connect(plist.read_dict(plist.encode({"UDID": "D", **keys})))


@pytest.mark.case("CQ-11")
async def test_a_failed_command_keeps_its_error_chain(house: House) -> None:
    """3.3: Error closes as failed; the next command is offered."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "InstallProfile", Payload=b"p")
    following = await house.enqueue(phone.id, "ProfileList")
    await phone.report()
    chain = [
        {
            "ErrorCode": 4001,
            "ErrorDomain": "MCInstallationErrorDomain",
            "USEnglishDescription": "No.",
        }
    ]
    command = await phone.report("Error", uuid, ErrorChain=chain)
    assert command is not None
    assert command["CommandUUID"] == following
    (failed,) = [
        line
        for line in await house.storage.reports.list_commands(
            DEFAULT_TENANT, EnrollmentId(phone.id), live_only=False, limit=10
        )
        if line.uuid == uuid
    ]
    assert failed.state == CommandState.FAILED
    assert failed.result is not None
    assert "MCInstallationErrorDomain" in failed.result


@pytest.mark.case("CQ-12")
async def test_a_malformed_command_is_failed_and_told(house: House) -> None:
    """3.3: our bug."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "NoSuchCommand")
    await phone.report()
    await phone.report("CommandFormatError", uuid)
    assert ("NoSuchCommand", "failed") in await house.queue(phone.id)
    assert "command-malformed" in await house.alerts()


@pytest.mark.case("CQ-13")
async def test_each_channel_has_its_own_queue(house: House) -> None:
    """3.4 rule 11; a command for the device is not offered to its user, nor the other way round."""
    mac = await house.enrolled(MAC)
    await mac.token_update(UserID="U-1")
    assert await mac.drain() == ["UserList"], "who holds a SecureToken now that somebody is there"
    await house.enqueue(mac.id, "ProfileList")
    await house.enqueue(f"{mac.id}:U-1", "CertificateList")
    assert await mac.drain(UserID="U-1") == ["CertificateList"]
    assert await mac.drain() == ["ProfileList"]


@pytest.mark.case("CQ-14")
async def test_a_user_held_at_login_gets_the_whole_backlog_at_once(house: House) -> None:
    """3.6: NeedSyncResponse, until the empty body."""
    mac = await house.enrolled(MAC)
    await mac.token_update(UserID="U-1")
    wanted = ["ProfileList", "CertificateList", "InstalledApplicationList"]
    for request_type in wanted:
        await house.enqueue(f"{mac.id}:U-1", request_type)
    assert await mac.drain(UserID="U-1", NeedSyncResponse=True) == wanted


async def test_a_user_without_an_account_yet_gets_the_empty_body(house: House) -> None:
    """3.6: UserConfiguration; every command would be NotNow."""
    mac = await house.enrolled(MAC)
    await mac.token_update(UserID="U-1")
    await house.enqueue(f"{mac.id}:U-1", "ProfileList")
    assert await mac.report(UserID="U-1", UserConfiguration=True) is None


@pytest.mark.case("CQ-15")
async def test_two_polls_at_once_are_handed_the_same_command_and_not_two(house: House) -> None:
    """3.4 rule 11: one command is out at a time."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "ProfileList")
    await house.enqueue(phone.id, "CertificateList")
    handed = await asyncio.gather(*(phone.report() for _ in range(8)))
    assert len({command["CommandUUID"] for command in handed if command}) == 1
    assert [state for _, state in await house.queue(phone.id)].count("sent") == 1


@pytest.mark.case("CQ-17")
async def test_after_enrolling_again_none_of_the_old_commands_come(house: House) -> None:
    """2.3."""
    mac = await house.enrolled(MAC)
    await mac.token_update(UserID="U-1")
    await house.enqueue(mac.id, "ProfileList")
    await house.enqueue(f"{mac.id}:U-1", "CertificateList")
    await mac.authenticate()
    await mac.token_update()
    assert await mac.drain() == ["DeviceInformation", "SecurityInfo", "UserList"]
    await mac.token_update(UserID="U-1")
    assert await mac.drain(UserID="U-1") == []
    assert ("ProfileList", "cancelled") in await house.queue(mac.id)


@pytest.mark.case("CQ-18")
@pytest.mark.parametrize(
    ("os_version", "body"), [("16.7.1", None), ("17.0", b"com.apple.unrecognized.device")]
)
async def test_a_released_device_is_told_to_leave_as_its_system_understands(
    house: House, os_version: str, body: bytes | None
) -> None:
    """3.7: 401, and from iOS 17 on the 403 with its body; on every request."""
    phone = house.device(IPHONE)
    await phone.authenticate(OSVersion=os_version)
    await phone.token_update()
    row = await phone.row()
    await house.devices.release(row.tenant, row.id, actor="operator", reason="sold")
    for answer in (
        await phone.report_raw(),
        await phone.token_update(),
        await phone.authenticate(),
    ):
        assert isinstance(answer, Farewell)
        assert (answer.body is None) == (body is None)
        assert body is None or body in (answer.body or b"")
    assert (await phone.row()).state is State.REVOKED


@pytest.mark.case("CI-26")
async def test_after_check_out_the_old_certificate_gets_no_commands(house: House) -> None:
    """1.6: device and users out, pushes stop, a later Idle is answered empty."""
    mac = await house.enrolled(MAC)
    await mac.token_update(UserID="U-1")
    await house.enqueue(mac.id, "ProfileList")
    await mac.send("CheckOut", Topic=TOPIC)
    assert (await mac.row()).state is State.OUT
    assert (await house.require_row(f"{mac.id}:U-1")).state is State.OUT
    assert await mac.report() is None
    assert await mac.report(UserID="U-1") is None
    house.clock.advance(days=2)
    assert await house.due() == []
    with pytest.raises(NotEnrolled):
        await house.enqueue(mac.id, "ProfileList")


@pytest.mark.case("CI-27")
async def test_the_check_out_of_an_unknown_device_is_fine(house: House) -> None:
    """1.6: 200 even if the enrollment is unknown."""
    phone = house.device(IPHONE)
    assert await phone.send("CheckOut", Topic=TOPIC) is Reply.EMPTY
    known = await house.enrolled(IPHONE)
    with pytest.raises(CertificateNotPaired):
        await phone.send("CheckOut", Topic=TOPIC, UDID=known.id)
    assert (await known.row()).state is State.ENROLLED


async def test_a_pending_device_polls_in_vain_and_politely(house: House) -> None:
    """2.4 row 4."""
    phone = house.device(IPHONE)
    await phone.authenticate()
    await house.enqueue(phone.id, "ProfileList")
    assert await phone.report() is None
    assert await house.due() == []
    await phone.token_update()
    assert await phone.drain() == ["ProfileList", "DeviceInformation", "SecurityInfo"]


@pytest.mark.case("AP-11")
async def test_many_commands_at_once_share_one_push(house: House) -> None:
    """5.2: enqueue many, push once."""
    phone = await house.enrolled(IPHONE)
    await asyncio.gather(*(house.enqueue(phone.id, "ProfileList") for _ in range(20)))
    house.clock.advance(seconds=2)
    assert await house.due() == [phone.id]
    assert len(await phone.drain()) == 20
    house.clock.advance(days=2)
    assert await house.due() == []


async def test_a_cancelled_command_is_not_handed_out(house: House) -> None:
    """3.4 rule 10."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "ProfileList")
    await house.desk.cancel(EnrollmentId(phone.id), CommandUuid(uuid), OPERATOR, "a mistake")
    assert await phone.report() is None
    assert ("ProfileList", "cancelled") in await house.queue(phone.id)
    with pytest.raises(CommandIsOver):
        await house.desk.cancel(EnrollmentId(phone.id), CommandUuid(uuid), OPERATOR, "again")


async def test_a_device_that_comes_after_a_push_proves_its_push_token(house: House) -> None:
    """design.md 2: stored is not proven."""
    phone = await house.enrolled(IPHONE)
    (stored,) = await house.history(phone.id, TokenKind.PUSH)
    assert stored.proven_at is None
    await house.enqueue(phone.id, "ProfileList")
    await house.pushed(phone.id)
    await phone.drain()
    (proven,) = await house.history(phone.id, TokenKind.PUSH)
    assert (proven.proven_at, proven.proven_by) == (
        house.clock.now(),
        "the device came after a push",
    )


async def test_what_a_device_says_of_itself_is_learned(house: House) -> None:
    """users.md 1I: lists show names, though iPhones send none with their Authenticate."""
    phone = house.device(IPHONE)
    await phone.authenticate()
    await phone.token_update()
    asked = await phone.report()
    assert asked is not None
    assert asked["Command"]["RequestType"] == "DeviceInformation"
    said = {
        "DeviceName": "Ada's iPhone",
        "OSVersion": "18.2",
        "Model": 7,
        "SerialNumber": "SOMEONE ELSE",
    }
    await phone.report("Acknowledged", asked["CommandUUID"], QueryResponses=said)
    facts = (await phone.row()).facts
    assert (facts.device_name, facts.os_version) == ("Ada's iPhone", "18.2")
    assert (facts.serial_number, facts.model) == (phone.serial, None)
