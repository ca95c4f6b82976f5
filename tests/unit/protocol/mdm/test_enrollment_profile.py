"""The enrollment profile, read back by Python's own plistlib."""

import plistlib
import uuid
from dataclasses import replace
from typing import Any

import pytest

from ostiary.protocol.mdm.checkin import Topic
from ostiary.protocol.mdm.enrollment_profile import (
    ALL_RIGHTS,
    AccessRight,
    EnrollmentOffer,
    UnusableUrl,
    decode_url,
    render_enrollment_profile,
)
from ostiary.secret import Secret

OFFER = EnrollmentOffer(
    urls=decode_url("https://mdm.example.org"),
    topic=Topic("com.apple.mgmt.External.0b1c"),
    challenge=Secret(b"a-challenge"),
    trust_anchors=(b"\x30\x00one", b"\x30\x00two"),
    organization="Acme & <Sons>",
)


def read(offer: EnrollmentOffer) -> dict[str, Any]:
    return dict(plistlib.loads(render_enrollment_profile(offer)))


def by_type(profile: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["PayloadType"]: one for one in profile["PayloadContent"]}


def test_it_holds_anchors_identity_and_management_and_nothing_else() -> None:
    """Source: check-in-and-commands.md 6.5."""
    profile = read(OFFER)
    assert (profile["PayloadType"], profile["PayloadVersion"]) == ("Configuration", 1)
    assert [one["PayloadType"] for one in profile["PayloadContent"]] == [
        "com.apple.security.root",
        "com.apple.security.root",
        "com.apple.security.scep",
        "com.apple.mdm",
    ]
    assert [one["PayloadContent"] for one in profile["PayloadContent"][:2]] == list(
        OFFER.trust_anchors
    )
    assert profile["PayloadOrganization"] == "Acme & <Sons>"


def test_the_management_payload_says_all_that_it_must() -> None:
    """Source: check-in-and-commands.md 6.1."""
    payloads = by_type(read(OFFER))
    management = payloads["com.apple.mdm"]
    wanted = {
        "ServerURL": "https://mdm.example.org/mdm",
        "CheckInURL": "https://mdm.example.org/checkin",
        "Topic": "com.apple.mgmt.External.0b1c",
        "SignMessage": True,
        "CheckOutWhenRemoved": True,
        "AccessRights": 8191,
        "IdentityCertificateUUID": payloads["com.apple.security.scep"]["PayloadUUID"],
        "ServerCapabilities": [
            "com.apple.mdm.bootstraptoken",
            "com.apple.mdm.per-user-connections",
            "com.apple.mdm.token",
        ],
    }
    assert {key: management[key] for key in wanted} == wanted
    assert sum(AccessRight) == ALL_RIGHTS


def test_the_identity_payload_keeps_its_keys_inside() -> None:
    """Source: check-in-and-commands.md 6.2."""
    scep = by_type(read(OFFER))["com.apple.security.scep"]["PayloadContent"]
    wanted = {
        "URL": "https://mdm.example.org/scep",
        "Challenge": "a-challenge",
        "Keysize": 2048,
        "Key Type": "RSA",
        "Key Usage": 5,
        "KeyIsExtractable": False,
    }
    assert {key: scep[key] for key in wanted} == wanted


def test_only_the_challenge_differs_from_one_profile_to_the_next() -> None:
    """Identifiers and UUIDs are stable, so that a renewal replaces what is installed. Source: design.md 3."""
    first, second = read(OFFER), read(replace(OFFER, challenge=Secret(b"another")))
    for profile in (first, second):
        by_type(profile)["com.apple.security.scep"]["PayloadContent"].pop("Challenge")
    assert first == second


def test_identifiers_come_from_the_url_alone() -> None:
    """Neither tenant, version nor secret may be in them. Source: design.md 3."""
    one, other = read(OFFER), read(replace(OFFER, urls=decode_url("https://mdm.example.com")))
    assert one["PayloadIdentifier"] == "org.example.mdm.ostiary.enrollment"
    uuids = [profile["PayloadUUID"] for profile in (one, other)] + [
        payload["PayloadUUID"] for profile in (one, other) for payload in profile["PayloadContent"]
    ]
    assert len(set(uuids)) == len(uuids) == 10
    assert all(str(uuid.UUID(text)).upper() == text for text in uuids)
    identifiers = [payload["PayloadIdentifier"] for payload in one["PayloadContent"]]
    assert len(set(identifiers)) == 4
    assert all(text.startswith("org.example.mdm.ostiary.enrollment.") for text in identifiers)


@pytest.mark.parametrize(
    ("url", "base", "identifier"),
    [
        ("https://mdm.example.org/", "https://mdm.example.org", "org.example.mdm"),
        ("https://MDM.example.org:443", "https://mdm.example.org", "org.example.mdm"),
        ("https://localhost:8443", "https://localhost:8443", "localhost.port-8443"),
        ("https://127.0.0.1:9", "https://127.0.0.1:9", "127.0.0.1.port-9"),
        ("https://[::1]:9", "https://[::1]:9", "--1.port-9"),
    ],
)
def test_a_url_has_one_spelling(url: str, base: str, identifier: str) -> None:
    urls = decode_url(url)
    assert urls.base == base
    assert urls.identifier == f"{identifier}.ostiary.enrollment"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mdm.example.org",
        "http://mdm.example.org",
        "https://",
        "https://mdm.example.org/tenant",
        "https://mdm.example.org?x=1",
        "https://mdm.example.org#x",
        "https://user:secret@mdm.example.org",
        "https://mdm.example.org:99999",
        "https://mdm.exa mple.org",
        "https://[::1",
        "https://" + "a" * 300,
    ],
)
def test_what_devices_could_not_keep_is_refused(url: str) -> None:
    with pytest.raises(UnusableUrl) as caught:
        decode_url(url)
    assert "secret" not in str(caught.value)
