"""The authority behind the simulated push service: its server's certificate and push certificates.

Source: check-in-and-commands.md 5.6, 5.7.
"""

import base64
import binascii
import ipaddress
import plistlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from xml.parsers.expat import ExpatError

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ostiary_sim.clock import Clock, system_clock
from ostiary_sim.errors import MessageUnreadable
from ostiary_sim.identity import Identity, PrivateKey, new_rsa_key
from ostiary_sim.personality import draw_uuid

TOPIC_PREFIX: Final = "com.apple.mgmt.External."
PUSH_CERTIFICATE_LIFE: Final = timedelta(days=365)
_KEY_BITS: Final = 2048
_LONG: Final = timedelta(days=3650)
_AUTHORITY_FILE: Final = "push-authority.pem"
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True, kw_only=True)
class PushCredential:
    """A push certificate, with its key where we made it."""

    certificate: x509.Certificate
    topic: str
    key: PrivateKey | None = field(default=None, repr=False)

    @property
    def certificate_pem(self) -> bytes:
        """As the portal would let you download it."""
        return self.certificate.public_bytes(_PEM)

    @property
    def key_pem(self) -> bytes:
        """PKCS#8, not encrypted; empty when the key was made by whoever asked."""
        return b"" if self.key is None else encode_key(self.key)

    @property
    def pem(self) -> bytes:
        """Certificate and key in one file."""
        return self.certificate_pem + self.key_pem


