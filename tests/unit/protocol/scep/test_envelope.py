"""Envelopes against openssl, both ways, and the replies around them."""

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from fuzz.scep_client import der, ec_key, envelope, key_pem, openssl, pem, rsa_key, self_signed
from ostiary.formats.cms_envelope import issuer_and_serial
from ostiary.formats.encrypted_content import ContentCipher
from ostiary.protocol.scep.envelope import decode_envelope, encode_envelope
from ostiary.protocol.scep.reply import CertRep
from ostiary.protocol.scep.words import FailInfo, RequestFailed

CONTENT = b"a certificate request " * 20


def with_key_identifier() -> x509.Certificate:
    """What a CA's certificate has and a requester's lacks."""
    key = rsa_key("recipient")
    plain = self_signed(key, "recipient")
    return (
        x509.CertificateBuilder()
        .subject_name(plain.subject)
        .issuer_name(plain.issuer)
        .public_key(key.public_key())
        .serial_number(0x80)
        .not_valid_before(plain.not_valid_before_utc)
        .not_valid_after(plain.not_valid_after_utc)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


OURS = with_key_identifier()


@pytest.mark.parametrize("cipher", ContentCipher)
def test_openssl_opens_what_we_close(cipher: ContentCipher) -> None:
    """Source: RFC 5652 6."""
    closed = encode_envelope(
        CONTENT,
        der(OURS),
        cipher=cipher,
        content_key=bytes(range(1, cipher.key_bytes + 1)),
        iv=b"i" * cipher.block_bytes,
    )
    opened = openssl(
        *("cms", "-decrypt", "-binary", "-inform", "DER", "-in", "closed", "-out", "out"),
        *("-recip", "own.pem", "-inkey", "own.key"),
        files={"closed": closed, "own.pem": pem(OURS), "own.key": key_pem(rsa_key("recipient"))},
    )
    assert opened == CONTENT


@pytest.mark.parametrize("cipher", ["-aes128", "-aes192", "-aes256", "-des3"])
@pytest.mark.parametrize("options", [(), ("-keyid",), ("-stream", "-indef")], ids=str)
def test_we_open_what_openssl_closes(cipher: str, options: tuple[str, ...]) -> None:
    closed = envelope(CONTENT, der(OURS), cipher, *options)
    read = decode_envelope(closed, our_certificate=der(OURS), allow_des3=True)
    key = rsa_key("recipient").decrypt(read.encrypted_key, padding.PKCS1v15())
    assert read.open(key) == CONTENT


def test_a_key_of_another_length_is_refused_like_a_wrong_one() -> None:
    read = decode_envelope(
        envelope(CONTENT, der(OURS)), our_certificate=der(OURS), allow_des3=False
    )
    said = set()
    for key in (b"", b"k" * 15, b"k" * 16, b"k" * 32):
        with pytest.raises(RequestFailed) as caught:
            read.open(key)
        said.add(str(caught.value))
    assert len(said) == 1


@pytest.mark.parametrize(
    ("message", "fail_info"),
    [
        (b"", FailInfo.BAD_REQUEST),
        (b"\x30\x80\0\0", FailInfo.BAD_REQUEST),
        (b"\x30" * 5000, FailInfo.BAD_REQUEST),
        (envelope(CONTENT, der(OURS), "-camellia128"), FailInfo.BAD_ALGORITHM),
        (envelope(CONTENT, der(OURS), "-des3"), FailInfo.BAD_ALGORITHM),
        (envelope(CONTENT, der(self_signed(rsa_key("other")))), FailInfo.BAD_REQUEST),
        (envelope(CONTENT, der(OURS))[:-1], FailInfo.BAD_REQUEST),
    ],
    ids=["empty", "nothing", "deep", "camellia", "des3", "another recipient", "cut short"],
)
def test_what_we_cannot_open_is_refused(message: bytes, fail_info: FailInfo) -> None:
    with pytest.raises(RequestFailed) as caught:
        decode_envelope(message, our_certificate=der(OURS), allow_des3=False)
    assert caught.value.fail_info is fail_info


def test_an_elliptic_recipient_is_refused() -> None:
    recipient = der(self_signed(ec_key("recipient")))
    with pytest.raises(RequestFailed) as caught:
        encode_envelope(
            CONTENT, recipient, cipher=ContentCipher.AES_128, content_key=b"k" * 16, iv=b"i" * 16
        )
    assert caught.value.fail_info is FailInfo.BAD_ALGORITHM


def test_a_certificate_is_named_as_asn1crypto_names_it() -> None:
    """The serial number 0x80 needs a leading zero."""
    # The sequence's own two bytes of header aside.
    theirs = cms.IssuerAndSerialNumber(
        {"issuer": cms.Certificate.load(der(OURS)).issuer, "serial_number": 0x80}
    )
    assert issuer_and_serial(der(OURS)) == theirs.dump()[2:]


def test_a_failure_carries_its_reason_and_no_envelope() -> None:
    """Source: RFC 8894 3.3.2.2."""
    reply = CertRep(
        transaction_id=b"TX",
        recipient_nonce=b"r",
        sender_nonce=b"s" * 16,
        fail_info=FailInfo.BAD_TIME,
        envelope=b"",
    )
    message = cms.ContentInfo.load(reply.encode(b"sig", der(OURS)), strict=True)["content"]
    assert message["encap_content_info"]["content"].native == b""
    attributes = message["signer_infos"][0]["signed_attrs"]
    by_type = {one["type"].native: one["values"][0].native for one in attributes}
    assert by_type["2.16.840.1.113733.1.9.3"] == "2"
    assert by_type["2.16.840.1.113733.1.9.4"] == "3"
    assert reply.to_sign()[1:] == attributes.dump()[1:]
    encoded = [one.dump() for one in attributes]
    assert encoded == sorted(encoded)
