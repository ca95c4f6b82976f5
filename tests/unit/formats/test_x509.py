"""Certificates of devices: which ones chain to our anchors, and that hostile ones do no harm."""

import warnings
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from fuzz.pki import NOW, Issued, ec_key, issue, openssl_sign, rsa_key
from ostiary.errors import Malformed, OstiaryError, Refused, TooLarge
from ostiary.formats import cms
from ostiary.formats import x509 as ours
from ostiary.formats.x509 import (
    CertificateExpired,
    CertificateNotTrusted,
    CertificateNotYetValid,
    TrustAnchors,
    verify_chain,
)

CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


@pytest.fixture(scope="module")
def root() -> Issued:
    return issue("root", authority=True, key=rsa_key(7))


@pytest.fixture(scope="module")
def sub(root: Issued) -> Issued:
    return issue("sub", root, authority=True)


def test_a_certificate_of_the_authority_is_trusted(root: Issued) -> None:
    for extensions in ([], [(CLIENT, False)], [(CLIENT, True)]):
        leaf = issue("device", root, extensions=extensions)
        anchors = TrustAnchors([root.der])
        chain = verify_chain(leaf.der, [], anchors, NOW)
        assert chain.certificate == leaf.der
        assert chain.fingerprint == ours.fingerprint(leaf.der)
        assert chain.anchor_fingerprint == ours.fingerprint(root.der)
        assert chain.anchors_id == anchors.id
        assert chain.not_after == leaf.certificate.not_valid_after_utc


def test_intermediates_lead_to_the_root_in_any_order(root: Issued, sub: Issued) -> None:
    low = issue("low", sub, authority=True)
    leaf = issue("device", low)
    stranger = issue("stranger", authority=True)
    anchors = TrustAnchors([root.der])
    sent = [leaf.der, stranger.der, low.der, b"garbage", sub.der, root.der]
    assert verify_chain(leaf.der, sent, anchors, NOW)
    assert verify_chain(leaf.der, sent[::-1], anchors, NOW)
    with pytest.raises(CertificateNotTrusted):
        verify_chain(leaf.der, [low.der], anchors, NOW)


def test_an_anchor_may_be_an_intermediate(root: Issued, sub: Issued) -> None:
    leaf = issue("device", sub)
    assert verify_chain(leaf.der, [], TrustAnchors([sub.der]), NOW)
    with pytest.raises(CertificateNotTrusted):
        verify_chain(issue("other", root).der, [root.der], TrustAnchors([sub.der]), NOW)


@pytest.mark.case("CI-51")
def test_a_signature_by_a_certificate_outside_of_the_anchors_is_refused(root: Issued) -> None:
    """It verifies, and proves nothing. (check-in-and-commands.md CI-51)"""
    impostor_root = issue("root", authority=True)
    body = b"<plist><dict/></plist>"
    for stranger in (issue("device"), issue("device", impostor_root)):
        proof = cms.verify_detached(openssl_sign(stranger, body), body)
        sent = [*proof.certificates, impostor_root.der]
        with pytest.raises(CertificateNotTrusted) as caught:
            verify_chain(proof.certificate, sent, TrustAnchors([root.der]), NOW)
        assert isinstance(caught.value, Refused)  # 400 to a device


def test_an_anchor_itself_is_no_device(root: Issued) -> None:
    stranger = issue("elsewhere", authority=True)
    with pytest.raises(CertificateNotTrusted):
        verify_chain(stranger.der, [], TrustAnchors([root.der]), NOW)


def test_a_leaf_may_not_issue(root: Issued) -> None:
    device = issue("device", root)
    forged = issue("forged", device)
    constrained = issue(
        "plain", root, extensions=[(x509.BasicConstraints(ca=False, path_length=None), True)]
    )
    anchors = TrustAnchors([root.der])
    with pytest.raises(CertificateNotTrusted):
        verify_chain(forged.der, [device.der], anchors, NOW)
    with pytest.raises(CertificateNotTrusted):
        verify_chain(issue("forged", constrained).der, [constrained.der], anchors, NOW)


