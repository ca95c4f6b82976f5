"""A SCEP client that shares no code with ours: asn1crypto builds the messages, openssl opens the answers."""

import hashlib
import subprocess
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from asn1crypto import algos, cms, core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import AttributeOID, NameOID

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
SCEP_ATTRIBUTES = "2.16.840.1.113733.1.9"


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The same key for the same name: making one is slow."""
    del name
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    del name
    return ec.generate_private_key(ec.SECP256R1())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def self_signed(key: Key, name: str = "requester") -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


def make_csr(
    key: Key,
    challenge: bytes | None,
    *,
    name: str = "a device",
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    if challenge is not None:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def openssl(*arguments: str, files: dict[str, bytes], out: str = "out") -> bytes:
    """What `openssl` writes to `out`, given these files. Raises if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        for name, contents in files.items():
            (Path(folder) / name).write_bytes(contents)
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
        return (Path(folder) / out).read_bytes()


def envelope(content: bytes, recipient: bytes, cipher: str = "-aes128", *options: str) -> bytes:
    """`openssl cms -encrypt` to a DER certificate."""
    return openssl(
        *("cms", "-encrypt", "-binary", cipher, "-in", "content", "-outform", "DER"),
        *("-out", "out", *options, "ca.pem"),
        files={"content": content, "ca.pem": pem(x509.load_der_x509_certificate(recipient))},
    )


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A CertRep, its signature verified by openssl against the CA."""

    status: str
    fail_info: str | None
    transaction_id: str
    recipient_nonce: bytes
    certificates: tuple[x509.Certificate, ...]


@dataclass(kw_only=True)
class Requester:
    """One device that asks: its key, and what it signs its messages with."""

    ca: bytes
    key: Key = field(default_factory=lambda: rsa_key("device"))
    signer_key: Key | None = None
    signer: x509.Certificate | None = None
    nonce: bytes = b"0123456789abcdef"
    transaction_id: str = "TX-1"

    def __post_init__(self) -> None:
        self.signer_key = self.signer_key or self.key
        self.signer = self.signer or self_signed(self.signer_key)

    def request(
        self,
        challenge: bytes | None,
        *,
        message_type: str = "19",
        csr: bytes | None = None,
        cipher: str = "-aes128",
        digest: str = "sha256",
        enveloped: bytes | None = None,
        leave_out: tuple[str, ...] = (),
    ) -> bytes:
        content = enveloped or envelope(csr or make_csr(self.key, challenge), self.ca, cipher)
        return self.sign(content, message_type=message_type, digest=digest, leave_out=leave_out)

    def sign(
        self,
        content: bytes,
        *,
        message_type: str = "19",
        digest: str = "sha256",
        leave_out: tuple[str, ...] = (),
    ) -> bytes:
        assert self.signer is not None
        found: list[dict[str, object]] = [
            {"type": "content_type", "values": ["data"]},
            {"type": "message_digest", "values": [hashlib.new(digest, content).digest()]},
        ]
        scep: dict[str, object] = {
            "2": core.PrintableString(message_type),
            "5": core.OctetString(self.nonce),
            "7": core.PrintableString(self.transaction_id),
        }
        found += [
            {"type": f"{SCEP_ATTRIBUTES}.{arc}", "values": [value]}
            for arc, value in scep.items()
            if arc not in leave_out
        ]
        attributes = cms.CMSAttributes(found)
        algorithm = getattr(hashes, digest.upper())()
        signed = b"\x31" + attributes.dump()[1:]
        if isinstance(self.signer_key, rsa.RSAPrivateKey):
            signature = self.signer_key.sign(signed, padding.PKCS1v15(), algorithm)
            scheme = "rsassa_pkcs1v15"
        else:
            assert isinstance(self.signer_key, ec.EllipticCurvePrivateKey)
            signature = self.signer_key.sign(signed, ec.ECDSA(algorithm))
            scheme = f"{digest}_ecdsa"
        parsed = asn1_x509.Certificate.load(der(self.signer))
        info = cms.SignerInfo(
            {
                "version": "v1",
                "sid": cms.SignerIdentifier(
                    {
                        "issuer_and_serial_number": cms.IssuerAndSerialNumber(
                            {"issuer": parsed.issuer, "serial_number": parsed.serial_number}
                        )
                    }
                ),
                "digest_algorithm": algos.DigestAlgorithm({"algorithm": digest}),
                "signed_attrs": attributes,
                "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": scheme}),
                "signature": signature,
            }
        )
        body = cms.SignedData(
            {
                "version": "v1",
                "digest_algorithms": [algos.DigestAlgorithm({"algorithm": digest})],
                "encap_content_info": {"content_type": "data", "content": content},
                "certificates": [parsed],
                "signer_infos": [info],
            }
        )
        encoded: bytes = cms.ContentInfo({"content_type": "signed_data", "content": body}).dump()
        return encoded

    def open(self, reply: bytes) -> Reply:
        """The reply, verified and decrypted by openssl."""
        info = cms.ContentInfo.load(reply)["content"]["signer_infos"][0]
        by_type = {one["type"].native: one["values"][0].native for one in info["signed_attrs"]}
        status = by_type[f"{SCEP_ATTRIBUTES}.3"]
        assert by_type[f"{SCEP_ATTRIBUTES}.2"] == "3"
        return Reply(
            status=status,
            fail_info=by_type.get(f"{SCEP_ATTRIBUTES}.4"),
            transaction_id=by_type[f"{SCEP_ATTRIBUTES}.7"],
            recipient_nonce=by_type[f"{SCEP_ATTRIBUTES}.6"],
            certificates=self._certificates(reply) if status == "0" else self._none(reply),
        )

    def _certificates(self, reply: bytes) -> tuple[x509.Certificate, ...]:
        assert self.signer is not None
        assert self.signer_key is not None
        content = self._verified(reply)
        plain = openssl(
            *("cms", "-decrypt", "-binary", "-inform", "DER", "-in", "content"),
            *("-recip", "own.pem", "-inkey", "own.key", "-out", "out"),
            files={
                "content": content,
                "own.pem": pem(self.signer),
                "own.key": key_pem(self.signer_key),
            },
        )
        found = openssl(
            *("pkcs7", "-inform", "DER", "-in", "p7", "-print_certs", "-out", "out"),
            files={"p7": plain},
        )
        return tuple(x509.load_pem_x509_certificates(found))

    def _none(self, reply: bytes) -> tuple[x509.Certificate, ...]:
        assert self._verified(reply) == b""
        return ()

    def _verified(self, reply: bytes) -> bytes:
        """What `openssl cms -verify` finds inside, the signer's chain checked against the CA."""
        moment = str(int(NOW.timestamp()))
        return openssl(
            *("cms", "-verify", "-binary", "-inform", "DER", "-in", "reply", "-CAfile", "ca.pem"),
            *("-purpose", "any", "-attime", moment, "-out", "out"),
            files={
                "reply": reply,
                "ca.pem": pem(x509.load_der_x509_certificate(self.ca)),
            },
        )
