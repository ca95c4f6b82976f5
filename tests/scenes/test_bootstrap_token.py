"""The bootstrap token: escrowed before the answer, served to its device alone, never replaced by nothing."""

from dataclasses import replace

import pytest

from ostiary.domain.bootstrap import EscrowedTokenGone
from ostiary.domain.enrollment import State
from ostiary.domain.pairing import CertificateNotPaired, EnrollmentIsOut
from ostiary.domain.token import DEFAULT_TENANT, TokenKind, TokenState
from ostiary.errors import Malformed
from ostiary.formats import plist
from ostiary.keys.drawn import SystemDraws
from ostiary.keys.sealer import open_sealer
from ostiary.ports.sealer import SealBroken
from ostiary.protocol.mdm.checkin import NotOnThisChannel, decode_checkin
from ostiary.secret import Secret
from ostiary.services.admin_account import AdminAccounts
from ostiary.services.checkin import CheckinService
from ostiary.services.network_users import NetworkUsers
from ostiary.services.reply import Media, Reply
from ostiary.services.secrets_desk import SecretsDesk
from scenes.house import BYOD_IPHONE, CATALINA, MAC, START, TOPIC, House

V = b"the bootstrap token \x00\xff"


@pytest.mark.case("BT-01")
async def test_a_mac_that_never_escrowed_gets_an_empty_value_and_not_an_empty_body(
    house: House,
) -> None:
    """Row 7 of 4.2."""
    mac = await house.enrolled(MAC)
    reply = await mac.send("GetBootstrapToken")
    assert isinstance(reply, Reply)
    assert reply.media is Media.PLIST
    assert plist.read_dict(reply.body).data("BootstrapToken") == b""


@pytest.mark.case("BT-02")
async def test_what_a_mac_escrowed_comes_back_byte_for_byte(house: House) -> None:
    """Rows 1 and 6."""
    mac = await house.enrolled(MAC)
    assert await mac.set_bootstrap(V) is Reply.EMPTY
    assert await mac.get_bootstrap() == V


@pytest.mark.case("BT-03")
async def test_the_same_value_again_is_one_generation(house: House) -> None:
    """Row 2: only the time moves."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    house.clock.advance(days=1)
    await mac.set_bootstrap(V)
    (record,) = await house.history(mac.id, TokenKind.BOOTSTRAP)
    assert record.received_at == START
    pointer = (await mac.row()).bootstrap
    assert pointer is not None
    assert pointer.arrived_at == house.clock.now()


@pytest.mark.case("BT-04")
async def test_another_value_is_current_and_the_first_is_history(house: House) -> None:
    """Row 1."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    await mac.set_bootstrap(b"W")
    assert await mac.get_bootstrap() == b"W"
    first, second = await house.history(mac.id, TokenKind.BOOTSTRAP)
    assert (first.state, second.state) == (TokenState.SUPERSEDED, TokenState.OK)
    assert (first.generation, second.generation) == (1, 2)


@pytest.mark.case("BT-05", "BT-06")
@pytest.mark.parametrize("taken_back", [b"", None])
async def test_a_mac_takes_its_token_back_with_nothing(
    house: House, taken_back: bytes | None
) -> None:
    """Row 3: empty and absent both delete, the value stays in history with its reason."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    await mac.set_bootstrap(taken_back)
    assert await mac.get_bootstrap() == b""
    (record,) = await house.history(mac.id, TokenKind.BOOTSTRAP)
    assert (record.state, record.cause) == (TokenState.RETIRED, "removed by the device")
    kept = await house.storage.enrollments.load_record(record.id)
    assert kept is not None
    assert house.open(kept) == V


@pytest.mark.case("BT-07", "BT-08")
@pytest.mark.parametrize(
    "element",
    ["<data>!!!!</data>", "<data>QUJD*</data>", "<data>AAAA=</data>", "<string>text</string>"],
)
async def test_garbage_is_refused_and_is_not_the_same_as_nothing(
    house: House, element: str
) -> None:
    """Row 4: a lenient parser turns garbage into an empty value, and so into a deletion."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    body = f"""<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><dict>
        <key>MessageType</key><string>SetBootstrapToken</string>
        <key>UDID</key><string>{mac.id}</string>
        <key>BootstrapToken</key>{element}</dict></plist>"""
    with pytest.raises(Malformed):
        decode_checkin(plist.read_dict(body.encode()))
    assert await mac.get_bootstrap() == V


@pytest.mark.case("BT-09")
@pytest.mark.parametrize("awaiting", [True, False])
async def test_awaiting_changes_nothing_about_escrow(house: House, awaiting: bool) -> None:
    """4.2: information only."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V, AwaitingConfiguration=awaiting)
    assert await mac.get_bootstrap(AwaitingConfiguration=awaiting) == V


