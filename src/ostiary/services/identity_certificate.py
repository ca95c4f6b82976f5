"""What a device identity says: every field of it is chosen here, by the CA, and none by whoever asked."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ostiary.formats import der
from ostiary.formats.der import encode_element
from ostiary.ports.signer import SignatureScheme
from ostiary.protocol.scep.csr import DeviceKey

CHALLENGE_EXTENSION: Final = x509.ObjectIdentifier(
    f"2.25.{uuid.UUID('5d9a7c1e-37f4-4c0b-9b1a-6f2f0e6f5b27').int}"
)
"""The id of the challenge that a certificate was issued for, as UTF8String: what later proves an enrollment.

Only the CA writes it; a CSR's extensions are never read. (check-in-and-commands.md 2.3, 6.3 rule 4)
"""

SUBJECT: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Ostiary device identity")])
"""The same for every device: a name in a certificate would be read as a claim, and leak what it names."""

_BOOLEAN: Final = 0x01
_UTF8_STRING: Final = 0x0C
_NULL: Final = encode_element(0x05, b"")
_ALGORITHM: Final = {
    SignatureScheme.RSA_SHA256: bytes.fromhex("2a864886f70d01010b"),
    SignatureScheme.ECDSA_SHA256: bytes.fromhex("2a8648ce3d040302"),
}
_GENERALIZED_FROM: Final = datetime(2050, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityCertificate:
    """A certificate about to be signed."""

    public_key: DeviceKey
    challenge_id: str
    serial_number: int
    not_before: datetime
    not_after: datetime
    issuer: x509.Certificate
    scheme: SignatureScheme

    def to_sign(self) -> bytes:
        """The TBSCertificate. Source: RFC 5280 4.1; check-in-and-commands.md 6.3."""
        key = self.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        extensions = b"".join(self._extensions())
        return _sequence(
            encode_element(0xA0, _integer(2)),
            _integer(self.serial_number),
            _algorithm(self.scheme),
            self.issuer.subject.public_bytes(),
            _sequence(_time(self.not_before), _time(self.not_after)),
            SUBJECT.public_bytes(),
            key,
            encode_element(0xA3, _sequence(extensions)),
        )

    def encode(self, signature: bytes) -> bytes:
        """The certificate in DER, with the CA's signature over `to_sign()`."""
        bits = encode_element(0x03, b"\0" + signature)
        return _sequence(self.to_sign(), _algorithm(self.scheme), bits)

    def _extensions(self) -> tuple[bytes, ...]:
        ca_key = self.issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        challenge = encode_element(_UTF8_STRING, self.challenge_id.encode())
        return (
            _extension(x509.BasicConstraints(ca=False, path_length=None), critical=True),
            _extension(_usage(self.public_key), critical=True),
            _extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])),
            _extension(x509.SubjectKeyIdentifier.from_public_key(self.public_key)),
            _extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_key)),
            _extension(x509.UnrecognizedExtension(CHALLENGE_EXTENSION, challenge)),
        )


def _usage(key: DeviceKey) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        # Opens the CertRep of a renewal and encrypted profiles; an elliptic curve key cannot.
        key_encipherment=isinstance(key, rsa.RSAPublicKey),
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _extension(value: x509.ExtensionType, *, critical: bool = False) -> bytes:
    return _sequence(
        _object_identifier(value.oid.dotted_string),
        encode_element(_BOOLEAN, b"\xff") if critical else b"",
        encode_element(der.OCTET_STRING, value.public_bytes()),
    )


def _algorithm(scheme: SignatureScheme) -> bytes:
    name = encode_element(der.OBJECT_IDENTIFIER, _ALGORITHM[scheme])
    return _sequence(name, _NULL if scheme is SignatureScheme.RSA_SHA256 else b"")


def _time(moment: datetime) -> bytes:
    in_utc = moment.astimezone(UTC)
    if in_utc < _GENERALIZED_FROM:
        return encode_element(der.UTC_TIME, in_utc.strftime("%y%m%d%H%M%SZ").encode())
    return encode_element(der.GENERALIZED_TIME, in_utc.strftime("%Y%m%d%H%M%SZ").encode())


def _integer(number: int) -> bytes:
    return encode_element(der.INTEGER, number.to_bytes(number.bit_length() // 8 + 1))


def _object_identifier(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    return encode_element(
        der.OBJECT_IDENTIFIER, b"".join(_base128(arc) for arc in (first * 40 + second, *rest))
    )


def _base128(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))


def _sequence(*parts: bytes) -> bytes:
    return encode_element(der.SEQUENCE, b"".join(parts))
