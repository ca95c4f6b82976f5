"""FileVault recovery keys: read in every form, kept in every generation, lost by nothing that a server does. (4.3)"""

import plistlib
from typing import Any

import pytest

from fuzz.envelopes import openssl_envelope
from ostiary.domain.escrow import EscrowState
from ostiary.domain.escrow_orders import RecoveryKeyNotHeld
from ostiary.domain.suitability import (
    NotAwaiting,
    NotByAutomatedEnrollment,
    ProfileNotForThisEnrollment,
    SystemTooOld,
)
from ostiary.domain.token import DEFAULT_TENANT, Holder, TokenKind, TokenState
from ostiary.errors import OstiaryError
from ostiary.protocol.mdm.filevault_profile import FileVaultOptions
from ostiary.protocol.mdm.identity import EnrollmentId
from scenes.house import IPHONE, MAC, OPERATOR, Device, House, Model

KEY = TokenKind.FILEVAULT_KEY
P1, P2 = "AAAA-BBBB-CCCC-DDDD-EEEE-FFFF", "1111-2222-3333-4444-5555-6666"
ROTATE = "RotateFileVaultKey"


async def certificate_of(house: House, mac: Device) -> bytes:
    """The escrow certificate that the Mac has after its profile was installed."""
    await house.filevault.install(
        EnrollmentId(mac.id), OPERATOR, location="the help desk", options=FileVaultOptions()
    )
    command = await mac.report()
    assert command is not None
    profile = plistlib.loads(command["Command"]["Payload"])
    await mac.report("Acknowledged", command["CommandUUID"])
    return next(
        bytes(payload["PayloadContent"])
        for payload in profile["PayloadContent"]
        if payload["PayloadType"] == "com.apple.security.pkcs1"
    )


async def security_info(house: House, mac: Device, **said: Any) -> None:
    """The Mac answers SecurityInfo."""
    uuid = await house.enqueue(mac.id, "SecurityInfo")
    await mac.report()
    await mac.report("Acknowledged", uuid, SecurityInfo={"FDE_Enabled": True, **said})


async def escrowed(house: House, mac: Device, certificate: bytes, key: str, **form: Any) -> None:
    """The Mac reports its recovery key, encrypted as it likes."""
    envelope = openssl_envelope(key.encode(), certificate, **{"cipher": "-aes256", **form})
    await security_info(house, mac, FDE_PersonalRecoveryKeyCMS=envelope)


async def rotating(house: House, mac: Device) -> dict[str, Any]:
    """A rotation that has been handed out."""
    await house.change(mac.id, KEY)
    command = await mac.report()
    assert command is not None
    assert command["Command"]["RequestType"] == ROTATE
    return command


@pytest.mark.case("FV-02")
@pytest.mark.parametrize(
    ("cipher", "options"),
    [
        ("-aes128", []),
        ("-aes256", []),
        ("-des3", []),
        ("-aes256", ["-keyid"]),
        ("-aes-256-gcm", []),
    ],
)
async def test_every_form_of_envelope_is_read(
    house: House, cipher: str, options: list[str]
) -> None:
    """4.3, the table of ciphers: also those that `cryptography` refuses."""
    mac = await house.enrolled(MAC)
    certificate = await certificate_of(house, mac)
    await escrowed(house, mac, certificate, P1, cipher=cipher, options=options)
    assert await house.believed(mac.id, KEY) == [P1.encode()]


@pytest.mark.case("FV-03")
async def test_an_envelope_for_a_foreign_certificate_is_kept_unread(house: House) -> None:
    """4.3 row 5: the old key stays, the blob is kept, an alert is raised, and the device hears 200."""
    mac, other = await house.enrolled(MAC), await house.enrolled(MAC)
    await escrowed(house, mac, await certificate_of(house, mac), P1)
    await escrowed(house, mac, await certificate_of(house, other), P2)
    assert await house.believed(mac.id, KEY) == [P1.encode()]
    (kept,) = await house.believed(mac.id, TokenKind.FILEVAULT_ENVELOPE)
    assert kept.startswith(b"0")
    assert "filevault-envelope-unreadable" in await house.alerts()


@pytest.mark.case("FV-04")
async def test_the_same_key_in_a_fresh_envelope_is_no_new_generation(house: House) -> None:
    """4.3 row 4: told equal by its keyed digest."""
    mac = await house.enrolled(MAC)
    certificate = await certificate_of(house, mac)
    await escrowed(house, mac, certificate, P1)
    await escrowed(house, mac, certificate, P1, cipher="-des3")
    assert len(await house.history(mac.id, KEY)) == 1