@pytest.mark.case("BT-10")
async def test_a_message_that_names_nobody_is_for_the_certificates_enrollment(house: House) -> None:
    """1.3.6: the schemas list no UDID."""
    mac, other = await house.enrolled(MAC), await house.enrolled(MAC)
    await other.set_bootstrap(b"of the other")
    await mac.set_bootstrap(V, UDID=None)
    assert await mac.get_bootstrap(UDID=None) == V
    assert await other.get_bootstrap(UDID=None) == b"of the other"


@pytest.mark.case("BT-11")
async def test_a_token_is_not_disclosed_over_another_devices_certificate(house: House) -> None:
    """The binding rule, with an alert."""
    mac, thief = await house.enrolled(MAC), await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    with pytest.raises(CertificateNotPaired):
        await thief.get_bootstrap(UDID=mac.id)
    with pytest.raises(CertificateNotPaired):
        await mac.with_certificate("never bound").get_bootstrap()
    assert "certificate-not-paired" in await house.alerts()


@pytest.mark.case("BT-12")
async def test_users_and_user_enrollments_have_no_bootstrap_token(house: House) -> None:
    """Row 9: 400, the value unchanged."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    with pytest.raises(NotOnThisChannel):
        await mac.set_bootstrap(b"of a user", UserID="U-1")
    with pytest.raises(NotOnThisChannel):
        await mac.get_bootstrap(UserID="U-1")
    phone = await house.enrolled(BYOD_IPHONE, udid="E-9")
    with pytest.raises(NotOnThisChannel):
        await phone.set_bootstrap(V)
    with pytest.raises(NotOnThisChannel):
        await phone.get_bootstrap(EnrollmentID=None)
    assert await mac.get_bootstrap() == V


@pytest.mark.case("BT-13")
async def test_a_key_that_is_away_is_an_error_and_never_no_token(house: House) -> None:
    """Row 8."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    stranger, _ = open_sealer(Secret(b"x" * 32), (), now=START)
    blind = CheckinService(
        house.storage.enrollments,
        stranger,
        house.clock,
        lambda: house.policy,
        network_users=NetworkUsers({}),
        admins=AdminAccounts(stranger, SystemDraws()),
        make_profile=house.enrollment.return_profile,
    )
    body = plist.encode({"MessageType": "GetBootstrapToken", "UDID": mac.id})
    with pytest.raises(SealBroken):
        await blind.handle(mac.identity, decode_checkin(plist.read_dict(body)))


@pytest.mark.case("ST-01")
async def test_a_record_copied_to_another_device_does_not_open(house: House) -> None:
    """4.0.2 rule 3: an integrity error, not the secret."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    pointer = (await mac.row()).bootstrap
    assert pointer is not None
    record = await house.storage.enrollments.load_record(pointer.record_id)
    assert record is not None
    with pytest.raises(SealBroken):
        house.open(replace(record, holder=type(record.holder)("another device")))
    with pytest.raises(SealBroken):
        house.open(replace(record, kind=TokenKind.UNLOCK))


@pytest.mark.case("BT-15", "UT-11", "CI-40")
async def test_a_proven_renewal_keeps_everything(house: House) -> None:
    """2.3-B: the Mac will not send its token again, and no command can ask for it."""
    mac = await house.enrolled(MAC, unlock=b"kept")
    await mac.set_bootstrap(V)
    await mac.token_update(UserID="U-1")
    assert await mac.drain() == ["UserList"]
    await house.enqueue(mac.id, "ProfileList")
    renewed = await house.renewal_of(mac)
    await renewed.authenticate()
    assert (await mac.row()).state is State.RENEWING
    await renewed.token_update()
    assert await renewed.get_bootstrap() == V
    assert (await house.require_row(f"{mac.id}:U-1")).state is State.ENROLLED
    assert await renewed.drain() == ["ProfileList"]


@pytest.mark.case("BT-16", "CI-43")
async def test_another_certificate_that_claims_the_mac_reads_nothing(house: House) -> None:
    """2.3: any certificate of our CA may claim any UDID at Authenticate."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    attacker = mac.with_certificate("an attacker's")
    await attacker.authenticate()
    assert await attacker.get_bootstrap() == b""
    await attacker.token_update(Token=b"\x0a" * 32)
    assert await attacker.get_bootstrap() == b""
    assert await mac.get_bootstrap() == V


