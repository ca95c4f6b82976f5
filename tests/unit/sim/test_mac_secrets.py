"""Recovery keys and Recovery Lock of a simulated Mac. Source: escrowed-secrets.md 4.3, 4.4."""

import plistlib
import re
from dataclasses import replace

import pytest
from asn1crypto import cms
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ostiary_sim.cms import ContentCipher, decode_enveloped
from ostiary_sim.errors import NotPossible
from ostiary_sim.identity import Identity
from ostiary_sim.personality import PERSONALITIES
from unit.sim.fake_mdm import Stage

KEY_LOOK = r"[A-Z0-9]{4}(-[A-Z0-9]{4}){5}"


def escrow_profile(escrow: Identity) -> bytes:
    der = escrow.certificate.public_bytes(serialization.Encoding.DER)
    return plistlib.dumps(
        {
            "PayloadType": "Configuration",
            "PayloadVersion": 1,
            "PayloadIdentifier": "example.filevault",
            "PayloadUUID": "TOP",
            "PayloadContent": [
                {
                    "PayloadType": "com.apple.security.FDERecoveryKeyEscrow",
                    "PayloadUUID": "ESCROW",
                    "EncryptCertPayloadUUID": "CERTIFICATE",
                },
                {
                    "PayloadType": "com.apple.security.pkcs1",
                    "PayloadUUID": "CERTIFICATE",
                    "PayloadContent": der,
                },
            ],
        }
    )


def opened(envelope: bytes, holder: Identity) -> str:
    assert isinstance(holder.key, rsa.RSAPrivateKey)
    return decode_enveloped(envelope, holder.key).decode()


async def security_info(stage: Stage, mac: object) -> dict[str, object]:
    stage.server.queue("SecurityInfo")
    await mac.idle()  # type: ignore[attr-defined]  # a Device
    found: dict[str, object] = stage.server.reports[-1]["SecurityInfo"]
    return found


@pytest.mark.parametrize("cipher", list(ContentCipher))
async def test_a_key_made_under_the_escrow_profile_is_told_every_time(
    stage: Stage, cipher: ContentCipher
) -> None:
    mac = await stage.enrolled("mac")
    mac.levers.envelope_cipher = cipher
    await mac.install_profile(escrow_profile(stage.server.ca))
    key = mac.turn_on_filevault()
    assert re.fullmatch(KEY_LOOK, key)
    told = await security_info(stage, mac)
    assert told["FDE_Enabled"] is True
    assert told["FDE_PersonalRecoveryKeyDeviceKey"] == mac.serial
    envelope = told["FDE_PersonalRecoveryKeyCMS"]
    assert isinstance(envelope, bytes)
    assert opened(envelope, stage.server.ca) == key


