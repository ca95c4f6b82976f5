"""Signed messages, made by openssl, cryptography and asn1crypto, verified by us."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from asn1crypto import cms as asn1_cms
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from fuzz.pki import (
    NOW,
    Issued,
    issue,
    openssl_sign,
    openssl_verifies,
    rsa_key,
    sign_by_hand,
    to_indefinite,
)
from ostiary.errors import Malformed, Refused, TooLarge
from ostiary.formats import cms, der
from ostiary.formats.signing_keys import public_key_of
from ostiary.formats.x509 import TrustAnchors, verify_chain

BODY = b"<plist><dict><key>Status</key><string>Idle</string></dict></plist>"
FORMS: Sequence[list[str]] = (
    [],
    ["-noattr"],
    ["-stream"],
    ["-noattr", "-stream"],
    ["-keyid"],
    ["-nodetach"],
    ["-nodetach", "-stream"],
)


@pytest.fixture(scope="module")
def by_rsa() -> Issued:
    return issue("rsa device", key=rsa_key())


@pytest.fixture(scope="module")
def by_ec() -> Issued:
    return issue("ec device")


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_what_openssl_signs_is_verified(
    by_rsa: Issued, by_ec: Issued, digest: str, form: list[str]
) -> None:
    """All digests, with and without attributes, BER and DER, both identifiers. (check-in-and-commands.md 3.8)"""
    for signer in (by_rsa, by_ec):
        signature = openssl_sign(signer, BODY, "-md", digest, *form)
        proof = cms.verify_detached(signature, BODY)
        assert proof.certificate == signer.der
        assert proof.digest_algorithm == digest
        assert (proof.signing_time is None) == ("-noattr" in form)
        with pytest.raises(Refused):
            cms.verify_detached(signature, BODY + b" ")


@pytest.mark.parametrize(
    "form", [[], ["-noattr"], ["-nodetach"], ["-nodetach", "-stream"]], ids=" ".join
)
def test_indefinite_lengths_throughout_change_nothing(by_rsa: Issued, form: list[str]) -> None:
    """Even around the signed attributes and inside the certificate. (users.md 5.4 item 2)"""
    message = to_indefinite(openssl_sign(by_rsa, BODY, *form))
    assert cms.verify_detached(message, BODY).certificate == by_rsa.der


def test_the_forms_above_contain_indefinite_lengths(by_rsa: Issued) -> None:
    assert openssl_sign(by_rsa, BODY, "-stream")[1] == 0x80


@pytest.mark.case("CI-48")
def test_a_body_signed_without_attributes_and_with_sha1_is_accepted(by_rsa: Issued) -> None:
    """A Mac signs the body itself. (check-in-and-commands.md 3.8, CI-48)"""
    signature = openssl_sign(by_rsa, BODY, "-noattr", "-md", "sha1")
    proof = cms.verify_detached(signature, BODY)
    assert (proof.certificate, proof.digest_algorithm) == (by_rsa.der, "sha1")


@pytest.mark.case("CI-49")
@pytest.mark.parametrize("key", [None, rsa_key()], ids=["ec", "rsa"])
def test_a_signature_made_three_seconds_before_the_certificate_begins_is_accepted(
    key: rsa.RSAPrivateKey | None,
) -> None:
    """Devices sign a few seconds too early. (check-in-and-commands.md 3.8 step 6, CI-49)"""
    authority = issue("device CA", authority=True)
    device = issue("new device", authority, key=key, starts_at=NOW)
    early = NOW - timedelta(seconds=3)
    proof = cms.verify_detached(sign_by_hand(device, BODY, signing_time=early), BODY)
    assert proof.signing_time == early
    assert proof.digest_algorithm == "sha256"
    chain = verify_chain(
        proof.certificate, proof.certificates, TrustAnchors([authority.der]), early
    )
    assert chain.certificate == device.der


@pytest.mark.case("CI-50")
@pytest.mark.parametrize("form", [[], ["-keyid"], ["-md", "sha1"]], ids=" ".join)
def test_attributes_taken_from_another_body_are_refused(by_rsa: Issued, form: list[str]) -> None:
    """The digest must be this body's, else one captured header would fit every body. (CI-50)"""
    captured = openssl_sign(by_rsa, b"another body", *form)
    for message in (captured, to_indefinite(captured)):
        cms.verify_detached(message, b"another body")
        with pytest.raises(cms.DigestDoesNotMatch):
            cms.verify_detached(message, BODY)


def test_sha1_can_be_switched_off(by_rsa: Issued) -> None:
    signature = openssl_sign(by_rsa, BODY, "-noattr", "-md", "sha1")
    with pytest.raises(cms.AlgorithmNotAllowed):
        cms.verify_detached(signature, BODY, allow_sha1=False)


