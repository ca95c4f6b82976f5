"""The life of an enrollment. Source: check-in-and-commands.md 2.5."""

from typing import Any

import httpx
import pytest

from ostiary_sim.errors import EnrollmentRefused, IdentityNotIssued, NotPossible, ProfileRefused
from ostiary_sim.levers import UnlockTokenAtRenewal
from ostiary_sim.personality import SHARED_USER_ID
from unit.sim.fake_mdm import TOPIC, Stage, plist_reply


async def test_enrolling_sends_authenticate_and_then_token_update_signed_by_the_new_identity(
    stage: Stage,
) -> None:
    """2.5 steps 1 to 4."""
    phone = await stage.enrolled("iphone")
    assert stage.server.kinds() == ["Authenticate", "TokenUpdate"]
    first, second = stage.server.messages
    assert first["UDID"] == second["UDID"] == phone.udid
    assert first["SerialNumber"] == phone.serial
    assert first["Topic"] == second["Topic"] == TOPIC
    assert second["Token"] == phone.push_token
    assert len(phone.push_token) == 32
    assert second["PushMagic"] == phone.push_magic
    assert second["UnlockToken"] == phone.unlock_token
    assert phone.identity is not None
    assert stage.server.signers == [phone.identity.certificate] * 2
    put = stage.server.requests[-1]
    assert put.method == "PUT"
    assert put.headers["content-type"] == "application/x-apple-aspen-mdm-checkin"
    assert put.url.path == "/checkin"


async def test_a_refused_authenticate_leaves_nothing_behind(stage: Stage) -> None:
    """2.5 step 2."""
    stage.server.script("Authenticate", 500)
    phone = stage.device()
    with pytest.raises(EnrollmentRefused):
        await phone.enroll(stage.server.profile())
    assert phone.profile is None
    assert phone.identity is None
    assert stage.server.kinds() == ["Authenticate"]
    await phone.enroll(stage.server.profile())
    assert phone.enrolled


async def test_a_token_update_is_repeated_until_it_is_accepted(stage: Stage) -> None:
    """2.5 step 4, 1.4 TU-7."""
    stage.server.script("TokenUpdate", 500, 500, 500)
    phone = stage.device()
    await phone.enroll(stage.server.profile())
    assert not phone.enrolled
    assert stage.pauses == [1.0]
    await phone.idle()
    assert phone.enrolled
    updates = [each for each in stage.server.messages if each["MessageType"] == "TokenUpdate"]
    assert len(updates) == 4
    assert all(each == updates[0] for each in updates)


async def test_only_the_first_token_update_carries_the_unlock_token(stage: Stage) -> None:
    """escrowed-secrets.md 4.1, Simulated device."""
    phone = await stage.enrolled()
    await phone.change_push_token()
    assert "UnlockToken" not in stage.server.last("TokenUpdate")
    phone.levers.unlock_token_always = True
    await phone.send_token_update()
    assert stage.server.last("TokenUpdate")["UnlockToken"] == phone.unlock_token
    await phone.send_token_update(unlock_token=b"")
    assert stage.server.last("TokenUpdate")["UnlockToken"] == b""
    await phone.send_token_update(unlock_token=b"other")
    assert phone.unlock_token == b"other"


async def test_a_profile_without_the_right_to_lock_gets_no_unlock_token(stage: Stage) -> None:
    phone = stage.device()
    await phone.enroll(stage.server.profile(AccessRights=8191 & ~4))
    assert phone.unlock_token is None
    assert "UnlockToken" not in stage.server.last("TokenUpdate")


@pytest.mark.parametrize("kind", ["mac", "mac-10.15", "apple-tv", "shared-ipad", "byod-iphone"])
async def test_platforms_without_unlock_tokens_send_none(stage: Stage, kind: str) -> None:
    """1.3.3."""
    await stage.enrolled(kind)
    assert "UnlockToken" not in stage.server.last("TokenUpdate")


async def test_user_enrollment_sends_an_enrollment_id_and_no_serial_number(stage: Stage) -> None:
    """1.3.1, 1.3.2; 2.1."""
    phone = await stage.enrolled("byod-iphone")
    for message in stage.server.messages:
        assert "UDID" not in message
        assert "SerialNumber" not in message
        assert message["EnrollmentID"] == phone.enrollment_id
    before = phone.enrollment_id
    await phone.remove_profile()
    await phone.enroll(stage.server.profile())
    assert phone.enrollment_id != before


