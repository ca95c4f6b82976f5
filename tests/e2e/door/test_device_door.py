"""The device routes over HTTP: signatures that openssl made, codes that never unenroll by accident."""

import base64
from datetime import timedelta

import pytest

from e2e.door.conftest import CONNECT, TOPIC, Door
from fuzz.pki import NOW, ec_key, issue, openssl_sign, rsa_key
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.formats import plist
from ostiary.ports.sealer import SealLabel
from ostiary.protocol.mdm.identity import EnrollmentId, WithoutIdentity, resolve_channel
from ostiary.services.caller import Caller, Scope
from ostiary.services.devices import DeviceDesk

LARGE = b"\xfb\xff" * 150_000
"""Needs pages that a full disk does not have."""


async def state_of(door: Door, udid: str) -> str | None:
    rows = await door.house.storage.reports.find_enrollments(DEFAULT_TENANT, EnrollmentId(udid))
    return rows[0].state.value if rows else None


async def unlock_token(door: Door, udid: str) -> bytes:
    """What ClearPasscode would carry: the stored token."""
    device = next(
        iter(await door.house.storage.reports.find_enrollments(DEFAULT_TENANT, EnrollmentId(udid)))
    )
    assert device.unlock is not None
    record = await door.house.storage.enrollments.load_record(device.unlock.record_id)
    assert record is not None
    label = SealLabel(
        tenant=record.tenant, holder=record.holder, kind=record.kind, record_id=record.id
    )
    return bytes(door.house.sealer.unseal(record.value, label).reveal())


@pytest.mark.case("CI-01", "CI-25")
async def test_one_address_serves_check_ins_and_reports(door: Door) -> None:
    """1.1: by content type, parameters may follow; where that does not tell, by the body."""
    device = door.device()
    body = device.message("Authenticate", Topic=TOPIC)
    first = await device.put(body, kind="application/x-apple-aspen-mdm-checkin; charset=UTF-8")
    assert (first.status_code, first.content) == (200, b"")
    update = device.message("TokenUpdate", Topic=TOPIC, Token=b"t", PushMagic="m")
    assert (await device.put(update, kind="text/xml")).status_code == 200
    idle = plist.encode({"Status": "Idle", "UDID": device.udid})
    command = await device.put(idle, kind="application/octet-stream")
    assert command.headers["content-type"] == "application/xml; charset=UTF-8"
    assert plist.read_dict(command.content).has("CommandUUID")
    for path in ("/checkin", "/mdm/checkin", "/mdm/connect"):
        assert (await device.put(idle, path=path, kind=CONNECT)).status_code == 200


@pytest.mark.case("CI-48")
@pytest.mark.parametrize(
    "signing",
    [
        ("-md", "sha1", "-noattr"),
        ("-md", "sha256", "-noattr"),
        ("-md", "sha256"),
        ("-md", "sha512"),
        ("-md", "sha256", "-stream"),
        ("-md", "sha256", "-keyid"),
    ],
)
async def test_every_form_of_signature_that_devices_send_is_accepted(
    door: Door, signing: tuple[str, ...]
) -> None:
    """3.8 steps 1 to 5: macOS without signed attributes, iOS with them, indefinite lengths, key identifiers."""
    device = door.device(signing=signing)
    assert (await device.authenticate()).status_code == 200
    assert (await device.token_update()).status_code == 200


async def test_a_hardware_bound_elliptic_curve_identity_is_accepted(door: Door) -> None:
    """3.8 step 5."""
    certificate = issue(
        "a device with an EC key", door.authority, key=ec_key(3), ends_at=NOW + timedelta(days=3)
    )
    device = door.device(certificate=certificate)
    assert (await device.authenticate()).status_code == 200


@pytest.mark.case("CI-49")
async def test_a_certificate_that_begins_in_a_moment_is_accepted(door: Door) -> None:
    """3.8 step 6: devices sign seconds before their new certificate begins."""
    soon = door.certificate("issued by a faster clock", starts_at=NOW + timedelta(minutes=2))
    assert (await door.device(certificate=soon).authenticate()).status_code == 200
    late = door.certificate("issued for tomorrow", starts_at=NOW + timedelta(days=1))
    assert (await door.device(certificate=late).authenticate()).status_code == 400


