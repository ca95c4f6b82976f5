"""Devices that exist on paper only: a CA of the bench, certificates, messages, and signatures made before anything is measured.

Keys are shared among devices, because making them is slow and the server sees certificates only.
"""

import hashlib
import plistlib
import secrets
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from bench.wire import Exchange, render_request

TOPIC = "com.apple.mgmt.External.6a1e8a2c-9f0b-4d7e-8c55-0b5f6d1f7c11"
SHARED_KEYS = 4
UNLOCK_TOKEN_BYTES = 1300
_CHECKIN = "application/x-apple-aspen-mdm-checkin"
_REPORT = "application/x-apple-aspen-mdm; charset=UTF-8"

_SEQUENCE, _SET, _INTEGER, _OCTETS, _OID, _NULL = 0x30, 0x31, 0x02, 0x04, 0x06, b"\x05\x00"
_LONG_LENGTH = 0x80
_DATA = bytes.fromhex("2a864886f70d010701")
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_CONTENT_TYPE = bytes.fromhex("2a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
_SIGNING_TIME = bytes.fromhex("2a864886f70d010905")
_SHA256 = bytes.fromhex("608648016503040201")
_RSA = bytes.fromhex("2a864886f70d010101")


@dataclass(frozen=True, slots=True)
class Device:
    """One device: who it is, its certificate, and how it signs."""

    udid: str
    serial: str
    certificate: bytes
    key: int
    """Which of the shared keys is its own."""
    has_attributes: bool
    """Whether it signs attributes, as iOS does, or the body itself, as macOS does."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that still has to be signed."""

    device: Device
    message: dict[str, object]
    kind: str
    holds: bytes = b""

    @property
    def is_checkin(self) -> bool:
        return "MessageType" in self.message


class Fleet:
    """Makes devices, and signs what they send, on every core before the clock starts."""

    def __init__(self, pool: ProcessPoolExecutor, authority_folder: Path | None = None) -> None:
        """With a CA of its own, or with the one that is kept in the folder."""
        self._pool = pool
        self._authority_key, self._authority = (
            _new_authority() if authority_folder is None else _kept_authority(authority_folder)
        )
        self._keys = [rsa.generate_private_key(65537, 2048) for _ in range(SHARED_KEYS)]
        self._key_pems = tuple(_pem(key) for key in self._keys)

    @property
    def authority_pem(self) -> bytes:
        """For `ostiary init --trust-ca`."""
        return self._authority.public_bytes(serialization.Encoding.PEM)

    def push_certificate_pem(self) -> bytes:
        """A push certificate for TOPIC with its key, as `PUT /v1/pushcert` takes them."""
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.USER_ID, TOPIC),
                x509.NameAttribute(NameOID.COMMON_NAME, "APSP: bench"),
            ]
        )
        return self._issue(subject, self._keys[0]).public_bytes(serialization.Encoding.PEM) + _pem(
            self._keys[0]
        )

    def make_devices(self, count: int, *, has_attributes: bool | None = None) -> list[Device]:
        """New devices; every second one signs attributes unless told otherwise."""
        return [self._make_device(number, has_attributes) for number in range(count)]

    def _make_device(self, number: int, has_attributes: bool | None) -> Device:
        udid = str(uuid4()).upper()
        key = number % SHARED_KEYS
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, udid)])
        return Device(
            udid=udid,
            serial=f"B{secrets.token_hex(5).upper()}",
            certificate=self._issue(subject, self._keys[key]).public_bytes(
                serialization.Encoding.DER
            ),
            key=key,
            has_attributes=bool(number % 2) if has_attributes is None else has_attributes,
        )

    def sign(self, drafts: Sequence[Draft]) -> list[Exchange]:
        """The requests, in the same order."""
        step = max(1, min(200, len(drafts) // 4))
        pieces = [drafts[start : start + step] for start in range(0, len(drafts), step)]
        done = self._pool.map(sign_all, pieces, [self._key_pems] * len(pieces))
        return [exchange for piece in done for exchange in piece]

    def _issue(self, subject: x509.Name, key: rsa.RSAPrivateKey) -> x509.Certificate:
        now = _now()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self._authority_key, hashes.SHA256())
        )