async def test_an_awaiting_device_says_so_once_and_leaves_when_it_is_configured(
    stage: Stage,
) -> None:
    """1.4 TU-10, 3.5."""
    phone = await stage.enrolled("ipad", awaiting=True)
    assert stage.server.last("TokenUpdate")["AwaitingConfiguration"] is True
    assert phone.awaiting
    stage.server.queue("DeviceConfigured")
    await phone.idle()
    assert not phone.awaiting
    stage.server.queue("DeviceConfigured")
    session = await phone.idle()
    assert [each.status for each in session.executed] == ["Error"]
    await phone.send_token_update()
    assert "AwaitingConfiguration" not in stage.server.last("TokenUpdate")


async def test_replacing_the_profile_starts_again_with_a_new_identity(stage: Stage) -> None:
    """2.5 step 8; 2.3 cause B."""
    phone = await stage.enrolled()
    identity, magic, token = phone.identity, phone.push_magic, phone.push_token
    stage.server.queue("InstallProfile", Payload=stage.server.profile())
    session = await phone.idle()
    assert [each.status for each in session.executed] == ["Acknowledged"]
    assert stage.server.kinds() == ["Authenticate", "TokenUpdate"] * 2
    assert phone.identity != identity
    assert phone.push_magic != magic
    assert phone.push_token == token
    assert "AwaitingConfiguration" not in stage.server.last("TokenUpdate")
    assert phone.identity is not None
    assert stage.server.signers[-1] == phone.identity.certificate


async def test_a_failed_replacement_brings_the_old_identity_back(stage: Stage) -> None:
    """2.5 step 8."""
    phone = await stage.enrolled()
    identity, magic = phone.identity, phone.push_magic
    stage.server.script("TokenUpdate", 503, 503)
    stage.server.queue("InstallProfile", Payload=stage.server.profile())
    session = await phone.idle()
    assert [each.status for each in session.executed] == ["Error"]
    assert phone.identity == identity
    assert phone.push_magic == magic
    assert identity is not None
    assert stage.server.signers[-1] == identity.certificate
    assert stage.server.reports[-1]["ErrorChain"]


async def test_a_replacement_without_a_certificate_changes_nothing(stage: Stage) -> None:
    phone = await stage.enrolled()
    identity = phone.identity
    stage.server.scep.pending_for = 99
    with pytest.raises(IdentityNotIssued):
        await phone.replace_profile(stage.server.profile())
    assert phone.identity == identity


@pytest.mark.parametrize(
    ("habit", "sends"),
    [
        (UnlockTokenAtRenewal.SAME, True),
        (UnlockTokenAtRenewal.CHANGED, True),
        (UnlockTokenAtRenewal.OMITTED, False),
    ],
)
async def test_the_unlock_token_at_renewal_follows_the_lever(
    stage: Stage, habit: UnlockTokenAtRenewal, sends: bool
) -> None:
    phone = await stage.enrolled()
    before = phone.unlock_token
    phone.levers.unlock_token_at_renewal = habit
    await phone.replace_profile(stage.server.profile())
    update = stage.server.last("TokenUpdate")
    assert ("UnlockToken" in update) is sends
    assert (phone.unlock_token == before) is (habit is not UnlockTokenAtRenewal.CHANGED)


@pytest.mark.parametrize(
    "changes",
    [
        {"Topic": "com.apple.mgmt.other"},
        {"ServerURL": "https://elsewhere.example/mdm"},
        {"CheckInURL": None},
        {"ServerCapabilities": []},
    ],
)
async def test_what_may_not_change_is_refused_in_a_replacement(
    stage: Stage, changes: dict[str, Any]
) -> None:
    """6.1, column U."""
    phone = await stage.enrolled()
    with pytest.raises(ProfileRefused):
        await phone.replace_profile(stage.server.profile(**changes))
    assert stage.server.kinds() == ["Authenticate", "TokenUpdate"]


async def test_access_rights_may_shrink_but_not_grow(stage: Stage) -> None:
    """6.1."""
    phone = await stage.enrolled()
    await phone.replace_profile(stage.server.profile(AccessRights=8191 & ~8))
    with pytest.raises(ProfileRefused):
        await phone.replace_profile(stage.server.profile())


