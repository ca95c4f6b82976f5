"""A whole Ostiary over TLS, and a simulated fleet: what a device lives through, from its invitation to its end."""

import base64
import json
import plistlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from e2e.fleet import Fleet
from ostiary_sim.connections import Trust
from ostiary_sim.device import Device
from ostiary_sim.levers import UnlockTokenAtRenewal
from ostiary_sim.personality import PERSONALITIES
from ostiary_sim.signature import HEADER, render_header

EVERYBODY = ("iphone", "ipad", "old-ipad", "shared-ipad", "mac", "mac-10.15", "apple-tv", "watch", "vision")  # fmt: skip


@pytest.mark.parametrize("personality", EVERYBODY)
async def test_every_kind_of_device_enrolls_is_woken_and_answers(
    fleet: Fleet, personality: str
) -> None:
    """Invitation, profile, SCEP, Authenticate, TokenUpdate, push, first commands. (2.5 steps 1 to 6)"""
    device = await fleet.enroll(personality)
    assert (await fleet.enrollment(device.udid))["state"] == "enrolled"
    commands = await fleet.commands(device.udid)
    assert {each["state"] for each in commands} == {"done"}
    assert {"DeviceInformation", "SecurityInfo"} <= {each["request_type"] for each in commands}
    push = await fleet.tokens(device.udid, "push")
    assert [(each["state"], each["generation"]) for each in push] == [("ok", 1)]
    assert push[0]["proven_by"] == "the device came after a push"
    unlock = await fleet.tokens(device.udid, "unlock")
    assert len(unlock) == device.personality.sends_unlock_token
    if device.personality.bootstrap_tokens:
        await device.user_login("ada")  # macOS 10.15 learns by a command that it may escrow
    assert device.bootstrap.escrowed == device.personality.bootstrap_tokens


@pytest.mark.case("AP-01")
async def test_a_push_says_nothing_but_the_magic(fleet: Fleet) -> None:
    """POST to the hex token, `mdm` alone in the body, topic, type, priority and expiration. (5.1)"""
    device = await fleet.enroll("iphone")
    push = fleet.pushes()[-1]
    assert (push.method, push.path) == ("POST", f"/3/device/{device.push_token.hex()}")
    assert json.loads(push.body) == {"mdm": device.push_magic}
    assert push.headers["apns-topic"] == push.certificate_topic == fleet.apple.topic
    assert push.headers["apns-push-type"] == "mdm"
    assert push.headers["apns-priority"] == "10"
    assert int(push.headers["apns-expiration"]) > fleet.clock.now().timestamp()


@pytest.mark.case("CI-02", "CI-04")
async def test_nobody_is_pushed_before_the_first_token_update_is_stored(fleet: Fleet) -> None:
    """The commit of the TokenUpdate fails: 5xx, still PENDING, no push; the repeat enrolls. (2.4)"""
    device = fleet.new_device("iphone")
    fleet.disk.fails_at = "authenticated"
    await device.enroll(await fleet.profile(device))
    fleet.disk.repair()
    assert not device.enrolled
    failed = {each.detail for each in fleet.events if each.what == "token_update_failed"}
    assert failed == {"503"}
    assert (await fleet.enrollment(device.udid))["state"] == "pending"
    refused = await fleet.push(device.udid)
    assert refused["error"]
    await fleet.wake()
    assert fleet.pushes() == []
    await device.idle()
    assert (await fleet.enrollment(device.udid))["state"] == "enrolled"
    unlock = await fleet.tokens(device.udid, "unlock")
    assert [each["size"] for each in unlock] == [len(device.unlock_token or b"")]


@pytest.mark.case("CI-04")
async def test_a_token_update_whose_commit_fails_changes_nothing(fleet: Fleet) -> None:
    """Storage fails on commit: 5xx, the old values still wake the device, and the repeat succeeds. (1.2)"""
    device = await fleet.enroll("iphone")
    old_magic = device.push_magic
    fleet.disk.fails = True
    answer = await device.send_token_update(push_magic="A NEW MAGIC")
    fleet.disk.repair()
    assert answer.status == 503
    assert len(await fleet.tokens(device.udid, "push")) == 1
    await fleet.push(device.udid)
    assert fleet.pushes()[-1].magic == old_magic
    await device.idle()
    states = [each["state"] for each in await fleet.tokens(device.udid, "push")]
    assert states == ["superseded", "unproven"]
    await fleet.push(device.udid)
    assert fleet.pushes()[-1].magic == "A NEW MAGIC"