async def test_a_disk_encrypted_before_the_profile_escrows_nothing(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    mac.turn_on_filevault()
    await mac.install_profile(escrow_profile(stage.server.ca))
    told = await security_info(stage, mac)
    assert told["FDE_HasPersonalRecoveryKey"] is True
    assert "FDE_PersonalRecoveryKeyCMS" not in told


async def test_the_present_key_buys_a_new_one(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.install_profile(escrow_profile(stage.server.ca))
    old = mac.turn_on_filevault()
    der = stage.server.ca.certificate.public_bytes(serialization.Encoding.DER)

    async def rotate(password: str) -> dict[str, object]:
        stage.server.queue(
            "RotateFileVaultKey",
            KeyType="personal",
            FileVaultUnlock={"Password": password},
            ReplyEncryptionCertificate=der,
        )
        await mac.idle()
        return stage.server.reports[-1]

    assert (await rotate("wrong"))["Status"] == "Error"
    assert mac.volume.recovery_key == old
    result = (await rotate(old))["RotateResult"]
    assert isinstance(result, dict)
    new = opened(result["EncryptedNewRecoveryKey"], stage.server.ca)
    assert new == mac.volume.recovery_key != old
    mac.levers.omit_rotate_result = True
    assert "RotateResult" not in await rotate(new)
    envelope = (await security_info(stage, mac))["FDE_PersonalRecoveryKeyCMS"]
    assert isinstance(envelope, bytes)
    assert opened(envelope, stage.server.ca) == mac.volume.recovery_key


async def test_a_recovery_lock_changes_only_with_the_current_password(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    steps = [
        ({"NewPassword": "first one"}, "Acknowledged", "first one"),
        ({"NewPassword": "second one"}, "Error", "first one"),
        ({"NewPassword": "x", "CurrentPassword": "wrong"}, "Error", "first one"),
        ({"NewPassword": "second", "CurrentPassword": "first one"}, "Acknowledged", "second"),
        ({"NewPassword": "", "CurrentPassword": "second"}, "Acknowledged", None),
        ({}, "CommandFormatError", None),
    ]
    for keys, status, password in steps:
        stage.server.queue("SetRecoveryLock", **keys)
        await mac.idle()
        assert stage.server.statuses()[-1] == status
        assert mac.recovery_lock.password == password


async def test_an_acknowledged_lock_may_not_be_in_force(stage: Stage) -> None:
    """Field fact a, and the lever."""
    mac = await stage.enrolled("mac", awaiting=True)
    stage.server.queue("SetRecoveryLock", NewPassword="secret one")
    stage.server.queue("VerifyRecoveryLock", Password="secret one")
    await mac.idle()
    assert stage.server.statuses()[-2:] == ["Acknowledged", "Acknowledged"]
    assert stage.server.reports[-1]["PasswordVerified"] is False
    assert (await security_info(stage, mac))["IsRecoveryLockEnabled"] is False


async def test_leaving_management_clears_the_lock_and_renewal_only_by_lever(
    stage: Stage,
) -> None:
    mac = await stage.enrolled("mac")
    mac.recovery_lock.password = "secret"
    await mac.replace_profile(stage.server.profile())
    assert mac.recovery_lock.password == "secret"
    mac.levers.recovery_lock_drops_at_renewal = True
    await mac.replace_profile(stage.server.profile())
    assert mac.recovery_lock.password is None
    mac.recovery_lock.password = "secret"
    await mac.remove_profile()
    assert mac.recovery_lock.password is None


async def test_intel_macs_have_no_recovery_lock(stage: Stage) -> None:
    mac = await stage.enrolled("mac-10.15")
    stage.server.queue("SetRecoveryLock", NewPassword="secret one")
    await mac.idle()
    assert stage.server.statuses()[-1] == "Error"


async def test_a_rotation_may_crash_before_the_reply(stage: Stage) -> None:
    """FV-07: the new key is in force, and told by the next SecurityInfo under the profile's certificate."""
    mac = await stage.enrolled("mac")
    await mac.install_profile(escrow_profile(stage.server.ca))
    old = mac.turn_on_filevault()
    mac.levers.rotation_crashes = True
    uuid = stage.server.queue(
        "RotateFileVaultKey", KeyType="personal", FileVaultUnlock={"Password": old}
    )
    await mac.idle()
    assert stage.server.statuses() == ["Idle"]
    new = mac.truth().recovery_key
    assert new != old
    await mac.idle()
    assert stage.server.reports[-1]["CommandUUID"] == uuid
    assert stage.server.statuses()[-1] == "Error"  # handed out again, with the key that was
    envelope = (await security_info(stage, mac))["FDE_PersonalRecoveryKeyCMS"]
    assert isinstance(envelope, bytes)
    assert opened(envelope, stage.server.ca) == new == mac.truth().recovery_key


async def test_an_envelope_may_name_its_recipient_by_the_key(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    mac.levers.envelope_by_key_identifier = True
    await mac.install_profile(escrow_profile(stage.server.ca))
    key = mac.turn_on_filevault()
    envelope = mac.volume.escrowed or b""
    inside = cms.ContentInfo.load(envelope)["content"]["recipient_infos"][0].chosen
    assert inside["rid"].name == "subject_key_identifier"
    assert opened(envelope, stage.server.ca) == key


async def test_the_disk_opens_to_whoever_has_a_secure_token(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada", password="hers")
    stage.server.bootstrap_token = b""
    await mac.user_login("grace", password="theirs")
    old = mac.turn_on_filevault()
    wanted = {"KeyType": "personal"}
    no = await stage.ask(
        mac, "RotateFileVaultKey", FileVaultUnlock={"Password": "theirs"}, **wanted
    )
    assert no["Status"] == "Error"
    assert mac.truth().recovery_key == old
    yes = await stage.ask(mac, "RotateFileVaultKey", FileVaultUnlock={"Password": "hers"}, **wanted)
    assert yes["Status"] == "Acknowledged"
    assert "RotateResult" not in yes
    assert mac.truth().recovery_key != old


@pytest.mark.parametrize(
    ("certificate", "status"), [("text", "CommandFormatError"), (b"nonsense", "Error")]
)
async def test_a_reply_certificate_that_is_none_rotates_nothing(
    stage: Stage, certificate: object, status: str
) -> None:
    mac = await stage.enrolled("mac")
    old = mac.turn_on_filevault()
    report = await stage.ask(
        mac,
        "RotateFileVaultKey",
        KeyType="personal",
        FileVaultUnlock={"Password": old},
        ReplyEncryptionCertificate=certificate,
    )
    assert report["Status"] == status
    assert mac.truth().recovery_key == old


async def test_a_profile_turns_filevault_on_at_the_next_login(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.install_profile(escrow_profile(stage.server.ca))
    payload = {"PayloadType": "com.apple.MCX.FileVault2", "Enable": "On", "Defer": True}
    await mac.install_profile(stage.server.other_profile("example.on", payloads=[payload]))
    assert not mac.volume.encrypted
    await mac.user_login("ada")
    assert mac.volume.escrowed is not None


async def test_a_lock_set_before_setup_assistant_ends_is_not_in_force(stage: Stage) -> None:
    """Field fact a: not even after DeviceConfigured, while a person still clicks through it."""
    mac = await stage.enrolled("mac", awaiting=True)
    mac.levers.setup_assistant_lingers = True
    with pytest.raises(NotPossible):
        mac.finish_setup()
    await stage.ask(mac, "DeviceConfigured")
    await stage.ask(mac, "SetRecoveryLock", NewPassword="secret one")
    assert mac.truth().recovery_lock is None
    mac.finish_setup()
    await stage.ask(mac, "SetRecoveryLock", NewPassword="secret one")
    assert mac.truth().recovery_lock == "secret one"


async def test_the_lever_acknowledges_without_applying(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    mac.levers.recovery_lock_not_applied = True
    report = await stage.ask(mac, "SetRecoveryLock", NewPassword="secret one")
    assert report["Status"] == "Acknowledged"
    assert mac.truth().recovery_lock is None


async def test_macs_before_11_5_know_no_recovery_lock(stage: Stage) -> None:
    mac = await stage.enrolled(replace(PERSONALITIES["mac"], os_version="11.4"))
    report = await stage.ask(mac, "SetRecoveryLock", NewPassword="secret one")
    assert report["Status"] == "Error"
    assert "IsRecoveryLockEnabled" not in await security_info(stage, mac)
