"""Profiles: rendered, signed, and read again."""

import plistlib
from typing import Any

import pytest

from fuzz.pki import Issued, issue, openssl_sign, openssl_verifies, rsa_key
from ostiary.errors import Malformed, Refused
from ostiary.formats import mobileconfig

PAYLOAD: dict[str, Any] = {
    "PayloadType": "Configuration",
    "PayloadVersion": 1,
    "PayloadIdentifier": "org.example.mdm",
    "PayloadUUID": "4B3F1E5C-0000-4000-8000-000000000000",
    "PayloadContent": [{"PayloadType": "com.apple.mdm", "SignMessage": True}],
}


@pytest.fixture(scope="module")
def signer() -> Issued:
    return issue("profile signer", key=rsa_key())


def test_a_plain_profile_is_a_property_list() -> None:
    """Source: check-in-and-commands.md 6.5."""
    profile = mobileconfig.render_profile(PAYLOAD)
    assert plistlib.loads(profile) == PAYLOAD
    assert mobileconfig.read_profile(profile).as_mapping() == PAYLOAD


def test_a_signed_profile_holds_the_exact_bytes(signer: Issued) -> None:
    profile = mobileconfig.render_profile(PAYLOAD)
    signed = mobileconfig.sign_profile(profile, signer.der, signer.key, [issue("CA").der])
    assert profile in signed
    assert openssl_verifies(signed, None)
    assert mobileconfig.read_profile(signed).as_mapping() == PAYLOAD


def test_profiles_signed_by_openssl_are_read(signer: Issued) -> None:
    profile = mobileconfig.render_profile(PAYLOAD)
    for form in (["-nodetach"], ["-nodetach", "-stream"], ["-nodetach", "-noattr"]):
        signed = openssl_sign(signer, profile, *form)
        assert mobileconfig.read_profile(signed).as_mapping() == PAYLOAD


def test_a_changed_profile_is_refused(signer: Issued) -> None:
    profile = mobileconfig.render_profile(PAYLOAD)
    signed = mobileconfig.sign_profile(profile, signer.der, signer.key, [])
    with pytest.raises(Refused):
        mobileconfig.read_profile(signed.replace(b"org.example.mdm", b"org.exbmple.mdm"))


@pytest.mark.parametrize("garbage", [b"", b"0", b"0\x80", b"garbage", b"0\x82\xff\xff"])
def test_garbage_is_malformed(garbage: bytes) -> None:
    with pytest.raises(Malformed):
        mobileconfig.read_profile(garbage)


def test_a_signer_that_is_no_certificate_is_malformed(signer: Issued) -> None:
    with pytest.raises(Malformed):
        mobileconfig.sign_profile(b"<plist/>", b"garbage", signer.key, [])