@pytest.mark.case("CI-08")
async def test_the_next_push_uses_the_new_token_and_the_new_magic(fleet: Fleet) -> None:
    """Both values of a TokenUpdate count from the moment of its 200. (1.4)"""
    device = await fleet.enroll("ipad")
    new_token = bytes(range(32))
    await device.send_token_update(push_token=new_token, push_magic="B0C1")
    await fleet.enqueue(device.udid, "device-information")
    await fleet.wake()
    assert (fleet.pushes()[-1].token, fleet.pushes()[-1].magic) == (new_token, "B0C1")
    assert (await fleet.commands(device.udid))[0]["state"] == "done"


@pytest.mark.case("AP-11")
async def test_twenty_commands_at_once_make_one_or_two_pushes(fleet: Fleet) -> None:
    """A push says "come"; twenty of them would say no more. (5.2)"""
    device = await fleet.enroll("iphone")
    before = len(fleet.pushes())
    for _ in range(20):
        await fleet.enqueue(device.udid, "device-information")
    await fleet.wake()
    assert 1 <= len(fleet.pushes()) - before <= 2
    assert [each["state"] for each in await fleet.commands(device.udid)] == ["done"] * 22


@pytest.mark.case("AP-02", "AP-04")
async def test_a_dead_push_token_is_left_alone_until_the_device_brings_a_new_one(
    fleet: Fleet,
) -> None:
    """410 after the token's arrival: no further attempt, nothing else lost; TokenUpdate revives. (5.5)"""
    device = await fleet.enroll("iphone")
    fleet.apple.apns.levers.kill(device.push_token, fleet.clock.now() + timedelta(seconds=1))
    await fleet.enqueue(device.udid, "device-information")
    await fleet.wake()
    row = await fleet.enrollment(device.udid)
    assert (row["state"], row["push"]) == ("enrolled", "dead")
    assert [each["state"] for each in await fleet.tokens(device.udid, "unlock")] == ["unproven"]
    sent = len(fleet.pushes())
    fleet.clock.advance(days=2)
    await fleet.wake()
    assert len(fleet.pushes()) == sent
    await device.change_push_token()
    await fleet.wake()
    assert (await fleet.enrollment(device.udid))["push"] == "ok"
    assert (await fleet.commands(device.udid))[0]["state"] == "done"
    states = [each["state"] for each in await fleet.tokens(device.udid, "push")]
    assert states[-1] == "ok"


@pytest.mark.case("CQ-05", "CQ-06")
async def test_a_command_put_off_is_offered_again_and_the_device_called_for_it(
    fleet: Fleet,
) -> None:
    """NotNow keeps its place; other commands go on; a later push exists for it. (3.4)"""
    device = await fleet.enroll("ipad")
    device.say_not_now(["SecurityInfo"])
    put_off = await fleet.enqueue(device.udid, "security-info")
    await fleet.enqueue(device.udid, "device-information")
    await fleet.wake()
    waiting = [each for each in await fleet.commands(device.udid) if each["closed"] is None]
    assert [(each["uuid"], each["state"]) for each in waiting] == [(put_off["uuid"], "deferred")]
    device.ready()
    sent = len(fleet.pushes())
    fleet.clock.advance(days=1)
    await fleet.wake()
    assert len(fleet.pushes()) > sent
    offered = [each.detail for each in fleet.events if each.detail.startswith("SecurityInfo")]
    assert offered == [
        "SecurityInfo: Acknowledged",  # at enrollment
        "SecurityInfo: NotNow",
        "SecurityInfo: Acknowledged",
    ]


@pytest.mark.case("CQ-03")
async def test_a_command_lost_on_the_way_comes_again_under_its_uuid(fleet: Fleet) -> None:
    """Handed out, connection lost: the next Idle gets the same command. (3.4)"""
    device = await fleet.enroll("iphone")
    queued = await fleet.enqueue(device.udid, "device-information")
    device.levers.break_off_after = 1
    await fleet.wake()
    assert "connection_lost" in {each.what for each in fleet.events}
    assert (await fleet.commands(device.udid))[0]["state"] == "sent"
    session = await device.idle()
    assert [each.uuid for each in session.executed] == [queued["uuid"]]
    assert (await fleet.commands(device.udid))[0]["state"] == "done"


