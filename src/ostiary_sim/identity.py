"""A private key and the certificate that names it: what a device proves itself with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from ostiary_sim.errors import MessageUnreadable

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
KeySource = Callable[[int], rsa.RSAPrivateKey]
"""Makes an RSA key of so many bits. Tests and load runs hand out keys made beforehand."""

_PUBLIC_EXPONENT: Final = 65537
_SELF_SIGNED_FOR: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What one device signs with."""

    key: PrivateKey = field(repr=False)
    certificate: x509.Certificate

    @property
    def fingerprint(self) -> str:
        """Lower-case hex SHA-256 of the certificate."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()


def new_rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """A fresh RSA key of `bits` bits."""
    return rsa.generate_private_key(_PUBLIC_EXPONENT, bits)


def self_signed(key: rsa.RSAPrivateKey, subject: x509.Name, now: datetime) -> Identity:
    """An identity that vouches for itself, as SCEP asks of a client that has none yet.

    Source: RFC 8894 2.3.
    """
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _SELF_SIGNED_FOR)
        .sign(key, hashes.SHA256())
    )
    return Identity(key=key, certificate=certificate)


def open_pkcs12(archive: bytes, password: str) -> Identity:
    """The identity inside a PKCS#12 archive.

    Raises:
        MessageUnreadable: wrong password, or no key and certificate in it.
    """
    try:
        key, certificate, _ = pkcs12.load_key_and_certificates(archive, password.encode())
    except ValueError as problem:
        raise MessageUnreadable("the PKCS#12 archive does not open with its password") from problem
    if not isinstance(key, PrivateKey) or certificate is None:
        raise MessageUnreadable("the PKCS#12 archive has no usable key and certificate")
    return Identity(key=key, certificate=certificate)