async def test_removal_checks_out_once_and_forgets(stage: Stage) -> None:
    """2.5 step 9."""
    phone = await stage.enrolled()
    stage.server.script("CheckOut", 500)
    await phone.remove_profile()
    assert stage.server.kinds()[-1] == "CheckOut"
    assert stage.server.kinds().count("CheckOut") == 1
    assert phone.profile is None
    assert not phone.enrolled


async def test_removal_without_the_flag_is_silent(stage: Stage) -> None:
    phone = stage.device()
    await phone.enroll(stage.server.profile(CheckOutWhenRemoved=None))
    await phone.remove_profile()
    assert "CheckOut" not in stage.server.kinds()


async def test_401_makes_the_device_leave(stage: Stage) -> None:
    """2.5 step 10."""
    phone = await stage.enrolled()
    stage.server.script("Idle", 401)
    session = await phone.idle()
    assert session.status == 401
    assert phone.profile is None
    assert "unenrolled_by_server" in stage.said()


@pytest.mark.parametrize(("kind", "leaves"), [("iphone", True), ("old-ipad", False)])
async def test_403_with_the_code_counts_only_on_a_new_enough_system(
    stage: Stage, kind: str, leaves: bool
) -> None:
    """3.7."""
    phone = await stage.enrolled(kind)
    body = {"code": "com.apple.unrecognized.device"}
    stage.server.script("Idle", plist_reply(body, 403))
    await phone.idle()
    assert (phone.profile is None) is leaves


async def test_a_bare_403_and_any_400_change_nothing(stage: Stage) -> None:
    phone = await stage.enrolled()
    stage.server.script("Idle", 403, 400, httpx.Response(403, json={"code": "other"}))
    for _ in range(3):
        await phone.idle()
    assert phone.enrolled


async def test_a_restored_backup_sends_a_token_update_alone(stage: Stage) -> None:
    """2.5 step 11, TU-15."""
    phone = await stage.enrolled()
    identity, token = phone.identity, phone.push_token
    backup = phone.back_up()
    await phone.erase()
    await phone.restore_from_backup(backup)
    assert stage.server.kinds() == ["Authenticate", "TokenUpdate", "TokenUpdate"]
    assert phone.identity == identity
    assert phone.push_token != token
    assert phone.enrolled
    other = stage.device()
    await other.restore_from_backup(backup)
    assert other.profile is None


async def test_an_erased_device_is_empty_and_silent(stage: Stage) -> None:
    phone = await stage.enrolled()
    stage.server.queue("EraseDevice")
    session = await phone.idle()
    assert session.request_types == ["EraseDevice"]
    assert stage.server.statuses() == ["Idle", "Acknowledged"]
    assert "CheckOut" not in stage.server.kinds()
    assert phone.profile is None
    assert phone.unlock_token is None


async def test_a_new_relationship_has_a_new_magic_token_and_unlock_token(stage: Stage) -> None:
    phone = await stage.enrolled()
    before = (phone.push_magic, phone.push_token, phone.unlock_token)
    await phone.remove_profile()
    await phone.enroll(stage.server.profile())
    after = (phone.push_magic, phone.push_token, phone.unlock_token)
    assert all(old != new for old, new in zip(before, after, strict=True))


async def test_a_push_counts_only_with_the_right_magic_and_topic(stage: Stage) -> None:
    """2.5 step 6."""
    phone = await stage.enrolled()
    await phone.receive_push(TOPIC, "wrong")
    await phone.receive_push("com.apple.mgmt.other", phone.push_magic)
    assert stage.server.reports == []
    assert stage.said().count("push_ignored") == 2
    await phone.receive_push(TOPIC, phone.push_magic)
    assert stage.server.statuses() == ["Idle"]


async def test_redirects_are_followed_with_the_same_put(stage: Stage) -> None:
    """1.1."""
    phone = stage.device()
    await phone.enroll(stage.server.profile(CheckInURL="https://mdm.example/moved"))
    assert phone.enrolled
    paths = [request.url.path for request in stage.server.requests if request.method == "PUT"]
    assert paths == ["/moved", "/mdm"] * 2


async def test_equal_seeds_make_equal_devices(stage: Stage) -> None:
    first = await stage.enrolled("mac", seed=7)
    second = await stage.enrolled("mac", seed=7)
    assert (first.udid, first.serial) == (second.udid, second.serial)
    assert first.push_token == second.push_token
    assert first.push_magic == second.push_magic