@pytest.mark.case("CQ-16")
async def test_a_report_that_could_not_be_stored_is_taken_when_it_comes_again(
    fleet: Fleet,
) -> None:
    """The database is away: 5xx; the device keeps its result and closes the command later. (3.7)"""
    device = await fleet.enroll("iphone")
    queued = await fleet.enqueue(device.udid, "device-information", push=False)
    fleet.disk.fails_at = "command_answered"
    session = await device.idle()
    assert (session.status, session.completed) == (503, False)
    fleet.disk.repair()
    again = await device.idle()
    assert (again.executed, again.completed) == ([], True)
    closed = [each for each in await fleet.commands(device.udid) if each["uuid"] == queued["uuid"]]
    assert [each["state"] for each in closed] == ["done"]


@pytest.mark.case("UT-06")
async def test_the_unlock_token_that_came_once_clears_the_passcode(fleet: Fleet) -> None:
    """ClearPasscode carries it exactly, also bytes that become + and / in base64. (escrowed-secrets.md 4.1)"""
    device = await fleet.enroll("iphone")
    assert device.unlock_token is not None
    assert {"+", "/"} <= set(base64.b64encode(device.unlock_token).decode())
    await device.change_push_token()
    queued = await fleet.enqueue(device.udid, "clear-passcode")
    await fleet.wake()
    assert not device.passcode_set
    (unlock,) = await fleet.tokens(device.udid, "unlock")
    assert unlock["proven_by"] == f"ClearPasscode {queued['uuid']} acknowledged"


@pytest.mark.case("BT-02")
async def test_a_mac_gets_its_bootstrap_token_back_when_somebody_else_logs_in(
    fleet: Fleet,
) -> None:
    """Escrowed at the first login, asked for at the second, byte for byte. (escrowed-secrets.md 4.2)"""
    mac = await fleet.enroll("mac")
    assert mac.bootstrap.escrowed
    grace = await mac.user_login("grace", managed=False)
    assert grace.secure_token
    assert (await mac.get_bootstrap_token()).token == mac.bootstrap.token


@pytest.mark.case("CI-40", "BT-15")
async def test_a_renewed_identity_loses_nothing(fleet: Fleet) -> None:
    """`ostiary identity renew` sends InstallProfile: queue, user and bootstrap token stay. (6.1; TU-6)"""
    mac = await fleet.enroll("mac")
    old = mac.installed.identity
    user_id = f"{mac.udid}:{mac.users['ada'].guid}"
    await fleet.renew(mac)
    await fleet.enqueue(mac.udid, "device-information")
    await fleet.wake()
    assert mac.installed.identity.fingerprint != old.fingerprint
    states = {each["request_type"]: each["state"] for each in await fleet.commands(mac.udid)}
    assert states == dict.fromkeys(
        ("DeviceInformation", "SecurityInfo", "UserList", "InstallProfile"), "done"
    )
    assert (await fleet.enrollment(mac.udid))["state"] == "enrolled"
    assert (await fleet.enrollment(user_id))["state"] == "enrolled"
    assert (await mac.get_bootstrap_token()).token == mac.bootstrap.token
    assert len(await fleet.tokens(mac.udid, "bootstrap")) == 1


@pytest.mark.case("UT-11", "CI-45")
async def test_a_renewal_without_an_unlock_token_keeps_the_old_one(fleet: Fleet) -> None:
    """Absence never erases, not even across identities; the old identity is refused, and not by 401. (2.3)"""
    iphone = await fleet.enroll("iphone")
    old = iphone.installed.identity
    iphone.levers.unlock_token_at_renewal = UnlockTokenAtRenewal.OMITTED
    await fleet.renew(iphone)
    await fleet.wake()
    await fleet.enqueue(iphone.udid, "clear-passcode")
    await fleet.wake()
    assert not iphone.passcode_set
    iphone.levers.sign_as = old
    answer = await iphone.send_token_update()
    assert 400 <= answer.status < 600
    assert answer.status not in (401, 403)
    assert iphone.profile is not None


@pytest.mark.case("CI-16")
async def test_two_pupils_on_two_shared_ipads_are_four_channels(fleet: Fleet) -> None:
    """Every Shared iPad sends one UserID for everybody; the short name tells users apart. (1.3.1)"""
    first, second = await fleet.enroll("shared-ipad"), await fleet.enroll("shared-ipad")
    pupils = PERSONALITIES["shared-ipad"].initial_users
    ids = [f"{device.udid}:{name}" for device in (first, second) for name in pupils]
    digests = [(await fleet.tokens(one, "push"))[0]["digest"] for one in ids]
    assert len(set(digests)) == 4


