"""Fuzz cms.verify_detached: only our errors, and whatever we accept openssl, or asn1crypto with cryptography, accepts.

python tests/fuzz/fuzz_cms.py -runs=100000
"""

import hashlib
from contextlib import suppress

from asn1crypto import cms as asn1_cms
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from harness import fuzz
from pki import (
    ec_key,
    issue,
    openssl_sign,
    openssl_verifies,
    rsa_key,
    sign_by_hand,
    to_definite,
    to_indefinite,
)

from ostiary.errors import OstiaryError
from ostiary.formats import cms

_BODY = b"<plist><dict><key>Status</key><string>Idle</string></dict></plist>"
_RSA = issue("rsa device", key=rsa_key())
_EC = issue("ec device", key=ec_key())
_RSA_KEY, _EC_KEY = rsa_key().public_key(), ec_key().public_key()
SEEDS = [
    openssl_sign(_RSA, _BODY),
    openssl_sign(_RSA, _BODY, "-noattr", "-md", "sha1"),
    openssl_sign(_RSA, _BODY, "-nodetach", "-stream"),
    openssl_sign(_EC, _BODY, "-noattr", "-keyid"),
    sign_by_hand(_EC, _BODY, extra_attributes=2),
    # openssl keeps the BER of constructed attribute values when it encodes them anew, so without those.
    to_indefinite(openssl_sign(_EC, _BODY, "-nosmimecap")),
]
_KEYS = cms.PublicKeys(16)


def check(raw: bytes) -> None:
    """Compare the verdict with openssl's; an accepted message names one of the two real signers."""
    try:
        proof = cms.verify_detached(raw, _BODY, keys=_KEYS)
    except OstiaryError:
        return
    signed = asn1_cms.ContentInfo.load(raw)["content"]
    if len(signed["signer_infos"]) != 1:
        raise AssertionError("asn1crypto sees another number of signers")
    if _KEYS.of(proof.certificate) not in (_RSA_KEY, _EC_KEY):
        raise AssertionError("somebody else's signature was accepted")
    # openssl is stricter about fields that say nothing (versions, the list of digests): then the others decide.
    if not any(map(_asn1crypto_verifies, (raw, to_definite(raw)))) and not openssl_verifies(
        raw, _BODY
    ):
        raise AssertionError("nobody else accepts the signature")


def _asn1crypto_verifies(raw: bytes) -> bool:
    """Whether the signature is one by either signer, as asn1crypto and cryptography see it."""
    info = asn1_cms.ContentInfo.load(raw)["content"]["signer_infos"][0]
    digest = info["digest_algorithm"]["algorithm"].native
    said = _BODY
    if info["signed_attrs"].native:
        by_type = {one["type"].native: one["values"].native for one in info["signed_attrs"]}
        if by_type["message_digest"] != [hashlib.new(digest, _BODY).digest()]:
            return False
        said = info["signed_attrs"].untag().dump()
    signature, algorithm = info["signature"].native, getattr(hashes, digest.upper())()
    with suppress(InvalidSignature):
        _RSA_KEY.verify(signature, said, padding.PKCS1v15(), algorithm)
        return True
    with suppress(InvalidSignature):
        _EC_KEY.verify(signature, said, ec.ECDSA(algorithm))
        return True
    return False


if __name__ == "__main__":
    fuzz(check, SEEDS)