def sign_all(drafts: Sequence[Draft], key_pems: tuple[bytes, ...]) -> list[Exchange]:
    """Signed requests, in the same order; runs in a process of the pool."""
    keys = _load_keys(key_pems)
    return [_signed(draft, keys[draft.device.key]) for draft in drafts]


def _signed(draft: Draft, key: rsa.RSAPrivateKey) -> Exchange:
    body = plistlib.dumps(draft.message)
    signature = sign_body(
        body, draft.device.certificate, key, attributes=draft.device.has_attributes
    )
    headers = {
        "Content-Type": _CHECKIN if draft.is_checkin else _REPORT,
        "Mdm-Signature": b64encode(signature).decode("ascii"),
        "User-Agent": "MDM/1.0",
    }
    request = render_request("PUT", "/mdm", body, headers)
    return Exchange(request=request, holds=draft.holds, kind=draft.kind)


def sign_body(
    body: bytes, certificate: bytes, key: rsa.RSAPrivateKey, *, attributes: bool
) -> bytes:
    """A detached CMS SignedData over `body`, with SHA-256, as devices send it. (check-in-and-commands.md 3.8)"""
    algorithm = _tlv(_SEQUENCE, _tlv(_OID, _SHA256) + _NULL)
    signed, included = body, b""
    if attributes:
        found = _attributes(hashlib.sha256(body).digest())
        signed, included = _tlv(_SET, found), _tlv(0xA0, found)
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    signer = _tlv(
        _SEQUENCE,
        _tlv(_INTEGER, b"\x01")
        + _issuer_and_serial(certificate)
        + algorithm
        + included
        + _tlv(_SEQUENCE, _tlv(_OID, _RSA) + _NULL)
        + _tlv(_OCTETS, signature),
    )
    body_of_message = _tlv(
        _SEQUENCE,
        _tlv(_INTEGER, b"\x01")
        + _tlv(_SET, algorithm)
        + _tlv(_SEQUENCE, _tlv(_OID, _DATA))
        + _tlv(0xA0, certificate)
        + _tlv(_SET, signer),
    )
    return _tlv(_SEQUENCE, _tlv(_OID, _SIGNED_DATA) + _tlv(0xA0, body_of_message))


def _attributes(digest: bytes) -> bytes:
    """Content type, signing time and message digest, in DER's order of a set."""
    moment = _now().strftime("%y%m%d%H%M%SZ").encode("ascii")
    values = (
        (_CONTENT_TYPE, _tlv(_OID, _DATA)),
        (_SIGNING_TIME, _tlv(0x17, moment)),
        (_MESSAGE_DIGEST, _tlv(_OCTETS, digest)),
    )
    return b"".join(
        sorted(_tlv(_SEQUENCE, _tlv(_OID, name) + _tlv(_SET, value)) for name, value in values)
    )


@cache
def _issuer_and_serial(certificate: bytes) -> bytes:
    parsed = x509.load_der_x509_certificate(certificate)
    serial = parsed.serial_number
    number = serial.to_bytes(serial.bit_length() // 8 + 1)
    return _tlv(_SEQUENCE, parsed.issuer.public_bytes() + _tlv(_INTEGER, number))


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < _LONG_LENGTH:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, _LONG_LENGTH | len(length))) + length + content


@cache
def _load_keys(pems: tuple[bytes, ...]) -> list[rsa.RSAPrivateKey]:
    keys = [serialization.load_pem_private_key(pem, None) for pem in pems]
    return [key for key in keys if isinstance(key, rsa.RSAPrivateKey)]


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _kept_authority(folder: Path) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """The CA in `ca.key` and `ca.pem`; a new one is put there if there is none."""
    key_file, certificate_file = folder / "ca.key", folder / "ca.pem"
    if not key_file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        key, certificate = _new_authority()
        key_file.touch(0o600)
        key_file.write_bytes(_pem(key))
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (key,) = _load_keys((key_file.read_bytes(),))
    return key, x509.load_pem_x509_certificate(certificate_file.read_bytes())


def _new_authority() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(65537, 2048)
    return key, _authority(key)


def _authority(key: rsa.RSAPrivateKey) -> x509.Certificate:
    now = _now()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bench device CA")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - nobody gives the bench a clock