def test_an_authority_without_the_right_to_sign_certificates_may_not_issue(root: Issued) -> None:
    usage = [(key_usage(signs_certificates=False), True)]
    middle = issue("middle", root, authority=True, extensions=usage)
    leaf = issue("device", middle)
    with pytest.raises(CertificateNotTrusted):
        verify_chain(leaf.der, [middle.der], TrustAnchors([root.der]), NOW)
    with pytest.raises(ours.NotAnAuthority):
        TrustAnchors([middle.der])


def test_the_path_length_is_kept() -> None:
    """Source: RFC 5280 4.2.1.9."""
    top = issue("top", authority=True, path_length=0)
    middle = issue("middle", top, authority=True)
    anchors = TrustAnchors([top.der])
    assert verify_chain(issue("direct", top).der, [], anchors, NOW)
    with pytest.raises(CertificateNotTrusted):
        verify_chain(issue("device", middle).der, [middle.der], anchors, NOW)


def test_a_path_has_a_greatest_length(root: Issued) -> None:
    between = [root]
    for number in range(8):
        between.append(issue(f"level {number}", between[-1], authority=True))
    sent = [one.der for one in between]
    anchors = TrustAnchors([root.der])
    assert verify_chain(issue("device", between[5]).der, sent, anchors, NOW)
    with pytest.raises(CertificateNotTrusted):
        verify_chain(issue("device", between[8]).der, sent, anchors, NOW)


def test_a_bag_of_look_alikes_costs_a_bounded_number_of_verifications(root: Issued) -> None:
    """Sixteen authorities with one name and one key would make a tree of paths."""
    twins = [issue("twin", key=ec_key(5), authority=True) for _ in range(16)]
    leaf = issue("device", twins[0])
    with pytest.raises(CertificateNotTrusted):
        verify_chain(leaf.der, [one.der for one in twins], TrustAnchors([root.der]), NOW)
    with pytest.raises(TooLarge):
        verify_chain(leaf.der, [root.der] * 17, TrustAnchors([root.der]), NOW)


def test_a_few_minutes_before_the_beginning_are_allowed(root: Issued) -> None:
    """Devices use a fresh certificate seconds too early. (check-in-and-commands.md 3.8 step 6)"""
    leaf = issue("device", root, starts_at=NOW)
    anchors = TrustAnchors([root.der])
    assert verify_chain(leaf.der, [], anchors, NOW - timedelta(minutes=5))
    with pytest.raises(CertificateNotYetValid):
        verify_chain(leaf.der, [], anchors, NOW - timedelta(minutes=5, seconds=1))
    with pytest.raises(CertificateNotYetValid):
        verify_chain(leaf.der, [], anchors, NOW - timedelta(seconds=1), skew=timedelta(0))


def test_an_expired_certificate_is_refused_unless_the_policy_accepts_it(root: Issued) -> None:
    leaf = issue("device", root, ends_at=NOW)
    anchors = TrustAnchors([root.der])
    assert verify_chain(leaf.der, [], anchors, NOW)
    later = NOW + timedelta(seconds=1)
    with pytest.raises(CertificateExpired):
        verify_chain(leaf.der, [], anchors, later)
    assert verify_chain(leaf.der, [], anchors, later, accept_expired=True).not_after == NOW


def test_an_expired_intermediate_ends_the_chain_and_an_expired_anchor_does_not(
    root: Issued,
) -> None:
    middle = issue("middle", root, authority=True, ends_at=NOW)
    leaf = issue("device", middle)
    later = NOW + timedelta(days=1)
    with pytest.raises(CertificateExpired):
        verify_chain(leaf.der, [middle.der], TrustAnchors([root.der]), later)
    assert verify_chain(leaf.der, [], TrustAnchors([middle.der]), later)


