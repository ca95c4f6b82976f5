"""Keys, certificates and signatures for tests of the formats, made by others: cryptography, asn1crypto and openssl."""

import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from asn1crypto import algos, cms, core, parser
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def rsa_key(which: int = 0) -> rsa.RSAPrivateKey:
    """The same key each time for the same number: making one is slow."""
    del which
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key(which: int = 0) -> ec.EllipticCurvePrivateKey:
    del which
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


def issue(
    name: str,
    issuer: Issued | None = None,
    *,
    key: Key | None = None,
    authority: bool = False,
    path_length: int | None = None,
    starts_at: datetime = NOW - timedelta(days=1),
    ends_at: datetime = NOW + timedelta(days=365),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    uid: str | None = None,
    serial: int | None = None,
) -> Issued:
    """A certificate by `issuer`, or by itself."""
    key = key or ec_key(hash(name))
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if uid is not None:
        names.append(x509.NameAttribute(NameOID.USER_ID, uid))
    subject = x509.Name(names)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(starts_at)
        .not_valid_after(ends_at)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if authority:
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=path_length), critical=True
        )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return Issued(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def openssl_sign(signers: Issued | Sequence[Issued], body: bytes, *options: str) -> bytes:
    """`openssl cms -sign` over `body`, DER. Detached unless the options say otherwise."""
    signers = [signers] if isinstance(signers, Issued) else signers
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "body").write_bytes(body)
        arguments: list[str] = []
        for number, signer in enumerate(signers):
            pem = at / f"{number}.pem"
            pem.write_bytes(
                signer.certificate.public_bytes(serialization.Encoding.PEM)
                + signer.key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            arguments += ["-signer", str(pem)]
        subprocess.run(
            [
                "openssl",
                "cms",
                "-sign",
                "-binary",
                "-in",
                "body",
                "-outform",
                "DER",
                "-out",
                "p7",
                *arguments,
                *options,
            ],
            cwd=at,
            check=True,
            capture_output=True,
        )
        return (at / "p7").read_bytes()


def openssl_verifies(message: bytes, body: bytes | None) -> bool:
    """Whether `openssl cms -verify` accepts the signature (the chain is not asked). None: embedded content."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "p7").write_bytes(message)
        content: list[str] = []
        if body is not None:
            (at / "body").write_bytes(body)
            content = ["-content", "body"]
        done = subprocess.run(
            [
                "openssl",
                "cms",
                "-verify",
                "-binary",
                "-noverify",
                "-inform",
                "DER",
                "-in",
                "p7",
                "-out",
                "content",
                *content,
            ],
            cwd=at,
            check=False,
            capture_output=True,
        )
        return done.returncode == 0


def to_indefinite(encoded: bytes) -> bytes:
    """The same BER value with indefinite lengths wherever BER allows them."""
    rewritten = b""
    while encoded:
        _, _, _, header, contents, trailer = parser.parse(encoded)
        if header[0] & 0x20:
            tag = header[:1]
            while tag[0] & 0x1F == 0x1F and (len(tag) == 1 or tag[-1] & 0x80):
                tag = header[: len(tag) + 1]
            rewritten += tag + b"\x80" + to_indefinite(contents) + b"\0\0"
        else:
            rewritten += header + contents
        encoded = encoded[len(header + contents + trailer) :]
    return rewritten


def to_definite(encoded: bytes) -> bytes:
    """The same BER value with the shortest definite lengths, by asn1crypto's parser instead of ours."""
    rewritten = b""
    while encoded:
        _, _, _, header, contents, trailer = parser.parse(encoded)
        encoded = encoded[len(header + contents + trailer) :]
        if header[0] & 0x20 and header[0] & 0x1F != 0x1F:
            with suppress(ValueError):  # what nobody reads need not be BER inside
                contents = to_definite(contents)
            header = header[:1] + core.OctetString(contents).dump()[1 : -len(contents) or None]
        rewritten += header + contents
    return rewritten


def sign_by_hand(
    signer: Issued,
    body: bytes,
    *,
    digest: str = "sha256",
    signing_time: datetime | None = None,
    content_types: Sequence[str] = ("data",),
    digests: Sequence[bytes] | None = None,
    extra_attributes: int = 0,
    tag_signed: int = 0x31,
    certificates: Sequence[bytes] | None = None,
) -> bytes:
    """A detached SignedData by asn1crypto, with signed attributes that may be wrong on purpose."""
    algorithm = getattr(hashes, digest.upper())()
    if digests is None:
        hashing = hashes.Hash(algorithm)
        hashing.update(body)
        digests = [hashing.finalize()]
    found: list[dict[str, object]] = []
    if content_types:
        found.append({"type": "content_type", "values": list(content_types)})
    if digests:
        found.append({"type": "message_digest", "values": list(digests)})
    if signing_time is not None:
        time = cms.Time({"utc_time": core.UTCTime(signing_time)})
        found.append({"type": "signing_time", "values": [time]})
    found.extend(
        {"type": f"1.2.3.{number}", "values": [core.Integer(number)]}
        for number in range(extra_attributes)
    )
    attributes = cms.CMSAttributes(found)
    signed = bytes([tag_signed]) + attributes.dump()[1:]
    if isinstance(signer.key, rsa.RSAPrivateKey):
        signature = signer.key.sign(signed, padding.PKCS1v15(), algorithm)
        scheme = "rsassa_pkcs1v15"
    else:
        signature = signer.key.sign(signed, ec.ECDSA(algorithm))
        scheme = f"{digest}_ecdsa"
    parsed = asn1_x509.Certificate.load(signer.der)
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
    included = [signer.der] if certificates is None else certificates
    body_of_message = cms.SignedData(
        {
            "version": "v1",
            "digest_algorithms": [algos.DigestAlgorithm({"algorithm": digest})],
            "encap_content_info": {"content_type": "data"},
            "certificates": [asn1_x509.Certificate.load(one) for one in included],
            "signer_infos": [info],
        }
    )
    message = cms.ContentInfo({"content_type": "signed_data", "content": body_of_message})
    encoded: bytes = message.dump()
    return encoded
