"""The certificate request inside: a public key, proof that its owner asks, and the challenge. Nothing else is read."""

import hashlib
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AttributeOID

from ostiary.formats.signing_keys import UNREADABLE
from ostiary.protocol.scep.words import FailInfo, RequestFailed
from ostiary.secret import Secret

DeviceKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_RSA_BITS: Final = range(2048, 4096 + 1)
_CURVES: Final = frozenset({"secp256r1", "secp384r1"})
_EXPONENTS: Final = range(65537, 1 << 32)  # smaller ones are legal and weak, larger ones only cost
_LONGEST_CHALLENGE: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """What we take from a CSR. Its subject, names and extensions are never looked at. (6.3 rule 3)"""

    public_key: DeviceKey
    key_digest: str
    """Hex SHA-256 of the SubjectPublicKeyInfo: the name of the key that spends a challenge."""
    challenge: Secret | None


def decode_csr(encoded: bytes) -> CertificateRequest:
    """The request in a PKCS#10 structure, its self-signature verified.

    Raises:
        RequestFailed: BAD_ALGORITHM for keys outside of RSA 2048 to 4096, P-256 and P-384;
            BAD_REQUEST for everything else that is wrong.

    Source: users.md 5.4 items 19 and 22.
    """
    try:
        csr = x509.load_der_x509_csr(encoded)
        key = _device_key(csr)
        is_signed = csr.is_signature_valid
        challenge = _challenge(csr)
    except UNREADABLE:
        raise RequestFailed(FailInfo.BAD_REQUEST, "the certificate request is unreadable") from None
    if not is_signed:
        raise RequestFailed(
            FailInfo.BAD_REQUEST, "the certificate request is not signed by its own key"
        )
    return CertificateRequest(
        public_key=key,
        key_digest=key_digest(key),
        challenge=challenge,
    )


def key_digest(key: DeviceKey) -> str:
    """Hex SHA-256 of a key's SubjectPublicKeyInfo."""
    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def _challenge(csr: x509.CertificateSigningRequest) -> Secret | None:
    try:
        value = csr.attributes.get_attribute_for_oid(AttributeOID.CHALLENGE_PASSWORD).value
    except x509.AttributeNotFound:
        return None
    if len(value) > _LONGEST_CHALLENGE:
        raise RequestFailed(FailInfo.BAD_REQUEST, "the challenge is longer than any of ours")
    return Secret(value) if value else None


def _device_key(csr: x509.CertificateSigningRequest) -> DeviceKey:
    """The key, once its kind and size are known to be cheap to use."""
    match csr.public_key():
        case rsa.RSAPublicKey() as key if (
            key.key_size in _RSA_BITS and key.public_numbers().e in _EXPONENTS
        ):
            return key
        case ec.EllipticCurvePublicKey() as key if key.curve.name in _CURVES:
            return key
        case _:
            raise RequestFailed(
                FailInfo.BAD_ALGORITHM, "the request's key is of a kind or size that we refuse"
            )