@pytest.mark.case("CI-50", "CI-51", "CI-52")
async def test_what_proves_nothing_is_refused_with_400_and_changes_nothing(door: Door) -> None:
    """3.8 step 8: another body's signature, a stranger's, none, garbage; never 401."""
    device = door.device()
    body = device.message("Authenticate", Topic=TOPIC)
    stranger = issue("nobody knows", key=rsa_key(2), ends_at=NOW + timedelta(days=3))
    twice = base64.b64encode(openssl_sign([device.certificate, stranger], body)).decode()
    for signature in (
        device.signature(device.message("Authenticate", Topic=TOPIC, DeviceName="other")),
        base64.b64encode(openssl_sign(stranger, body)).decode(),
        None,
        "",
        "!!!!",
        "AAAA",
        device.signature(body)[:-8],
        twice,
        "A" * 30_000,
    ):
        answer = await device.put(body, Mdm_Signature=signature)
        assert answer.status_code in (400, 413), signature
        assert answer.status_code not in (401, 403)
        assert b"Traceback" not in answer.content
    assert await state_of(door, device.udid) is None


async def test_two_signature_headers_are_refused(door: Door) -> None:
    """users.md 5.4 case 1."""
    device = door.device()
    body = device.message("Authenticate", Topic=TOPIC)
    signature = device.signature(body)
    answer = await door.client.put(
        "/mdm", content=body, headers=[("Mdm-Signature", signature), ("Mdm-Signature", signature)]
    )
    assert answer.status_code == 400


async def test_a_certificate_header_from_an_untrusted_peer_is_not_read(door: Door) -> None:
    """users.md 5.4 case 1: only a trusted proxy speaks for a device."""
    device = door.device()
    body = device.message("Authenticate", Topic=TOPIC)
    header = ":" + base64.b64encode(device.certificate.der).decode() + ":"
    answer = await device.put(body, Mdm_Signature=None, Client_Cert=header)
    assert answer.status_code == 400


@pytest.mark.case("CI-23")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not a property list",
        b"bplist00" + b"\xff" * 40,
        b'<?xml version="1.0"?><plist version="1.0"><string>root</string></plist>',
        b'<?xml version="1.0"?><plist version="1.0"><array/></plist>',
        b'<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "b">]><plist version="1.0"><dict/></plist>',
        b'<?xml version="1.0"?><plist version="1.0"><dict><key>a</key><integer>one</integer></dict></plist>',
        b'<?xml version="1.0"?><plist version="1.0"><dict>' + b"<array>" * 100_000,
    ],
)
async def test_a_body_that_is_no_message_is_400_and_the_server_lives(
    door: Door, body: bytes
) -> None:
    """Section 0: three exception families, and none of them escapes."""
    device = door.device()
    answer = await device.put(body)
    assert answer.status_code in (400, 413)
    assert b"Traceback" not in answer.content
    assert (await device.authenticate()).status_code == 200


@pytest.mark.case("UT-14")
async def test_an_unlock_token_that_is_not_base64_refuses_the_message_as_a_whole(
    door: Door,
) -> None:
    """4.1 server rule 2."""
    device = await door.device().enroll()
    body = device.message(
        "TokenUpdate", Topic=TOPIC, Token=b"new", PushMagic="new", UnlockToken=b"MARK"
    )
    broken = body.replace(base64.b64encode(b"MARK"), b"!!!!")
    assert broken != body
    assert (await device.put(broken)).status_code == 400
    assert await unlock_token(door, device.udid) == b"first"


@pytest.mark.case("CI-04", "UT-05")
async def test_a_token_update_on_a_full_disk_is_5xx_and_its_repeat_is_kept(door: Door) -> None:
    """TU-7: the device keeps it pending and repeats it; what was held stays."""
    device = await door.device().enroll()
    await door.fill_disk()
    refused = await device.token_update(UnlockToken=LARGE)
    assert refused.status_code == 503
    assert await unlock_token(door, device.udid) == b"first"
    await door.free_disk()
    assert (await device.token_update(UnlockToken=LARGE)).status_code == 200
    assert await unlock_token(door, device.udid) == LARGE


@pytest.mark.case("BT-14")
async def test_a_bootstrap_token_on_a_full_disk_is_5xx_and_its_repeat_is_kept(door: Door) -> None:
    """4.2 row 5."""
    device = await door.device().enroll()
    await door.fill_disk()
    assert (await device.send("SetBootstrapToken", BootstrapToken=LARGE)).status_code == 503
    held = await device.send("GetBootstrapToken")
    assert plist.read_dict(held.content).data("BootstrapToken") == b""
    await door.free_disk()
    assert (await device.send("SetBootstrapToken", BootstrapToken=LARGE)).status_code == 200
    held = await device.send("GetBootstrapToken")
    assert plist.read_dict(held.content).data("BootstrapToken") == LARGE