@pytest.mark.case("FV-05")
async def test_a_rotated_key_is_current_and_the_one_before_in_history(house: House) -> None:
    """4.3 rows 7 and 8: the password is the key in force, the answer comes to a key pair stored before."""
    mac = await house.enrolled(MAC)
    await escrowed(house, mac, await certificate_of(house, mac), P1)
    command = await rotating(house, mac)
    assert command["Command"]["FileVaultUnlock"]["Password"] == P1
    reply = openssl_envelope(P2.encode(), command["Command"]["ReplyEncryptionCertificate"])
    result = {"RotateResult": {"EncryptedNewRecoveryKey": reply}}
    await mac.report("Acknowledged", command["CommandUUID"], **result)
    assert await house.believed(mac.id, KEY) == [P2.encode()]
    before, after = await house.history(mac.id, KEY)
    assert (before.state, after.state) == (TokenState.SUPERSEDED, TokenState.OK)


@pytest.mark.case("FV-06")
async def test_a_rotation_that_tells_no_key_leaves_a_doubt_and_asks(house: House) -> None:
    """4.3 row 9: the old key is still shown, uncertain, and SecurityInfo is queued."""
    mac = await house.enrolled(MAC)
    certificate = await certificate_of(house, mac)
    await escrowed(house, mac, certificate, P1)
    command = await rotating(house, mac)
    await mac.report("Acknowledged", command["CommandUUID"])
    stands = await house.stands(mac.id, KEY)
    assert stands is not None
    assert stands.state is EscrowState.UNCERTAIN
    assert await house.believed(mac.id, KEY) == [P1.encode()]
    envelope = openssl_envelope(P2.encode(), certificate)
    said = {"FDE_Enabled": True, "FDE_PersonalRecoveryKeyCMS": envelope}
    assert await mac.work_off(SecurityInfo={"SecurityInfo": said}) == ["SecurityInfo"]
    assert await house.believed(mac.id, KEY) == [P2.encode()]


@pytest.mark.case("FV-07")
async def test_a_key_that_changed_unheard_comes_with_the_next_security_info(house: House) -> None:
    """4.3, simulated device: crashed after rotating, before its reply."""
    mac = await house.enrolled(MAC)
    certificate = await certificate_of(house, mac)
    await escrowed(house, mac, certificate, P1)
    await rotating(house, mac)
    await house.cancel_live(mac.id)
    await escrowed(house, mac, certificate, P2)
    assert await house.believed(mac.id, KEY) == [P2.encode()]


@pytest.mark.case("FV-08")
async def test_a_refused_rotation_changes_nothing(house: House) -> None:
    """4.3 row 10; nothing is tried again by itself."""
    mac = await house.enrolled(MAC)
    await escrowed(house, mac, await certificate_of(house, mac), P1)
    command = await rotating(house, mac)
    await mac.report("Error", command["CommandUUID"], ErrorChain=[])
    assert await house.believed(mac.id, KEY) == [P1.encode()]
    house.clock.advance(hours=3)
    await house.escrow_watch.tend()
    assert ROTATE not in [name for name, state in await house.queue(mac.id) if state == "queued"]


@pytest.mark.case("FV-09")
async def test_the_key_outlives_renewals_new_enrollments_and_check_outs(house: House) -> None:
    """4.3 row 11: it belongs to the volume, not to the enrollment."""
    mac = await house.enrolled(MAC)
    await escrowed(house, mac, await certificate_of(house, mac), P1)
    mac = await house.renewal_of(mac)
    await mac.authenticate()
    await mac.token_update()
    assert await house.believed(mac.id, KEY) == [P1.encode()], "after a proven renewal"
    await mac.authenticate()
    await mac.token_update()
    assert await house.believed(mac.id, KEY) == [P1.encode()], "after an unproven enrollment"
    await mac.send("CheckOut", Topic=mac.topic)
    assert await house.believed(mac.id, KEY) == [P1.encode()], "after a check-out"


@pytest.mark.case("FV-10")
async def test_an_envelope_for_an_older_certificate_still_opens(house: House) -> None:
    """4.3: private keys are kept as long as any envelope for them may exist."""
    mac = await house.enrolled(MAC)
    old = await certificate_of(house, mac)
    await escrowed(house, mac, old, P1)
    command = await rotating(house, mac)
    assert command["Command"]["ReplyEncryptionCertificate"] != old
    await mac.report("Error", command["CommandUUID"], ErrorChain=[])
    await escrowed(house, mac, old, P2)
    assert await house.believed(mac.id, KEY) == [P2.encode()]


async def test_an_erase_retires_the_key(house: House) -> None:
    """4.13 column D."""
    mac = await house.enrolled(MAC)
    await escrowed(house, mac, await certificate_of(house, mac), P1)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    assert await house.believed(mac.id, KEY) == []
    (retired,) = await house.history(mac.id, KEY)
    assert retired.state is TokenState.RETIRED


