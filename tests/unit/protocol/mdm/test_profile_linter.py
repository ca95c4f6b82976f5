"""What the linter says of profiles, flaw by flaw, and what it says of renewals."""

import plistlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fuzz.pki import NOW, issue
from ostiary.errors import OstiaryError
from ostiary.protocol.mdm.checkin import Topic
from ostiary.protocol.mdm.enrollment_profile import (
    EnrollmentOffer,
    decode_url,
    render_enrollment_profile,
)
from ostiary.protocol.mdm.profile_linter import Severity, compare_for_renewal, lint_profile
from ostiary.secret import Secret

CA = issue("a TLS CA", authority=True, ends_at=NOW + timedelta(days=1000))
GOOD = render_enrollment_profile(
    EnrollmentOffer(
        urls=decode_url("https://mdm.example.org"),
        topic=Topic("com.apple.mgmt.External.0b1c"),
        challenge=Secret(b"a-challenge"),
        trust_anchors=(CA.der,),
    )
)
Change = Callable[[dict[str, Any]], object]


def bent(change: Change) -> bytes:
    profile = plistlib.loads(GOOD)
    change(profile)
    return plistlib.dumps(profile)


def anchor(profile: dict[str, Any]) -> dict[str, Any]:
    return dict.__getitem__(profile, "PayloadContent")[0]  # type: ignore[no-any-return]  # plistlib knows no types


def scep(profile: dict[str, Any]) -> dict[str, Any]:
    return profile["PayloadContent"][1]["PayloadContent"]  # type: ignore[no-any-return]  # plistlib knows no types


def mdm(profile: dict[str, Any]) -> dict[str, Any]:
    return profile["PayloadContent"][2]  # type: ignore[no-any-return]  # plistlib knows no types


def test_a_good_profile_has_no_findings() -> None:
    assert lint_profile(GOOD, now=NOW) == ()