@pytest.mark.case("BT-17", "CI-42")
async def test_a_wiped_mac_with_a_renewal_pending_is_a_new_one(house: House) -> None:
    """2.3 rule 2: AwaitingConfiguration overrides the proof of renewal."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    await house.enqueue(mac.id, "ProfileList")
    renewed = await house.renewal_of(mac)
    house.clock.advance(days=90)
    await renewed.authenticate()
    await renewed.token_update(AwaitingConfiguration=True)
    assert await renewed.get_bootstrap() == b""
    (record,) = await house.history(mac.id, TokenKind.BOOTSTRAP)
    assert (record.state, record.cause) == (TokenState.RETIRED, "the device was erased")
    assert await renewed.drain() == ["DeviceInformation", "SecurityInfo", "DeviceConfigured"]


@pytest.mark.case("BT-18")
async def test_catalina_is_told_by_a_setting_that_tokens_are_welcome(house: House) -> None:
    """4.2: Settings, MDMOptions, BootstrapTokenAllowed; a vendor's page has the wrong key."""
    mac = house.device(CATALINA)
    await mac.authenticate()
    await mac.token_update()
    bodies = []
    command = await mac.report()
    while command is not None:
        bodies.append(command["Command"])
        command = await mac.report("Acknowledged", command["CommandUUID"])
    assert {
        "RequestType": "Settings",
        "Settings": [{"Item": "MDMOptions", "MDMOptions": {"BootstrapTokenAllowed": True}}],
    } in bodies
    assert "AllowBootstrapToken" not in str(bodies)


@pytest.mark.case("BT-19")
async def test_newer_macs_get_no_such_setting(house: House) -> None:
    """4.2: from macOS 11 on the profile's capability says it (tests/unit/protocol/mdm proves that part)."""
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.token_update()
    assert await mac.drain() == ["DeviceInformation", "SecurityInfo", "UserList"]


@pytest.mark.case("BT-22")
async def test_after_check_out_the_token_is_held_and_not_served(house: House) -> None:
    """Row 13."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    await mac.send("CheckOut", Topic=TOPIC)
    with pytest.raises(EnrollmentIsOut):
        await mac.get_bootstrap()
    (record,) = await house.history(mac.id, TokenKind.BOOTSTRAP)
    assert record.state is TokenState.OK


async def test_a_token_set_before_the_first_token_update_is_kept(house: House) -> None:
    """Row 14."""
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.set_bootstrap(V)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    assert await mac.get_bootstrap() == V


async def test_a_record_that_is_gone_is_an_error_and_never_no_token(house: House) -> None:
    """Row 8: a database restored in part must not make a Mac believe that nothing was escrowed."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    house.lose_records(TokenKind.BOOTSTRAP)
    with pytest.raises(EscrowedTokenGone):
        await mac.get_bootstrap()


async def test_health_is_told_of_the_side_that_holds_the_token(house: House) -> None:
    """Somebody who contests the Mac brings a token of his own: the table goes on telling of ours."""
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    newcomer = mac.with_certificate("somebody's")
    await newcomer.authenticate()
    await newcomer.token_update()
    await newcomer.set_bootstrap(b"another")
    desk = SecretsDesk(house.storage.reports, house.storage.escrows, house.clock)
    told = (await desk.bootstrap_of(DEFAULT_TENANT, mac.id)).health
    assert len(await house.history(mac.id, TokenKind.BOOTSTRAP)) == 2
    assert (told.generation, told.escrowed) == (1, True)