def test_a_stranger_is_not_trusted_before_anybody_asks_whether_it_is_expired(root: Issued) -> None:
    leaf = issue("device", ends_at=NOW - timedelta(hours=1))
    with pytest.raises(CertificateNotTrusted):
        verify_chain(leaf.der, [], TrustAnchors([root.der]), NOW)


@pytest.mark.parametrize(
    ("usages", "trusted"),
    [
        ([ExtendedKeyUsageOID.CLIENT_AUTH], True),
        ([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], True),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], True),
        ([ExtendedKeyUsageOID.SERVER_AUTH], False),
        ([ExtendedKeyUsageOID.CODE_SIGNING], False),
    ],
)
def test_the_extended_usage_must_allow_a_client(
    root: Issued, usages: list[ObjectIdentifier], trusted: bool
) -> None:
    leaf = issue("device", root, extensions=[(x509.ExtendedKeyUsage(usages), True)])
    anchors = TrustAnchors([root.der])
    if trusted:
        assert verify_chain(leaf.der, [], anchors, NOW)
    else:
        with pytest.raises(CertificateNotTrusted):
            verify_chain(leaf.der, [], anchors, NOW)


def test_a_critical_extension_that_we_do_not_know_is_not_trusted(root: Issued) -> None:
    unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    anchors = TrustAnchors([root.der])
    assert verify_chain(issue("d", root, extensions=[(unknown, False)]).der, [], anchors, NOW)
    with pytest.raises(CertificateNotTrusted):
        verify_chain(issue("d", root, extensions=[(unknown, True)]).der, [], anchors, NOW)
    middle = issue("m", root, authority=True, extensions=[(unknown, True)])
    with pytest.raises(CertificateNotTrusted):
        verify_chain(issue("d", middle).der, [middle.der], anchors, NOW)


HOSTILE = {
    "empty usages": (37, b"\x30\x00"),
    "usages of another type": (37, b"\x02\x01\x01"),
    "odd constraints": (19, b"\x30\x03\x02\x01\xff"),
    "constraints cut short": (19, b"\x30\x7f"),
    "path length huge": (19, b"\x30\x0d\x01\x01\xff\x02\x08" + b"\x7f" * 8),
    "empty key usage": (15, b"\x03\x01\x00"),
    "names that are none": (17, b"\x30\x04\x8f\x02\xff\xff"),
    "address of three bytes": (17, b"\x30\x05\x87\x03\x01\x02\x03"),
    "x400 name": (17, b"\x30\x04\xa3\x02\x30\x00"),
    "key identifier repeated": (14, b"\x04\x01\x00"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_extension_raises_only_what_we_know(root: Issued, name: str) -> None:
    """Source: users.md 5.4 item 19; step-ca CVE-2026-40097 in 5.3."""
    last_arc, value = HOSTILE[name]
    # The library refuses to write these, so a harmless extension of the same length becomes the hostile one.
    harmless = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.99"), value)
    written = issue("device", root, extensions=[(harmless, False)]).der
    bent = written.replace(
        bytes.fromhex("0603551d63"), bytes.fromhex("0603551d") + bytes([last_arc])
    )
    assert bent != written
    with pytest.raises(OstiaryError):
        verify_chain(bent, [bent], TrustAnchors([root.der]), NOW)
    with suppress(OstiaryError):  # an absurd path length is a long one, and does no harm
        TrustAnchors([bent])


def test_a_negative_serial_raises_only_what_we_know(root: Issued) -> None:
    """Source: users.md 5.4 item 19."""
    written = issue("device", root, serial=0x7F0102030405060708).der
    bent = written.replace(bytes.fromhex("7f0102030405060708"), bytes.fromhex("ff7f02030405060708"))
    assert bent != written
    with pytest.raises(Malformed):
        verify_chain(bent, [], TrustAnchors([root.der]), NOW)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in production, where the library only warns
        with pytest.raises(Malformed):
            verify_chain(bent, [], TrustAnchors([root.der]), NOW)


def test_ten_thousand_names_are_too_large(root: Issued) -> None:
    names = x509.SubjectAlternativeName([x509.DNSName(f"host{n}.example") for n in range(10_000)])
    with pytest.raises(TooLarge):
        verify_chain(
            issue("d", root, extensions=[(names, False)]).der, [], TrustAnchors([root.der]), NOW
        )


def test_a_certificate_to_the_end_of_time_is_read(root: Issued) -> None:
    """Source: RFC 5280 4.1.2.5 (99991231235959Z: no expiry)."""
    end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    leaf = issue("device", root, ends_at=end)
    assert verify_chain(leaf.der, [], TrustAnchors([root.der]), NOW).not_after == end
    assert ours.not_after(leaf.der) == end


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP256K1()), ec.generate_private_key(ec.BrainpoolP256R1())]
)
def test_a_key_on_an_odd_curve_is_not_allowed(
    root: Issued, key: ec.EllipticCurvePrivateKey
) -> None:
    with pytest.raises(Refused):
        verify_chain(issue("d", root, key=key).der, [], TrustAnchors([root.der]), NOW)