async def test_a_key_is_rotated_with_a_users_password_where_none_is_held(house: House) -> None:
    """4.3 row 3: not escrowed, a rotation with a user's password is needed."""
    mac = await house.enrolled(MAC)
    with pytest.raises(RecoveryKeyNotHeld):
        await house.change(mac.id, KEY)


async def test_an_iphone_gets_no_filevault_profile(house: House) -> None:
    phone = await house.enrolled(IPHONE)
    with pytest.raises(OstiaryError):
        await house.filevault.install(
            EnrollmentId(phone.id), OPERATOR, location="here", options=FileVaultOptions()
        )
    found = await house.storage.escrows.find(DEFAULT_TENANT, Holder(phone.id))
    assert TokenKind.FILEVAULT_ESCROW_KEY not in {one.kind for one in found}


BYOD_MAC = Model("Mac14,2", "15.1", unlock=False, user_enrollment=True)


async def test_somebody_s_own_mac_gets_no_filevault_profile(house: House) -> None:
    """4.3, the schemas of both payloads: forbidden under User Enrollment, by profile or account-driven."""
    mac = await house.enrolled(BYOD_MAC)
    with pytest.raises(ProfileNotForThisEnrollment) as refused:
        await house.filevault.install(
            EnrollmentId(mac.id), OPERATOR, location="the help desk", options=FileVaultOptions()
        )
    assert "FDERecoveryKeyEscrow" in str(refused.value)
    assert "User Enrollment" in refused.value.title
    assert await house.history(mac.id, TokenKind.FILEVAULT_ESCROW_KEY) == []
    assert await mac.report() is None


async def test_a_mac_that_says_that_its_enrollment_is_a_user_s_gets_none_either(
    house: House,
) -> None:
    """Its own word in SecurityInfo counts as much as the kind of its id."""
    mac = await house.enrolled(MAC)
    await security_info(house, mac, ManagementStatus={"IsUserEnrollment": True})
    with pytest.raises(ProfileNotForThisEnrollment):
        await house.filevault.install(
            EnrollmentId(mac.id), OPERATOR, location="the help desk", options=FileVaultOptions()
        )


async def test_no_door_leads_a_filevault_profile_to_somebody_s_own_mac(house: House) -> None:
    """As `ostiary enqueue` and /v1/enqueue ask, with a profile of the operator's own; others pass."""
    mac, theirs = await house.enrolled(MAC), await house.enrolled(BYOD_MAC)
    await house.filevault.install(
        EnrollmentId(mac.id), OPERATOR, location="the help desk", options=FileVaultOptions()
    )
    command = await mac.report()
    assert command is not None
    profile = command["Command"]["Payload"]
    with pytest.raises(ProfileNotForThisEnrollment):
        await house.enqueue(theirs.id, "InstallProfile", Payload=profile)
    said = b"com.apple.MCX.FileVault2 is only spoken of"
    for harmless in (said, plistlib.dumps({"PayloadContent": [{"PayloadType": "x"}], "a": said})):
        await house.enqueue(theirs.id, "InstallProfile", Payload=harmless)
    await house.enqueue(mac.id, "InstallProfile", Payload=profile)


async def test_a_mac_that_could_not_escrow_its_key_gets_no_profile(house: House) -> None:
    """4.3: the payload came with macOS 10.13; encrypted without it, the key would be nowhere."""
    old = await house.enrolled(Model("MacBookPro11,1", "10.12.6", unlock=False))
    with pytest.raises(SystemTooOld, match=r"10\.13"):
        await house.filevault.install(
            EnrollmentId(old.id), OPERATOR, location="here", options=FileVaultOptions()
        )
    assert await house.history(old.id, TokenKind.FILEVAULT_ESCROW_KEY) == []


@pytest.mark.parametrize(
    ("version", "told", "error"),
    [
        ("13.6", {}, SystemTooOld),
        ("15.1", {"EnrolledViaDEP": False}, NotByAutomatedEnrollment),
        ("15.1", {}, NotAwaiting),
    ],
    ids=["too old", "by hand", "no longer there"],
)
async def test_setup_assistant_alone_asks_only_whoever_is_in_it(
    house: House, version: str, told: dict[str, Any], error: type[OstiaryError]
) -> None:
    """4.3, ForceEnableInSetupAssistant: macOS 14, ADE, while it waits; else nobody would ever be asked."""
    mac = await house.enrolled(Model("Mac14,2", version, unlock=False))
    await security_info(house, mac, ManagementStatus=told)
    name = EnrollmentId(mac.id)
    alone = FileVaultOptions(defer=False, force_in_setup_assistant=True)
    with pytest.raises(error):
        await house.filevault.install(name, OPERATOR, location="here", options=alone)
    later_too = FileVaultOptions(force_in_setup_assistant=True)
    await house.filevault.install(name, OPERATOR, location="here", options=later_too)