@pytest.mark.parametrize(
    "options",
    [["-md", "md5"], ["-md", "sha224"], ["-md", "sha256", "-keyopt", "rsa_padding_mode:pss"]],
)
def test_other_algorithms_are_not_allowed(by_rsa: Issued, options: list[str]) -> None:
    with pytest.raises(cms.AlgorithmNotAllowed):
        cms.verify_detached(openssl_sign(by_rsa, BODY, *options), BODY)


def test_several_signers_are_malformed(by_rsa: Issued, by_ec: Issued) -> None:
    with pytest.raises(cms.SeveralSigners):
        cms.verify_detached(openssl_sign([by_rsa, by_ec], BODY), BODY)


def test_no_signer_is_malformed(by_ec: Issued) -> None:
    with pytest.raises(cms.SeveralSigners):
        cms.verify_detached(cms.certificates_only([by_ec.der]), BODY)


@pytest.mark.parametrize("form", [[], ["-keyid"]], ids=" ".join)
def test_a_message_without_its_signers_certificate_is_malformed(
    by_rsa: Issued, by_ec: Issued, form: list[str]
) -> None:
    with pytest.raises(cms.SignerCertificateMissing):
        cms.read_signed(openssl_sign(by_rsa, BODY, "-nocerts", *form))
    with pytest.raises(cms.SignerCertificateMissing):
        cms.read_signed(sign_by_hand(by_rsa, BODY, certificates=[by_ec.der]))


def test_the_signer_is_found_among_several_certificates(by_rsa: Issued, by_ec: Issued) -> None:
    signature = sign_by_hand(by_rsa, BODY, certificates=[by_ec.der, by_rsa.der])
    proof = cms.verify_detached(signature, BODY)
    assert proof.certificate == by_rsa.der
    assert set(proof.certificates) == {by_rsa.der, by_ec.der}


def test_a_certificate_with_the_same_name_and_another_key_does_not_verify(by_rsa: Issued) -> None:
    serial = by_rsa.certificate.serial_number
    impostor = issue("rsa device", key=rsa_key(1), serial=serial)
    signature = sign_by_hand(by_rsa, BODY, certificates=[impostor.der])
    with pytest.raises(cms.SignatureDoesNotVerify):
        cms.verify_detached(signature, BODY)


def test_a_key_of_another_kind_is_not_allowed(by_rsa: Issued) -> None:
    impostor = issue("rsa device", serial=by_rsa.certificate.serial_number)
    signature = sign_by_hand(by_rsa, BODY, certificates=[impostor.der])
    with pytest.raises(cms.AlgorithmNotAllowed):
        cms.verify_detached(signature, BODY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"digests": []},
        {"digests": [b"x" * 32, b"y" * 32]},
        {"content_types": []},
        {"content_types": ["data", "data"]},
        {"content_types": ["signed_data"]},
        {"extra_attributes": 40},
    ],
    ids=str,
)
def test_attributes_must_say_content_and_digest_exactly_once(
    by_rsa: Issued, wrong: dict[str, object]
) -> None:
    signature = sign_by_hand(by_rsa, BODY, **wrong)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(Malformed):
        cms.verify_detached(signature, BODY)


def test_attributes_are_verified_under_the_tag_of_a_set(by_rsa: Issued) -> None:
    """A signature over the bytes as sent (0xA0) is not one. (check-in-and-commands.md 3.8 step 4c)"""
    with pytest.raises(cms.SignatureDoesNotVerify):
        cms.verify_detached(sign_by_hand(by_rsa, BODY, tag_signed=0xA0), BODY)


def test_attributes_in_another_order_than_signed_are_refused(by_rsa: Issued) -> None:
    """We verify the bytes as sent and never sort them; openssl does the same."""
    message = openssl_sign(by_rsa, BODY)
    signed = asn1_cms.ContentInfo.load(message)["content"]["signer_infos"][0]["signed_attrs"]
    in_order = [one.dump() for one in signed]
    other_order = message.replace(b"".join(in_order), b"".join(in_order[::-1]))
    assert other_order != message
    assert not openssl_verifies(other_order, BODY)
    with pytest.raises(cms.SignatureDoesNotVerify):
        cms.verify_detached(other_order, BODY)


def test_bytes_after_the_message_are_malformed(by_rsa: Issued) -> None:
    for form in ([], ["-stream"]):
        with pytest.raises(cms.NotASignedMessage):
            cms.read_signed(openssl_sign(by_rsa, BODY, *form) + b"\0")


def test_every_truncation_is_malformed(by_rsa: Issued) -> None:
    for form in ([], ["-stream"]):
        whole = openssl_sign(by_rsa, BODY, *form)
        for length in range(0, len(whole), 7):
            with pytest.raises(Malformed):
                cms.read_signed(whole[:length])


def test_every_flipped_bit_is_noticed_or_changes_no_meaning(by_ec: Issued) -> None:
    """Whatever still verifies names the same signer, and openssl agrees that it verifies."""
    whole = openssl_sign(by_ec, BODY)
    for at in range(len(whole)):
        bent = whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :]
        try:
            proof = cms.verify_detached(bent, BODY)
        except (Malformed, Refused):
            continue
        assert public_key_of(proof.certificate) == by_ec.key.public_key()