@pytest.mark.case("CQ-16")
async def test_a_report_on_a_full_disk_is_5xx_and_its_repeat_closes_the_command(door: Door) -> None:
    """3.4 rule 4: the device caches its result until it sees 2xx."""
    device = await door.device().enroll()
    uuid = await enqueue(door, device.udid)
    assert plist.read_dict((await device.report()).content).text("CommandUUID") == uuid
    fact = "f" * 60_000
    await door.fill_disk()
    assert (await device.report("Acknowledged", uuid, Fact=fact)).status_code == 503
    await door.free_disk()
    assert (await device.report("Acknowledged", uuid, Fact=fact)).status_code == 200
    lines = await door.house.storage.reports.list_commands(
        DEFAULT_TENANT, EnrollmentId(device.udid), live_only=False, limit=10
    )
    assert [line.state for line in lines if line.uuid == uuid] == ["done"]


@pytest.mark.case("CQ-18")
@pytest.mark.parametrize(
    ("version", "status", "kind"), [("16.1", 401, None), ("17.0", 403, "application/xml")]
)
async def test_a_released_device_hears_the_code_its_system_knows(
    door: Door, version: str, status: int, kind: str | None
) -> None:
    """3.7: and every other code of ours is none of these."""
    device = door.device()
    await device.send("Authenticate", Topic=TOPIC, ProductName="iPhone15,2", OSVersion=version)
    await device.token_update()
    desk = DeviceDesk(
        door.house.storage.enrollments, door.house.storage.challenges, door.house.clock
    )
    await desk.release(DEFAULT_TENANT, EnrollmentId(device.udid), actor="operator", reason="sold")
    answer = await device.report()
    assert answer.status_code == status
    if kind is not None:
        assert answer.headers["content-type"].startswith(kind)
        assert plist.read_dict(answer.content).text("code") == "com.apple.unrecognized.device"