class PushAuthority:
    """Issues what the push service and its customers need. `root` signs everything.

    Args:
        root: key and certificate of the authority.
        clock: for validity periods. Real TLS compares them with the machine's clock.
    """

    def __init__(self, root: Identity, clock: Clock = system_clock) -> None:
        self.root = root
        self._clock = clock
        self._vendor: Identity | None = None

    @classmethod
    def create(cls, clock: Clock = system_clock) -> "PushAuthority":
        """A new authority with a new key."""
        key = new_rsa_key(_KEY_BITS)
        now = clock()
        name = _common_name("Simulated Apple Push Authority")
        certificate = (
            _builder(name, name, key.public_key(), now - _LONG, now + _LONG)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(Identity(key=key, certificate=certificate), clock)

    @classmethod
    def open(cls, directory: Path, clock: Clock = system_clock) -> "PushAuthority":
        """The authority kept in `directory`, made at first use."""
        path = directory / _AUTHORITY_FILE
        if not path.exists():
            made = cls.create(clock)
            write_private(path, encode_key(made.root.key) + made.ca_pem)
            return made
        pem = path.read_bytes()
        key = serialization.load_pem_private_key(pem, None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise MessageUnreadable(f"{path} holds no RSA key")
        return cls(Identity(key=key, certificate=x509.load_pem_x509_certificate(pem)), clock)

    @property
    def ca_pem(self) -> bytes:
        """What a push client must trust to reach the simulated service."""
        return self.root.certificate.public_bytes(_PEM)

    def issue_server_certificate(
        self, names: Sequence[str] = ("localhost", "127.0.0.1", "::1")
    ) -> Identity:
        """A TLS server identity for these host names and addresses."""
        key = new_rsa_key(_KEY_BITS)
        now = self._clock()
        certificate = (
            _builder(
                _common_name(names[0]),
                self.root.certificate.subject,
                key.public_key(),
                now - _LONG,
                now + _LONG,
            )
            .add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names]),
                critical=False,
            )
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(self._issuer_key(), critical=False)
            .sign(self.root.key, hashes.SHA256())
        )
        return Identity(key=key, certificate=certificate)

    def issue_push_certificate(
        self,
        csr_or_key: x509.CertificateSigningRequest | PrivateKey | None = None,
        topic: str | None = None,
        *,
        valid_for: timedelta = PUSH_CERTIFICATE_LIFE,
        not_before: datetime | None = None,
    ) -> PushCredential:
        """A push certificate as the portal issues it.

        Args:
            csr_or_key: whose key to certify; None makes one.
            topic: repeat the topic to *renew*; None *creates*, with a topic never seen before.
            valid_for: from `not_before`.
            not_before: default an hour ago.
        """
        key: PrivateKey | None = None
        if csr_or_key is None:
            csr_or_key = key = new_rsa_key(_KEY_BITS)
        elif not isinstance(csr_or_key, x509.CertificateSigningRequest):
            key = csr_or_key
        uuid = draw_uuid(random.SystemRandom()).lower()
        topic = topic or TOPIC_PREFIX + uuid
        start = not_before or self._clock() - timedelta(hours=1)
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.USER_ID, topic),
                x509.NameAttribute(NameOID.COMMON_NAME, f"APSP:{topic.removeprefix(TOPIC_PREFIX)}"),
                x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            ]
        )
        certificate = (
            _builder(
                subject,
                self.root.certificate.subject,
                csr_or_key.public_key(),  # type: ignore[arg-type]  # a CSR may hold kinds no CA takes; sign() refuses
                start,
                start + valid_for,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(self._issuer_key(), critical=False)
            .sign(self.root.key, hashes.SHA256())
        )
        return PushCredential(certificate=certificate, topic=topic, key=key)

    def accept_signed_request(
        self,
        document: bytes,
        topic: str | None = None,
        *,
        valid_for: timedelta = PUSH_CERTIFICATE_LIFE,
    ) -> PushCredential:
        """What the portal gives for a vendor-signed request; see `sign_as_vendor` for its form.

        Raises:
            MessageUnreadable: not such a request, or the vendor's signature is wrong.

        Source: check-in-and-commands.md 5.7.
        """
        csr = _read_signed_request(document, self.root.certificate)
        return self.issue_push_certificate(csr, topic, valid_for=valid_for)

    def sign_as_vendor(self, csr_der: bytes) -> bytes:
        """The file a vendor hands back for a customer's CSR: base64 of a property list.

        Source: check-in-and-commands.md 5.7 steps 2 to 4.
        """
        vendor = self.vendor
        if not isinstance(vendor.key, rsa.RSAPrivateKey):
            raise MessageUnreadable("a vendor signs with RSA")
        signature = vendor.key.sign(csr_der, padding.PKCS1v15(), hashes.SHA256())
        chain = vendor.certificate.public_bytes(_PEM) + self.ca_pem
        fields = {
            "PushCertRequestCSR": base64.b64encode(csr_der).decode(),
            "PushCertCertificateChain": chain.decode(),
            "PushCertSignature": base64.b64encode(signature).decode(),
        }
        return base64.b64encode(plistlib.dumps(fields))

    @property
    def vendor(self) -> Identity:
        """An MDM vendor known to this authority."""
        if self._vendor is None:
            key = new_rsa_key(_KEY_BITS)
            now = self._clock()
            certificate = (
                _builder(
                    _common_name("MDM Vendor: Simulated"),
                    self.root.certificate.subject,
                    key.public_key(),
                    now - timedelta(days=1),
                    now + PUSH_CERTIFICATE_LIFE,
                )
                .add_extension(self._issuer_key(), critical=False)
                .sign(self.root.key, hashes.SHA256())
            )
            self._vendor = Identity(key=key, certificate=certificate)
        return self._vendor

    def _issuer_key(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.root.key.public_key())


def topic_of(certificate: x509.Certificate) -> str | None:
    """The topic a push certificate stands for: the UID of its subject."""
    found = certificate.subject.get_attributes_for_oid(NameOID.USER_ID)
    return str(found[0].value) if found else None


def encode_key(key: PrivateKey) -> bytes:
    """PKCS#8 in PEM, not encrypted."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_bytes(content)


def _read_signed_request(document: bytes, root: x509.Certificate) -> x509.CertificateSigningRequest:
    try:
        fields = plistlib.loads(base64.b64decode(document, validate=False))
        csr_der = base64.b64decode(fields["PushCertRequestCSR"], validate=True)
        signature = base64.b64decode(fields["PushCertSignature"], validate=True)
        chain = x509.load_pem_x509_certificates(fields["PushCertCertificateChain"].encode())
        vendor = chain[0]
        key = vendor.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise MessageUnreadable("a vendor signs with RSA")
        key.verify(signature, csr_der, padding.PKCS1v15(), hashes.SHA256())
        vendor.verify_directly_issued_by(root)
        csr = x509.load_der_x509_csr(csr_der)
    except InvalidSignature as problem:
        raise MessageUnreadable("the vendor's signature is wrong") from problem
    except (
        ExpatError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        binascii.Error,
        plistlib.InvalidFileException,
    ) as problem:
        raise MessageUnreadable("not a push certificate request") from problem
    if not csr.is_signature_valid:
        raise MessageUnreadable("the request is not signed by its own key")
    return csr


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: rsa.RSAPublicKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