@pytest.mark.parametrize(
    ("change", "severity", "key", "about"),
    [
        (
            lambda p: mdm(p)["ServerCapabilities"].remove("com.apple.mdm.bootstraptoken"),
            Severity.WARNING,
            "ServerCapabilities",
            "never escrows",
        ),
        (
            lambda p: mdm(p)["ServerCapabilities"].remove("com.apple.mdm.per-user-connections"),
            Severity.WARNING,
            "ServerCapabilities",
            "never be added",
        ),
        (
            lambda p: mdm(p)["ServerCapabilities"].remove("com.apple.mdm.token"),
            Severity.NOTE,
            "ServerCapabilities",
            "UnlockToken does not depend",
        ),
        (
            lambda p: mdm(p)["ServerCapabilities"].append("com.apple.mdm.nonsense"),
            Severity.NOTE,
            "ServerCapabilities",
            "nonsense",
        ),
        (
            lambda p: mdm(p).update(AccessRights=8191 - 4),
            Severity.WARNING,
            "AccessRights",
            "ClearPasscode",
        ),
        (
            lambda p: mdm(p).update(AccessRights=8191 - 1024),
            Severity.WARNING,
            "AccessRights",
            "SecurityInfo",
        ),
        (
            lambda p: mdm(p).update(AccessRights=8191 - 16),
            Severity.WARNING,
            "AccessRights",
            "serial",
        ),
        (lambda p: mdm(p).update(AccessRights=8191 - 1), Severity.ERROR, "AccessRights", "with 1"),
        (lambda p: mdm(p).update(AccessRights=0), Severity.ERROR, "AccessRights", "8191"),
        (lambda p: mdm(p).update(AccessRights=8192), Severity.ERROR, "AccessRights", "8191"),
        (lambda p: mdm(p).pop("AccessRights"), Severity.WARNING, "AccessRights", "Absent"),
        (
            lambda p: mdm(p).pop("CheckOutWhenRemoved"),
            Severity.WARNING,
            "CheckOutWhenRemoved",
            "silent",
        ),
        (
            lambda p: mdm(p).update(SignMessage=False),
            Severity.WARNING,
            "SignMessage",
            "attributed",
        ),
        (
            lambda p: mdm(p).update(UseDevelopmentAPNS=True),
            Severity.WARNING,
            "UseDevelopmentAPNS",
            "never arrive",
        ),
        (
            lambda p: mdm(p).update(ServerURL="http://mdm.example.org/mdm"),
            Severity.ERROR,
            "ServerURL",
            "https",
        ),
        (lambda p: mdm(p).pop("ServerURL"), Severity.ERROR, "ServerURL", "no server"),
        (
            lambda p: mdm(p).update(Topic="com.apple.mgmtExternal"),
            Severity.ERROR,
            "Topic",
            "second dot",
        ),
        (
            lambda p: mdm(p).update(IdentityCertificateUUID="NONE"),
            Severity.ERROR,
            "IdentityCertificateUUID",
            "no payload",
        ),
        (
            lambda p: mdm(p).update(IdentityCertificateUUID=anchor(p)["PayloadUUID"]),
            Severity.ERROR,
            "IdentityCertificateUUID",
            "no identity",
        ),
        (
            lambda p: p["PayloadContent"][1].update(PayloadType="com.apple.security.pkcs12"),
            Severity.WARNING,
            "IdentityCertificateUUID",
            "everybody",
        ),
        (
            lambda p: scep(p).update(Keysize=1024),
            Severity.WARNING,
            "PayloadContent.Keysize",
            "2048",
        ),
        (lambda p: scep(p).pop("Keysize"), Severity.WARNING, "PayloadContent.Keysize", "default"),
        (
            lambda p: scep(p).pop("KeyIsExtractable"),
            Severity.WARNING,
            "PayloadContent.KeyIsExtractable",
            "copied",
        ),
        (
            lambda p: scep(p).update({"Key Usage": 1}),
            Severity.NOTE,
            "PayloadContent.Key Usage",
            "5",
        ),
        (
            lambda p: scep(p).update(URL="http://mdm.example.org/scep"),
            Severity.WARNING,
            "PayloadContent.URL",
            "https",
        ),
        (lambda p: scep(p).pop("URL"), Severity.ERROR, "PayloadContent.URL", "no authority"),
        (
            lambda p: scep(p).pop("Challenge"),
            Severity.WARNING,
            "PayloadContent.Challenge",
            "whoever",
        ),
        (
            lambda p: p["PayloadContent"][1].pop("PayloadContent"),
            Severity.ERROR,
            "PayloadContent",
            "inside",
        ),
        (
            lambda p: p["PayloadContent"].pop(2),
            Severity.ERROR,
            "PayloadContent",
            "exactly one",
        ),
        (
            lambda p: p["PayloadContent"].append({"PayloadType": "com.apple.wifi.managed"}),
            Severity.NOTE,
            "PayloadContent",
            "trust anchors, the identity",
        ),
        (
            lambda p: mdm(p).update(PayloadUUID=anchor(p)["PayloadUUID"]),
            Severity.ERROR,
            "PayloadContent.PayloadUUID",
            "its own",
        ),
        (
            lambda p: anchor(p).update(PayloadContent=issue("old", ends_at=NOW).der),
            Severity.ERROR,
            "PayloadContent (anchor)",
            "ended",
        ),
        (
            lambda p: anchor(p).update(
                PayloadContent=issue("ending", ends_at=NOW + timedelta(days=30)).der
            ),
            Severity.WARNING,
            "PayloadContent (anchor)",
            "management ends",
        ),
        (
            lambda p: anchor(p).update(PayloadContent=b"no certificate"),
            Severity.NOTE,
            "PayloadContent (anchor)",
            "not readable",
        ),
        (lambda p: p.pop("PayloadIdentifier"), Severity.ERROR, "PayloadIdentifier", "needs one"),
        (lambda p: p.pop("PayloadType"), Severity.ERROR, "PayloadType", "no configuration"),
    ],
)
def test_each_flaw_is_named_with_what_it_costs(
    change: Change, severity: Severity, key: str, about: str
) -> None:
    """Source: check-in-and-commands.md 6.1, 6.2, 6.5."""
    findings = lint_profile(bent(change), now=NOW)
    assert any(
        (one.severity, one.key) == (severity, key) and about in one.sentence for one in findings
    ), findings