def test_a_huge_message_is_too_large() -> None:
    with pytest.raises(TooLarge):
        cms.read_signed(b"\x30" * 70_000)


def test_the_claim_can_be_read_before_it_is_verified(by_rsa: Issued) -> None:
    message = cms.read_signed(openssl_sign(by_rsa, b"another body"))
    assert message.certificate == by_rsa.der
    assert message.content is None
    with pytest.raises(Refused):
        message.verify(BODY, public_key_of(by_rsa.der))
    message.verify(b"another body", public_key_of(by_rsa.der))


def test_keys_are_loaded_once_and_bounded(by_rsa: Issued, by_ec: Issued) -> None:
    keys = cms.PublicKeys(capacity=1)
    for signer in (by_rsa, by_rsa, by_ec):
        cms.verify_detached(openssl_sign(signer, BODY), BODY, keys=keys)
        assert len(keys) == 1
    assert keys.of(by_ec.der) is keys.of(by_ec.der)


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP256K1()), ec.generate_private_key(ec.SECP224R1())]
)
def test_an_odd_curve_is_not_allowed(key: ec.EllipticCurvePrivateKey) -> None:
    """Source: users.md 5.4 item 19."""
    with pytest.raises(cms.AlgorithmNotAllowed):
        cms.verify_detached(openssl_sign(issue("odd", key=key), BODY), BODY)


def test_a_key_that_is_no_signing_key_of_ours_is_not_allowed() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(1))
        .sign(key, None)
        .public_bytes(serialization.Encoding.DER)
    )
    with pytest.raises(cms.AlgorithmNotAllowed):
        public_key_of(certificate)


def test_embedded_content_comes_out_and_is_verified(by_rsa: Issued, by_ec: Issued) -> None:
    body = bytes(range(256)) * 300
    for signer in (by_rsa, by_ec):
        for p7 in (
            openssl_sign(signer, body, "-nodetach"),
            openssl_sign(signer, body, "-nodetach", "-stream"),
            cms.sign_embedded(body, signer.der, signer.key, [issue("CA", authority=True).der]),
        ):
            content, message = cms.read_embedded(p7)
            assert content == body
            message.verify(content)
            with pytest.raises(cms.EmbeddedContentDiffers):
                message.verify(BODY)


def test_openssl_and_asn1crypto_read_what_we_sign(by_rsa: Issued, by_ec: Issued) -> None:
    for signer in (by_rsa, by_ec):
        p7 = cms.sign_embedded(b"a\nb\r\n", signer.der, signer.key)
        assert openssl_verifies(p7, None)
        signed = asn1_cms.ContentInfo.load(p7)["content"]
        assert signed["encap_content_info"]["content"].native == b"a\nb\r\n"


def test_what_cryptography_signs_detached_is_verified(by_rsa: Issued) -> None:
    assert isinstance(by_rsa.key, rsa.RSAPrivateKey)
    for options in ([], [pkcs7.PKCS7Options.NoAttributes], [pkcs7.PKCS7Options.NoCapabilities]):
        signature = (
            pkcs7.PKCS7SignatureBuilder(data=BODY)
            .add_signer(by_rsa.certificate, by_rsa.key, hashes.SHA512())
            .sign(
                serialization.Encoding.DER,
                [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.DetachedSignature, *options],
            )
        )
        assert cms.verify_detached(signature, BODY).digest_algorithm == "sha512"


def test_a_detached_message_has_no_content_to_read(by_ec: Issued) -> None:
    with pytest.raises(cms.NotASignedMessage):
        cms.read_embedded(openssl_sign(by_ec, BODY))


def test_certificates_alone_are_read_by_others(by_rsa: Issued, by_ec: Issued) -> None:
    """Source: RFC 8894 3.4 (degenerate certificates-only message)."""
    p7 = cms.certificates_only([by_rsa.der, by_ec.der])
    assert set(pkcs7.load_der_pkcs7_certificates(p7)) == {by_rsa.certificate, by_ec.certificate}
    signed = asn1_cms.ContentInfo.load(p7, strict=True)["content"]
    assert [one.chosen.dump() for one in signed["certificates"]] == sorted([by_rsa.der, by_ec.der])
    assert len(signed["signer_infos"]) == 0
    with pytest.raises(Malformed):
        cms.certificates_only([b"not a certificate"])


def test_a_certificate_inside_that_is_garbage_is_malformed(by_rsa: Issued) -> None:
    parsed = asn1_x509.Certificate.load(by_rsa.der)
    garbage = der.encode_element(der.SEQUENCE, b"\x30\x03\x02\x01\x01")
    whole = sign_by_hand(by_rsa, BODY)
    assert parsed.dump() in whole
    with pytest.raises(Malformed):
        cms.read_signed(whole.replace(by_rsa.der, garbage))
