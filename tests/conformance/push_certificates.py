"""A made-up Apple that issues push certificates, and the server certificate of a made-up APNs."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

TOPIC = "com.apple.mgmt.External.0cd3a114-62a8-4b6e-9d7a-3c9f1f0e6f11"
OTHER_TOPIC = "com.apple.mgmt.External.77777777-62a8-4b6e-9d7a-3c9f1f0e6f11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        return key_pem(self.key)


def key_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    """The same key for the same number, made once a test run."""
    del number
    return rsa.generate_private_key(65537, 2048)


class Authority:
    """A certificate authority that exists for one test run."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A made-up Apple")])
        self._now = datetime.now(UTC)  # noqa: TID251 - TLS itself looks at the wall clock
        self.certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue_push(
        self,
        topic: str | None = TOPIC,
        *,
        key: rsa.RSAPrivateKey | None = None,
        public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None = None,
        valid_from: timedelta = timedelta(hours=-1),
        valid_for: timedelta = timedelta(days=365),
    ) -> Issued:
        """A push certificate whose subject's UID is `topic`; times count from now.

        With `public_key`, the key is somebody else's, as for a request that the portal was given.
        """
        key = key or rsa_key()
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, "APSP:made-up")]
        if topic is not None:
            attributes.append(x509.NameAttribute(NameOID.USER_ID, topic))
        certificate = (
            self._builder(
                x509.Name(attributes), public_key or key.public_key(), valid_from, valid_for
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(certificate=certificate, key=key)

    def issue_server(self) -> bytes:
        """Certificate and key of a server on 127.0.0.1, one PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        certificate = (
            self._builder(name, key.public_key())
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM) + key_pem(key)

    def _builder(
        self,
        subject: x509.Name,
        public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
        valid_from: timedelta = timedelta(hours=-1),
        valid_for: timedelta = timedelta(days=365),
    ) -> x509.CertificateBuilder:
        start = self._now + valid_from
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + valid_for)
        )