async def test_an_offline_device_keeps_its_token_update_for_later(stage: Stage) -> None:
    phone = await stage.enrolled()
    phone.levers.offline = True
    answer = await phone.change_push_token()
    assert answer.status == 0
    phone.levers.offline = False
    await phone.idle()
    assert stage.server.last("TokenUpdate")["Token"] == phone.push_token


async def test_shared_ipad_users_hide_behind_one_user_id(stage: Stage) -> None:
    """1.3.1, TU-13."""
    ipad = await stage.enrolled("shared-ipad")
    await ipad.user_login("ada@school.example", awaiting=True)
    update = stage.server.last("TokenUpdate")
    assert update["UserID"] == SHARED_USER_ID
    assert update["UserShortName"] == "ada@school.example"
    assert update["AwaitingConfiguration"] is True
    assert "UserLongName" not in update
    assert stage.server.reports[-1]["UserShortName"] == "ada@school.example"
    grace = await ipad.user_login("grace@school.example")
    assert ipad.channel(grace).push_token != ipad.channel("ada@school.example").push_token
    stage.server.queue("UserConfigured", channel="ada@school.example")
    await ipad.idle("ada@school.example")
    assert not ipad.users["ada@school.example"].awaiting


async def test_410_refuses_a_shared_ipad_user_until_the_next_login(stage: Stage) -> None:
    """TU-13."""
    ipad = await stage.enrolled("shared-ipad")
    stage.server.script("TokenUpdate", 410)
    ada = await ipad.user_login("ada@school.example")
    assert ada.refused
    assert not ada.managed
    assert stage.server.reports == []
    await ipad.user_login("ada@school.example")
    assert ada.managed
    assert not ada.refused


async def test_a_device_without_users_has_no_logins(stage: Stage) -> None:
    phone = await stage.enrolled()
    with pytest.raises(NotPossible):
        await phone.user_login("ada")


async def test_signature_levers_reach_the_wire(stage: Stage) -> None:
    phone = await stage.enrolled()
    phone.levers.omit_signature = True
    await phone.idle()
    assert stage.server.signers[-1] is None


async def test_events_carry_no_secret(stage: Stage) -> None:
    phone = await stage.enrolled()
    stage.server.queue("ClearPasscode", UnlockToken=phone.unlock_token)
    await phone.idle()
    told = "".join(str(event) for event in stage.events)
    assert phone.push_magic not in told
    assert phone.push_token.hex() not in told


async def test_any_check_in_message_can_be_sent(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    ada = await mac.user_login("ada")
    await mac.ask("GetToken", TokenServiceType="com.apple.maid")
    assert stage.server.last("GetToken") == {
        "MessageType": "GetToken",
        "UDID": mac.udid,
        "TokenServiceType": "com.apple.maid",
    }
    await mac.ask("DeclarativeManagement", ada, Endpoint="tokens")
    assert stage.server.last("DeclarativeManagement")["UserID"] == ada.guid


async def test_a_proxy_may_carry_the_certificate(stage: Stage) -> None:
    """3.8: RFC 9440 form."""
    phone = stage.device()
    phone.levers.proxy_header = "Client-Cert"
    await phone.enroll(stage.server.profile(SignMessage=None))
    value = stage.server.requests[-1].headers["Client-Cert"]
    assert value.startswith(":MII")
    assert value.endswith(":")
    assert stage.server.signers == [None, None]


async def test_a_challenge_asks_an_account_driven_enrollment_to_sign_in_again(
    stage: Stage,
) -> None:
    """account-driven-enrollment.md, what a 401 means; a bare 401 still unenrolls."""
    challenge = httpx.Response(401, headers={"WWW-Authenticate": 'Bearer method="apple-as-web"'})
    phone = stage.device("byod-iphone")
    phone.access_token = "A"
    await phone.enroll(stage.server.profile(EnrollmentMode="BYOD"))
    assert stage.server.requests[-1].headers["Authorization"] == "Bearer A"
    stage.server.script("Idle", challenge, 401)
    await phone.idle()
    assert phone.enrolled
    assert "sign_in_wanted" in stage.said()
    await phone.idle()
    assert not phone.enrolled
    assert "CheckOut" not in stage.server.kinds()
