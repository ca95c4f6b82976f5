"""Fuzz SCEP's decoders: only our errors, and what they read asn1crypto reads alike.

python tests/fuzz/fuzz_scep.py -runs=100000
"""

from contextlib import suppress

from asn1crypto import cms as asn1_cms
from asn1crypto import csr as asn1_csr
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from harness import fuzz
from pki import Issued, issue, rsa_key, to_definite, to_indefinite
from scep_client import Requester, make_csr

from ostiary.errors import OstiaryError
from ostiary.formats.encrypted_content import ContentCipher
from ostiary.protocol.scep.csr import decode_csr
from ostiary.protocol.scep.envelope import decode_envelope, encode_envelope
from ostiary.protocol.scep.reply import CertRep
from ostiary.protocol.scep.request import PkiRequest, decode_request
from ostiary.protocol.scep.words import RequestFailed

_CA: Issued = issue("a SCEP CA", key=rsa_key(1), authority=True)
_DEVICE = Requester(ca=_CA.der, key=rsa_key(2))
_CSR = make_csr(rsa_key(2), b"challenge")
_ENVELOPES = [
    encode_envelope(
        _CSR, _CA.der, cipher=cipher, content_key=b"k" * cipher.key_bytes, iv=b"i" * size
    )
    for cipher, size in ((ContentCipher.AES_128, 16), (ContentCipher.DES3, 8))
]
SEEDS = [
    _CSR,
    make_csr(ec.generate_private_key(ec.SECP256R1()), None),
    *_ENVELOPES,
    to_indefinite(_ENVELOPES[0]),
    *[_DEVICE.sign(envelope) for envelope in _ENVELOPES],
    to_indefinite(_DEVICE.sign(_ENVELOPES[0])),
]


def check(raw: bytes) -> None:
    """Read `raw` as each of the three things that a SCEP server reads."""
    with suppress(OstiaryError):
        _check_request(decode_request(raw, allow_sha1=True))
    with suppress(RequestFailed):
        _check_envelope(raw)
    with suppress(RequestFailed):
        _check_csr(raw)


def _check_request(request: PkiRequest) -> None:
    reply = CertRep(
        transaction_id=request.transaction_id,
        recipient_nonce=request.sender_nonce,
        sender_nonce=b"n" * 16,
        fail_info=None,
        envelope=b"e",
    ).encode(b"s" * 256, _CA.der)
    signer = asn1_cms.ContentInfo.load(reply, strict=True)["content"]["signer_infos"][0]
    echoed = [one["values"][0].contents for one in signer["signed_attrs"]]
    if request.transaction_id not in echoed or request.sender_nonce not in echoed:
        raise AssertionError("the reply does not echo what came")
    with suppress(RequestFailed):
        request.verify()


def _check_envelope(raw: bytes) -> None:
    envelope = decode_envelope(raw, our_certificate=_CA.der, allow_des3=True)
    theirs = asn1_cms.ContentInfo.load(to_definite(raw))["content"]
    said = theirs["encrypted_content_info"]
    if said["encrypted_content"].native != envelope.content.ciphertext:
        raise AssertionError("asn1crypto reads another ciphertext")
    keys = [one.chosen["encrypted_key"].native for one in theirs["recipient_infos"]]
    if envelope.encrypted_key not in keys:
        raise AssertionError("asn1crypto reads another key")
    with suppress(RequestFailed):
        envelope.open(b"k" * envelope.cipher.key_bytes)


def _check_csr(raw: bytes) -> None:
    request = decode_csr(raw)
    theirs = asn1_csr.CertificationRequest.load(raw)
    info = theirs["certification_request_info"]
    key = serialization.load_der_public_key(info["subject_pk_info"].dump())
    if key != request.public_key:
        raise AssertionError("asn1crypto reads another key")
    digest = getattr(hashes, theirs["signature_algorithm"].hash_algo.upper())()
    signature, signed = theirs["signature"].native, info.dump()
    match key:
        case rsa.RSAPublicKey():
            key.verify(signature, signed, padding.PKCS1v15(), digest)
        case ec.EllipticCurvePublicKey():
            key.verify(signature, signed, ec.ECDSA(digest))
        case _:
            raise AssertionError("a kind of key that must not be accepted")


if __name__ == "__main__":
    fuzz(check, SEEDS)
