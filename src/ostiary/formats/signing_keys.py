"""Public keys that may verify what a device sends: loading them within bounds, and one verification."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from ostiary.errors import Malformed, Refused

SignaturePublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1(),  # noqa: S303  # old devices sign with it; callers can switch it off
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_ECDSA: Final = {name: ec.ECDSA(algorithm) for name, algorithm in HASHES.items()}
_PKCS1: Final = padding.PKCS1v15()
_RSA_BITS: Final = range(
    1024, 8192 + 1
)  # Apple's factory certificates are 1024; huge keys only burn our CPU
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")

UNREADABLE: Final = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    Warning,  # cryptography warns of oddities; where warnings are errors they are refusals
)
"""Whatever `cryptography` raises about a hostile certificate."""


class CertificateMalformed(Malformed):
    """The certificate cannot be read."""


class AlgorithmNotAllowed(Refused):
    """The signature uses an algorithm or a key that we do not accept."""


def public_key_of(certificate: bytes) -> SignaturePublicKey:
    """The key inside a DER certificate, RSA of 1024 to 8192 bits or one of the three NIST curves.

    Raises:
        CertificateMalformed: the certificate or its key cannot be read.
        AlgorithmNotAllowed: the key is of another kind or size.
    """
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except UNREADABLE:
        raise CertificateMalformed from None
    match key:
        case rsa.RSAPublicKey() if key.key_size in _RSA_BITS:
            return key
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return key
        case _:
            raise AlgorithmNotAllowed("the certificate's key is of a kind or size that we refuse")


def is_signature(key: SignaturePublicKey, signature: bytes, signed: bytes, digest: str) -> bool:
    """Whether `signature` is RSA PKCS#1 v1.5 or ECDSA over `signed`, with the hash named `digest` in HASHES."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, _PKCS1, HASHES[digest])
        else:
            key.verify(signature, signed, _ECDSA[digest])
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


class PublicKeys:
    """Loaded keys by the certificate's bytes, the oldest use dropped first. One belongs to whoever verifies often.

    Loading a key costs as much as a verification, and a device sends the same certificate each time. The
    exact bytes are the name, so an entry can never stand for another certificate.
    """

    __slots__ = ("_capacity", "_key_by_certificate")

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._key_by_certificate: OrderedDict[bytes, SignaturePublicKey] = OrderedDict()

    def __len__(self) -> int:
        return len(self._key_by_certificate)

    def of(self, certificate: bytes) -> SignaturePublicKey:
        """The key of a DER certificate. Raises as `public_key_of` does; failures are not remembered."""
        keys = self._key_by_certificate
        key = keys.get(certificate)
        if key is None:
            key = keys[certificate] = public_key_of(certificate)
            if len(keys) > self._capacity:
                keys.popitem(last=False)
        else:
            keys.move_to_end(certificate)
        return key
