"""What a device reads from, and refuses in, an enrollment profile. Source: check-in-and-commands.md 6.1, 6.2, 6.5."""

import plistlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from ostiary_sim.errors import ProfileRefused
from ostiary_sim.profile import Pkcs12Request, Rights, ScepRequest, read_enrollment_profile
from unit.sim.fake_mdm import HOST, TOPIC, Stage, authority


def test_a_signed_and_a_plain_profile_read_the_same(stage: Stage) -> None:
    signed = read_enrollment_profile(stage.server.profile())
    plain = read_enrollment_profile(stage.server.profile(sign=False))
    assert signed.signer == stage.server.ca.certificate
    assert plain.signer is None
    assert signed.management == plain.management
    management = plain.management
    assert management.topic == TOPIC
    assert management.server_url == f"{HOST}/mdm"
    assert management.check_in_url == f"{HOST}/checkin"
    assert management.sign_message
    assert management.check_out_when_removed
    assert management.has_right(Rights.ERASE)
    assert plain.anchors == (stage.server.ca.certificate,)
    assert isinstance(plain.identity, ScepRequest)
    assert plain.identity.subject == ((("O", "Example"),), (("CN", "a device"),))
    assert plain.identity.challenge is not None
    assert plain.identity.challenge not in repr(plain)


def test_the_check_in_url_defaults_to_the_server_url(stage: Stage) -> None:
    profile = read_enrollment_profile(stage.server.profile(CheckInURL=None, SignMessage=None))
    assert profile.management.check_in_url == f"{HOST}/mdm"
    assert not profile.management.sign_message


@pytest.mark.parametrize(
    "changes",
    [
        {"AccessRights": 0},
        {"AccessRights": 2},
        {"AccessRights": 128},
        {"AccessRights": 8192},
        {"Topic": "com.apple.mgmtX.y"},
        {"Topic": None},
        {"ServerURL": "http://mdm.example/mdm"},
        {"ServerURL": "https:///mdm"},
        {"CheckInURL": "http://mdm.example/checkin"},
        {"IdentityCertificateUUID": "NOBODY"},
        {"IdentityCertificateUUID": "ROOT"},
        {"SignMessage": "yes"},
        {"PayloadVersion": 2},
        {"PayloadUUID": "IDENTITY"},
        {"ServerCapabilities": "all"},
    ],
)
def test_what_a_device_refuses(stage: Stage, changes: dict[str, Any]) -> None:
    with pytest.raises(ProfileRefused):
        read_enrollment_profile(stage.server.profile(**changes))


@pytest.mark.parametrize("document", [b"", b"nonsense", b"<plist", plistlib.dumps([1])])
def test_what_is_no_profile_is_refused(document: bytes) -> None:
    with pytest.raises(ProfileRefused):
        read_enrollment_profile(document)


def test_a_tampered_signature_is_refused(stage: Stage) -> None:
    document = stage.server.profile().replace(b"SignMessage", b"SagnMessige")
    with pytest.raises(ProfileRefused):
        read_enrollment_profile(document)


def test_plain_http_passes_only_by_flag(stage: Stage) -> None:
    document = stage.server.profile(ServerURL="http://127.0.0.1/mdm", CheckInURL=None)
    assert read_enrollment_profile(document, allow_http=True)


def test_one_mdm_payload_it_must_be(stage: Stage) -> None:
    top = plistlib.loads(stage.server.profile(sign=False))
    extra = dict(top["PayloadContent"][-1], PayloadUUID="SECOND")
    top["PayloadContent"].append(extra)
    with pytest.raises(ProfileRefused):
        read_enrollment_profile(plistlib.dumps(top))
    top["PayloadContent"] = top["PayloadContent"][:-2]
    with pytest.raises(ProfileRefused):
        read_enrollment_profile(plistlib.dumps(top))


async def test_an_identity_may_come_as_pkcs12(stage: Stage) -> None:
    ours = authority("Device")
    archive = pkcs12.serialize_key_and_certificates(
        b"identity",
        ours.key,
        ours.certificate,
        None,
        serialization.BestAvailableEncryption(b"pass"),
    )
    top = plistlib.loads(stage.server.profile(sign=False))
    top["PayloadContent"][1] = {
        "PayloadType": "com.apple.security.pkcs12",
        "PayloadVersion": 1,
        "PayloadIdentifier": "example.mdm.identity",
        "PayloadUUID": "IDENTITY",
        "PayloadContent": archive,
        "Password": "pass",
    }
    document = plistlib.dumps(top)
    profile = read_enrollment_profile(document)
    assert isinstance(profile.identity, Pkcs12Request)
    phone = stage.device()
    await phone.enroll(document)
    assert stage.server.signers == [ours.certificate] * 2