def test_keys_of_16384_bits_are_not_even_tried(root: Issued) -> None:
    """Any odd number makes a public key, so a sender can offer one for nothing. (users.md 5.4 item 19)"""
    huge = rsa.RSAPublicNumbers(65537, 2**16384 - 1).public_key()
    name = x509.Name([])
    der = (
        x509.CertificateBuilder(name, root.certificate.subject, huge, 5, NOW, NOW + timedelta(1))
        .sign(root.key, SHA256())
        .public_bytes(Encoding.DER)
    )
    with pytest.raises(ours.AlgorithmNotAllowed):
        verify_chain(der, [], TrustAnchors([root.der]), NOW)


def test_every_flipped_bit_raises_only_what_we_know(root: Issued) -> None:
    leaf = issue("device", root, extensions=[(CLIENT, False)]).der
    anchors = TrustAnchors([root.der])
    for at in range(len(leaf)):
        bent = leaf[:at] + bytes([leaf[at] ^ (1 << at % 8)]) + leaf[at + 1 :]
        with pytest.raises(OstiaryError):
            verify_chain(bent, [bent], anchors, NOW)


def test_a_truncated_certificate_is_malformed(root: Issued) -> None:
    for length in range(0, len(root.der), 11):
        with pytest.raises(Malformed):
            verify_chain(root.der[:length], [], TrustAnchors([root.der]), NOW)


def test_a_set_of_anchors_is_named_by_what_is_in_it(root: Issued, sub: Issued) -> None:
    both = TrustAnchors([root.der, sub.der])
    assert both.id == TrustAnchors([sub.der, root.der, root.der]).id
    assert len(both) == 2
    assert set(both) == {root.der, sub.der}
    assert both.id not in (TrustAnchors([root.der]).id, TrustAnchors([]).id)
    assert root.der.hex() not in repr(both)


def test_no_anchors_trust_nobody(root: Issued) -> None:
    with pytest.raises(CertificateNotTrusted):
        verify_chain(issue("device", root).der, [root.der], TrustAnchors([]), NOW)


def test_what_issues_nothing_is_no_anchor(root: Issued) -> None:
    with pytest.raises(ours.NotAnAuthority):
        TrustAnchors([issue("device", root).der])
    with pytest.raises(Malformed):
        TrustAnchors([b"garbage"])


def test_the_topic_of_a_push_certificate_is_its_user_id(root: Issued) -> None:
    """Source: check-in-and-commands.md 5.6."""
    topic = "com.apple.mgmt.External.0000"
    push = issue("APSP", root, uid=topic)
    assert ours.subject_uid(push.der) == ours.subject_uid(push.certificate) == topic
    assert ours.subject_uid(root.der) is None


def test_a_fingerprint_is_lower_case_hex() -> None:
    assert (
        ours.fingerprint(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