def test_the_worst_comes_first() -> None:
    findings = lint_profile(
        bent(lambda p: (mdm(p).pop("SignMessage"), mdm(p).update(Topic="x"))), now=NOW
    )
    assert [one.severity for one in findings] == [Severity.ERROR, Severity.WARNING]


@pytest.mark.parametrize("junk", [b"", b"no plist", b"\x30\x03\x02\x01\x01"])
def test_what_is_no_profile_is_an_error(junk: bytes) -> None:
    with pytest.raises(OstiaryError):
        lint_profile(junk, now=NOW)


@pytest.mark.parametrize(
    ("change", "severity", "key"),
    [
        (lambda p: mdm(p).update(Topic="com.apple.mgmt.other"), Severity.ERROR, "Topic"),
        (lambda p: mdm(p).update(ServerURL="https://b.example/mdm"), Severity.ERROR, "ServerURL"),
        (lambda p: mdm(p).update(CheckInURL="https://b.example/c"), Severity.ERROR, "CheckInURL"),
        (lambda p: mdm(p).pop("CheckInURL"), Severity.ERROR, "CheckInURL"),
        (lambda p: mdm(p).update(EnrollmentMode="BYOD"), Severity.ERROR, "EnrollmentMode"),
        (
            lambda p: mdm(p).update(RequiredAppIDForMDM=7),
            Severity.ERROR,
            "RequiredAppIDForMDM",
        ),
        (lambda p: p.update(PayloadIdentifier="other"), Severity.ERROR, "PayloadIdentifier"),
        (
            lambda p: mdm(p).update(PayloadIdentifier="other"),
            Severity.ERROR,
            "com.apple.mdm.PayloadIdentifier",
        ),
        (
            lambda p: mdm(p)["ServerCapabilities"].remove("com.apple.mdm.per-user-connections"),
            Severity.ERROR,
            "ServerCapabilities",
        ),
        (
            lambda p: mdm(p)["ServerCapabilities"].remove("com.apple.mdm.bootstraptoken"),
            Severity.WARNING,
            "ServerCapabilities",
        ),
        (lambda p: mdm(p).update(AccessRights=8191 - 8), Severity.NOTE, "AccessRights"),
        (lambda p: p["PayloadContent"].pop(2), Severity.ERROR, "PayloadContent"),
    ],
)
@pytest.mark.case("EN-01")
def test_a_renewal_that_a_device_would_reject_is_found(
    change: Change, severity: Severity, key: str
) -> None:
    """Source: check-in-and-commands.md 6.1, the keys marked U."""
    assert [(one.severity, one.key) for one in compare_for_renewal(GOOD, bent(change))] == [
        (severity, key)
    ]


@pytest.mark.case("EN-01")
def test_a_renewal_that_adds_a_right_is_found() -> None:
    installed = bent(lambda p: mdm(p).update(AccessRights=8191 - 8))
    (finding,) = compare_for_renewal(installed, GOOD)
    assert (finding.severity, finding.key) == (Severity.ERROR, "AccessRights")


def test_a_check_in_url_that_only_repeats_the_server_url_is_no_change() -> None:
    """CheckInURL defaults to ServerURL. Source: 6.1."""
    one = bent(lambda p: mdm(p).update(CheckInURL=mdm(p)["ServerURL"]))
    other = bent(lambda p: mdm(p).pop("CheckInURL"))
    assert compare_for_renewal(one, other) == ()