@pytest.mark.case("CQ-19")
async def test_a_fault_of_ours_never_unenrolls(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """3.7, the fail-safe rule: an internal exception anywhere is 500 without detail."""
    device = await door.device().enroll()
    secret = "the body that must not be quoted"
    for place, name in [
        (door.house.device_door.gate, "recognize"),
        (door.house.device_door.checkin, "handle"),
        (door.house.device_door.commands, "handle"),
        (door.house.storage.enrollments, "decide"),
        (door.house.sealer, "seal"),
    ]:
        with monkeypatch.context() as broken:

            def fault(*_args: object, **_named: object) -> None:
                raise RuntimeError(secret)

            broken.setattr(type(place), name, fault)
            answers = [
                await device.token_update(),
                await device.report(),
                await device.send("GetBootstrapToken"),
            ]
        codes = {answer.status_code for answer in answers}
        assert codes <= {200, 500}
        assert 500 in codes
        assert all(secret.encode() not in answer.content for answer in answers)
    assert (await device.report()).status_code == 200


@pytest.mark.case("CI-10", "CI-12", "CI-17", "CI-20", "CI-22", "CI-36", "CQ-09", "CQ-10")
async def test_messages_that_make_no_sense_are_400(door: Door) -> None:
    """1.2, 1.3, 2.1, 3.1."""
    device = await door.device().enroll()
    answers = [
        await device.token_update(Topic="com.apple.mgmtX.y"),
        await device.token_update(Token=None),
        await device.token_update(PushMagic=None),
        await device.token_update(UserID="FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"),
        await device.token_update(UDID=None),
        await device.send("Unheard-of"),
        await device.send("GetToken", TokenServiceType="unheard-of"),
        await device.report("Perhaps"),
        await device.report("Acknowledged"),
    ]
    assert [answer.status_code for answer in answers] == [400] * len(answers)
    assert await unlock_token(door, device.udid) == b"first"


@pytest.mark.case("CI-13", "CI-46", "BT-11")
async def test_a_certificate_that_is_not_bound_is_400_and_never_401(door: Door) -> None:
    """3.8 binding rules 2 to 4."""
    device = await door.device().enroll()
    other = door.device()
    other.udid = device.udid
    assert (await other.token_update()).status_code == 400
    assert (await other.send("GetBootstrapToken")).status_code == 400
    assert (await other.report()).status_code == 400
    elsewhere = door.device(certificate=device.certificate)
    assert (await elsewhere.authenticate()).status_code == 400
    assert await state_of(door, elsewhere.udid) is None


@pytest.mark.case("DM-04")
async def test_a_missing_declaration_is_404(door: Door) -> None:
    """7.2: the device removes its copy."""
    device = await door.device().enroll()
    answer = await device.send("DeclarativeManagement", Endpoint="declaration/configuration/x")
    assert answer.status_code == 404
    tokens = await device.send("DeclarativeManagement", Endpoint="tokens")
    assert tokens.headers["content-type"] == "application/json"


@pytest.mark.case("CI-31")
async def test_a_network_user_is_declined_with_410(door: Door) -> None:
    """1.5."""
    device = await door.device().enroll()
    assert (await device.send("UserAuthenticate", UserID="U-1")).status_code == 410


@pytest.mark.case("BT-20")
@pytest.mark.parametrize("said", ["not supported", "allowed", "disallowed", True, False])
async def test_security_info_in_any_spelling_is_stored(door: Door, said: str | bool) -> None:
    """4.2: prose compares a string field with "true"; a bool is no type error."""
    device = await door.device().enroll()
    uuid = await enqueue(door, device.udid, "SecurityInfo")
    await device.report()
    facts = {
        "BootstrapTokenAllowedForAuthentication": said,
        "FDE_PersonalRecoveryKeyCMS": b"an envelope",
    }
    assert (await device.report("Acknowledged", uuid, SecurityInfo=facts)).status_code == 200
    lines = await door.house.storage.reports.list_commands(
        DEFAULT_TENANT, EnrollmentId(device.udid), live_only=False, limit=10
    )
    (stored,) = [line.result for line in lines if line.uuid == uuid]
    assert stored is not None
    assert "BootstrapTokenAllowedForAuthentication" in stored
    assert "envelope" not in stored


async def test_bodies_are_bounded(door: Door) -> None:
    """3.9: 1 MiB for a check-in, 16 MiB for a report; 413 beyond, and nothing stored."""
    device = await door.device().enroll()
    assert (await device.token_update(UnlockToken=b"x" * 1_100_000)).status_code == 413
    assert (await device.report("Idle", Fact=b"x" * 2_000_000)).status_code == 200
    assert (await device.report("Idle", Fact=b"x" * 13_000_000)).status_code == 413
    assert await unlock_token(door, device.udid) == b"first"


@pytest.mark.case("CI-21")
@pytest.mark.parametrize(
    ("keys", "kind", "enrollment_id", "device_id"),
    [
        ({"UDID": "D1"}, "Device", "D1", "D1"),
        ({"UDID": "D2", "UserID": "U2"}, "User", "D2:U2", "D2"),
        ({"EnrollmentID": "E3"}, "User Enrollment (Device)", "E3", "E3"),
        ({"EnrollmentID": "E4", "EnrollmentUserID": "U4"}, "User Enrollment", "E4:U4", "E4"),
        (
            {
                "UDID": "D5",
                "UserID": "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
                "UserShortName": "ada@school.example",
            },
            "Shared iPad",
            "D5:ada@school.example",
            "D5",
        ),
        ({}, None, None, None),
    ],
)
def test_identities_resolve_as_nanomdm_resolves_them(
    keys: dict[str, str], kind: str | None, enrollment_id: str | None, device_id: str | None
) -> None:
    """2.1: the same six cases, the same types and ids."""
    fields = plist.read_dict(plist.encode(keys))
    if kind is None:
        with pytest.raises(WithoutIdentity):
            resolve_channel(fields)
        return
    channel = resolve_channel(fields)
    assert (channel.type.value, channel.id, channel.device_id) == (kind, enrollment_id, device_id)


@pytest.mark.parametrize("udid", ["a:b", "a,b", "a\nb", "x" * 256])
async def test_an_id_that_would_read_as_another_is_refused(door: Door, udid: str) -> None:
    """users.md 5.4 case 3: a colon joins, a comma separates."""
    device = door.device()
    device.udid = udid
    assert (await device.authenticate()).status_code == 400


async def enqueue(door: Door, udid: str, request_type: str = "ProfileList") -> str:
    caller = Caller(name="operator", tenant=DEFAULT_TENANT, scopes=frozenset({Scope.ADMIN}))
    target = EnrollmentId(udid)
    done = await door.house.desk.enqueue([target], {"RequestType": request_type}, caller)
    assert done.refused == {target: None}
    return done.uuid
