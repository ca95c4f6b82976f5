"""The FileVault profile, read back by Python's own plistlib and by a simulated Mac."""

import plistlib
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fuzz.pki import issue, rsa_key
from ostiary.protocol.mdm.enrollment_profile import decode_url
from ostiary.protocol.mdm.filevault_profile import (
    EscrowCertificateUnfit,
    FileVaultOffer,
    FileVaultOptions,
    FileVaultOptionsContradict,
    FileVaultTextUnusable,
    filevault_profile,
)
from ostiary_sim.mac_secrets import find_escrow_certificate

KEY = rsa_key()
ESCROW = issue("escrow of C02X", key=KEY)
OFFER = FileVaultOffer(
    urls=decode_url("https://mdm.example.org"),
    device="C02X",
    certificate=ESCROW.der,
    location="Acme & Söhne, help desk",
)


def read(offer: FileVaultOffer) -> dict[str, Any]:
    return dict(plistlib.loads(filevault_profile(offer)))


def payloads(offer: FileVaultOffer) -> Mapping[str, dict[str, Any]]:
    return {one["PayloadType"]: one for one in read(offer)["PayloadContent"]}


@pytest.mark.case("FV-01")
def test_three_payloads_name_each_other_and_hold_no_private_key() -> None:
    """Source: escrowed-secrets.md 4.3 (Profile)."""
    profile = read(OFFER)
    assert profile["PayloadScope"] == "System"
    found = payloads(OFFER)
    assert len(profile["PayloadContent"]) == len(found) == 3
    certificate = found["com.apple.security.pkcs1"]
    escrow = found["com.apple.security.FDERecoveryKeyEscrow"]
    assert found["com.apple.MCX.FileVault2"]["Enable"] == "On"
    assert escrow["EncryptCertPayloadUUID"] == certificate["PayloadUUID"]
    assert escrow["Location"] == "Acme & Söhne, help desk"
    assert "DeviceKey" not in escrow
    assert certificate["PayloadContent"] == ESCROW.der
    assert find_escrow_certificate([profile]) == ESCROW.certificate
    numbers = KEY.private_numbers()
    raw = filevault_profile(OFFER) + certificate["PayloadContent"]
    for secret in (numbers.p, numbers.q, numbers.d):
        assert secret.to_bytes((secret.bit_length() + 7) // 8) not in raw
    assert b"PRIVATE KEY" not in raw


def test_a_key_in_place_of_the_certificate_is_refused() -> None:
    """Nothing but one public certificate ever reaches a profile."""
    pkcs8 = KEY.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = ESCROW.certificate.public_bytes(serialization.Encoding.PEM)
    small = issue("small", key=rsa.generate_private_key(65537, 1024)).der
    for unfit in (pkcs8, pem, ESCROW.der + pkcs8, issue("elliptic").der, small, b""):
        with pytest.raises(EscrowCertificateUnfit):
            filevault_profile(replace(OFFER, certificate=unfit))


def test_the_same_offer_is_the_same_profile_and_another_device_another() -> None:
    """Sending it again replaces what is installed. Source: check-in-and-commands.md 6.5."""
    assert filevault_profile(OFFER) == filevault_profile(replace(OFFER))
    one, other = read(OFFER), read(replace(OFFER, device="C02Y"))
    assert one["PayloadIdentifier"] == other["PayloadIdentifier"]
    assert one["PayloadIdentifier"] == "org.example.mdm.ostiary.filevault"
    uuids = [
        each["PayloadUUID"]
        for profile in (one, other)
        for each in (profile, *profile["PayloadContent"])
    ]
    assert len(set(uuids)) == len(uuids) == 8
    assert all(str(uuid.UUID(text)).upper() == text for text in uuids)
    identifiers = {each["PayloadIdentifier"] for each in one["PayloadContent"]}
    assert len(identifiers) == 3
    assert all(text.startswith("org.example.mdm.ostiary.filevault.") for text in identifiers)


def test_a_new_certificate_is_a_new_payload_of_the_same_profile() -> None:
    """FV-10 replaces it: the Mac must not go on with the certificate that it knows by this UUID."""
    before, after = read(OFFER), read(replace(OFFER, certificate=issue("next", key=KEY).der))
    assert before["PayloadUUID"] == after["PayloadUUID"]
    assert before["PayloadIdentifier"] == after["PayloadIdentifier"]
    by_type = {one["PayloadType"]: one["PayloadUUID"] for one in before["PayloadContent"]}
    changed = {
        one["PayloadType"]
        for one in after["PayloadContent"]
        if one["PayloadUUID"] != by_type[one["PayloadType"]]
    }
    assert changed == {"com.apple.security.pkcs1"}


def test_options_are_written_in_apples_words_and_left_out_where_unset() -> None:
    """Source: escrowed-secrets.md 4.3; Apple, com.apple.MCX.FileVault2."""
    common = {
        "PayloadType",
        "PayloadVersion",
        "PayloadIdentifier",
        "PayloadUUID",
        "PayloadDisplayName",
    }

    def said(options: FileVaultOptions) -> dict[str, Any]:
        found = payloads(replace(OFFER, options=options))["com.apple.MCX.FileVault2"]
        return {key: value for key, value in found.items() if key not in common}

    assert said(FileVaultOptions()) == {
        "Enable": "On",
        "Defer": True,
        "UseRecoveryKey": True,
        "ShowRecoveryKey": True,
    }
    everything = FileVaultOptions(
        max_bypass_attempts=0,
        dont_ask_at_logout=True,
        force_in_setup_assistant=True,
        user_enters_missing_info=True,
        show_recovery_key=False,
    )
    assert said(everything) == {
        "Enable": "On",
        "Defer": True,
        "UseRecoveryKey": True,
        "ShowRecoveryKey": False,
        "DeferForceAtUserLoginMaxBypassAttempts": 0,
        "DeferDontAskAtUserLogout": True,
        "ForceEnableInSetupAssistant": True,
        "UserEntersMissingInfo": True,
    }
    assert payloads(replace(OFFER, device_key="HELP-17"))[
        "com.apple.security.FDERecoveryKeyEscrow"
    ]["DeviceKey"] == ("HELP-17")


@pytest.mark.parametrize(
    "options",
    [
        {"max_bypass_attempts": -2},
        {"max_bypass_attempts": 10_000},
        {"defer": False},
        {"defer": False, "force_in_setup_assistant": True, "max_bypass_attempts": 3},
        {"defer": False, "user_enters_missing_info": True, "dont_ask_at_logout": True},
        {"dont_ask_at_logout": True},
        {"dont_ask_at_logout": True, "max_bypass_attempts": -1},
    ],
    ids=str,
)
def test_options_that_could_never_work_are_refused(options: Mapping[str, Any]) -> None:
    with pytest.raises(FileVaultOptionsContradict) as caught:
        FileVaultOptions(**options)
    assert caught.value.detail
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "   ", "x" * 256, "two\nlines", "nul\0"], ids=repr)
@pytest.mark.parametrize("field", ["location", "device", "device_key"])
def test_texts_that_no_one_could_read_are_refused(field: str, text: str) -> None:
    changed: dict[str, Any] = {field: text}
    with pytest.raises(FileVaultTextUnusable) as caught:
        filevault_profile(replace(OFFER, **changed))
    assert caught.value.facts == {"field": field}