@pytest.mark.case("CI-26", "BT-22")
async def test_whoever_checked_out_gets_nothing_more(fleet: Fleet) -> None:
    """Device and users out, no push, no command, no secret; and no word that unenrolls. (1.6)"""
    mac = await fleet.enroll("mac")
    user_id = f"{mac.udid}:{mac.users['ada'].guid}"
    await fleet.enqueue(mac.udid, "device-information", push=False)
    assert (await mac.check_out()).status == 200
    for one in (mac.udid, user_id):
        assert (await fleet.enrollment(one))["state"] == "out"
        assert (await fleet.push(one))["error"]
    sent = len(fleet.pushes())
    await fleet.wake()
    assert len(fleet.pushes()) == sent
    assert (await mac.idle()).executed == []
    assert not (await mac.get_bootstrap_token()).token
    assert mac.profile is not None


@pytest.mark.case("CI-14")
async def test_a_restored_backup_brings_a_device_back(fleet: Fleet) -> None:
    """After its CheckOut a TokenUpdate alone arrives, signed by the identity still bound. (TU-15)"""
    iphone = await fleet.enroll("iphone")
    backup = iphone.back_up()
    await iphone.remove_profile()
    assert (await fleet.enrollment(iphone.udid))["state"] == "out"
    await iphone.restore_from_backup(backup)
    assert (await fleet.enrollment(iphone.udid))["state"] == "enrolled"
    await fleet.enqueue(iphone.udid, "clear-passcode")
    await fleet.wake()
    assert not iphone.passcode_set


@pytest.mark.case("CQ-18")
@pytest.mark.parametrize(("version", "goodbye"), [("16.7", "401"), ("17.0", "403")])
async def test_a_released_device_leaves_management(
    fleet: Fleet, version: str, goodbye: str
) -> None:
    """An operator's word, in the form that the device's OS understands. (3.7)"""
    iphone = await fleet.enroll(replace(PERSONALITIES["iphone"], os_version=version))
    ask = {"id": iphone.udid, "reason": "sold"}
    await fleet.desk.ask("POST", "/device/release", content=ask)
    await iphone.idle()
    assert iphone.profile is None
    assert [each.detail for each in fleet.events if each.what == "unenrolled_by_server"] == [
        goodbye
    ]


@pytest.mark.case("CI-52")
async def test_a_message_without_its_signature_is_refused_and_never_unenrolls(
    fleet: Fleet,
) -> None:
    """A proxy that eats headers must not cost a fleet: 400, never 401. (3.8)"""
    iphone = await fleet.enroll("iphone")
    iphone.levers.omit_signature = True
    assert (await iphone.idle()).status == 400
    answers = [
        await iphone.send_token_update(push_magic="NOT SIGNED"),
        await iphone.ask("GetToken", TokenServiceType="com.apple.maid"),
        await iphone.check_out(),
    ]
    assert {each.status for each in answers} == {400}
    assert (await fleet.enrollment(iphone.udid))["state"] == "enrolled"
    assert len(await fleet.tokens(iphone.udid, "push")) == 1


@pytest.mark.case("CI-25")
@pytest.mark.parametrize("path", ["/mdm", "/checkin", "/mdm/checkin", "/mdm/connect"])
async def test_the_content_type_tells_check_ins_from_reports_at_any_of_our_addresses(
    fleet: Fleet, path: str
) -> None:
    """Profiles with a single URL send both there, and some devices add a charset. (1.1)"""
    iphone = await fleet.enroll("iphone")
    await fleet.enqueue(iphone.udid, "device-information", push=False)
    check_in = {
        "MessageType": "TokenUpdate",
        "UDID": iphone.udid,
        "Topic": fleet.apple.topic,
        "Token": iphone.push_token,
        "PushMagic": "C2D3",
    }
    answer = await put(fleet, iphone, path, check_in, "mdm-checkin; charset=UTF-8")
    assert (answer.status_code, answer.content) == (200, b"")
    assert len(await fleet.tokens(iphone.udid, "push")) == 2
    report = {"Status": "Idle", "UDID": iphone.udid}
    answer = await put(fleet, iphone, path, report, "mdm; charset=UTF-8")
    assert answer.status_code == 200
    assert plistlib.loads(answer.content)["Command"]["RequestType"] == "DeviceInformation"


async def put(
    fleet: Fleet, device: Device, path: str, message: Mapping[str, object], kind: str
) -> httpx.Response:
    """Send one signed message in a device's name, to any address, as any content type of MDM's."""
    body = plistlib.dumps(dict(message))
    form = device.personality.signature_form
    headers = {
        "Content-Type": f"application/x-apple-aspen-{kind}",
        HEADER: render_header(body, device.installed.identity, form, fleet.clock.now()),
    }
    url = f"{fleet.house.settings.url}{path}"
    return await fleet.clients(Trust()).put(url, content=body, headers=headers)
