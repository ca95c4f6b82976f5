"""Signed messages (CMS SignedData): verifying the ones devices send, and making the few that we send."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from ostiary.errors import Refused, TooLarge
from ostiary.formats import der
from ostiary.formats.cms_known import KnownSigners
from ostiary.formats.cms_reader import (
    DATA,
    SIGNED_DATA,
    NotASignedMessage,
    SeveralSigners,
    SignerCertificateMissing,
    SignerInfo,
    read_parts,
)
from ostiary.formats.signing_keys import (
    UNREADABLE,
    AlgorithmNotAllowed,
    CertificateMalformed,
    PublicKeys,
    SignaturePublicKey,
    is_signature,
    public_key_of,
)

__all__ = [
    "AlgorithmNotAllowed",
    "CertificateMalformed",
    "DigestDoesNotMatch",
    "EmbeddedContentDiffers",
    "KnownSigners",
    "NotASignedMessage",
    "PublicKeys",
    "SeveralSigners",
    "SignatureDoesNotVerify",
    "SignedBy",
    "SignedMessage",
    "SignedMessageTooLarge",
    "SignerCertificateMissing",
    "SigningKey",
    "certificates_only",
    "read_embedded",
    "read_signed",
    "sign_embedded",
    "verify_detached",
]

SigningKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

DETACHED_LIMIT_BYTES: Final = 64 * 1024
EMBEDDED_LIMIT_BYTES: Final = 16 * 1024 * 1024


class SignedMessageTooLarge(TooLarge):
    """The signed message is larger than we read."""


class SignatureDoesNotVerify(Refused):
    """The signature was not made by the certificate's key over these bytes."""


class DigestDoesNotMatch(Refused):
    """The signature is about another body than this one."""


class EmbeddedContentDiffers(Refused):
    """The signed message carries a content of its own that differs from the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBy:
    """Proof that a body was signed with the key of `certificate`. Whether to trust that is another question."""

    certificate: bytes  # DER
    certificates: tuple[bytes, ...]  # all that came along, DER, the signer's among them
    signing_time: datetime | None
    digest_algorithm: str


@dataclass(slots=True, kw_only=True)
class SignedMessage:
    """A signed message that has been read and not verified: everything here is a mere claim until `verify`."""

    certificate: bytes  # the signer's, DER
    certificates: tuple[bytes, ...]
    signing_time: datetime | None
    digest_algorithm: str  # "sha1", "sha256", "sha384" or "sha512"
    content: bytes | None  # None: detached
    _signer: SignerInfo = field(repr=False)

    def verify(self, content: bytes, public_key: SignaturePublicKey | None = None) -> None:
        """Return if the signer signed `content`, and raise if not.

        `public_key` saves loading the certificate's key again; it must be the certificate's (see PublicKeys).

        Raises:
            EmbeddedContentDiffers, DigestDoesNotMatch, SignatureDoesNotVerify: it is no such signature.
            AlgorithmNotAllowed, CertificateMalformed: the key does not fit, or cannot be read.

        Source: check-in-and-commands.md 3.8, steps 4 and 5.
        """
        signer = self._signer
        if self.content is not None and self.content != content:
            raise EmbeddedContentDiffers
        signed = content
        if signer.attributes is not None:
            # Without this comparison one captured signature would fit every body.
            digest = hashlib.new(signer.digest, content, usedforsecurity=False).digest()
            if not hmac.compare_digest(digest, signer.message_digest or b""):
                raise DigestDoesNotMatch
            signed = signer.attributes
        key = public_key_of(self.certificate) if public_key is None else public_key
        if isinstance(key, rsa.RSAPublicKey) != (signer.key_kind == "rsa"):
            raise AlgorithmNotAllowed("the certificate's key is of another kind than the signature")
        if not is_signature(key, signer.signature, signed, signer.digest):
            raise SignatureDoesNotVerify


def read_signed(
    signature: bytes,
    *,
    allow_sha1: bool = True,
    limit_bytes: int = DETACHED_LIMIT_BYTES,
    known: KnownSigners | None = None,
) -> SignedMessage:
    """What a CMS SignedData claims, DER or BER; nothing is verified yet.

    So the hot path can look at the certificate, and at its caches, before it spends a verification. `known` spares it
    taking apart what the same signer has sent before.

    Raises:
        NotASignedMessage, SeveralSigners, SignerCertificateMissing, CertificateMalformed: malformed.
        AlgorithmNotAllowed: a digest or signature algorithm that is not accepted.
        SignedMessageTooLarge: beyond `limit_bytes`.

    Source: check-in-and-commands.md 3.8, steps 1 to 4.
    """
    if len(signature) > limit_bytes:
        raise SignedMessageTooLarge(size_bytes=len(signature), limit_bytes=limit_bytes)
    read = read_parts if known is None else known.read_parts
    parts = read(signature, allow_sha1=allow_sha1)
    signer = parts.signer
    return SignedMessage(
        certificate=signer.certificate,
        certificates=parts.certificates,
        signing_time=signer.signing_time,
        digest_algorithm=signer.digest,
        content=parts.content,
        _signer=signer,
    )


def verify_detached(
    signature: bytes, content: bytes, *, allow_sha1: bool = True, keys: PublicKeys | None = None
) -> SignedBy:
    """Proof of who signed `content`, as a device's `Mdm-Signature` says once its base64 is decoded.

    `keys` spares loading the same certificate's key on each request. Raises as `read_signed` and
    `SignedMessage.verify` do. The chain of the certificate is x509.verify_chain's business.
    """
    message = read_signed(signature, allow_sha1=allow_sha1)
    message.verify(content, keys.of(message.certificate) if keys is not None else None)
    return SignedBy(
        certificate=message.certificate,
        certificates=message.certificates,
        signing_time=message.signing_time,
        digest_algorithm=message.digest_algorithm,
    )


def read_embedded(p7: bytes, *, allow_sha1: bool = True) -> tuple[bytes, SignedMessage]:
    """The content inside a signed message and the message, not verified yet: call `verify(content)` on it.

    Raises:
        NotASignedMessage: also if there is no content inside. Otherwise as `read_signed`.
    """
    message = read_signed(p7, allow_sha1=allow_sha1, limit_bytes=EMBEDDED_LIMIT_BYTES)
    if message.content is None:
        raise NotASignedMessage("the signed message has no content inside")
    return message.content, message


def certificates_only(certs: Sequence[bytes]) -> bytes:
    """A SignedData that signs nothing and carries DER certificates, as SCEP answers and .p7b files have it."""
    for certificate in certs:
        if der.expect(certificate, 0, len(certificate), der.SEQUENCE).stop != len(certificate):
            raise CertificateMalformed
    version = der.encode_element(der.INTEGER, b"\x01")
    nothing = der.encode_element(der.SET, b"")
    content = der.encode_element(der.SEQUENCE, der.encode_element(der.OBJECT_IDENTIFIER, DATA))
    included = der.encode_element(0xA0, b"".join(sorted(certs)))  # DER sorts a set
    body = der.encode_element(der.SEQUENCE, version + nothing + content + included + nothing)
    kind = der.encode_element(der.OBJECT_IDENTIFIER, SIGNED_DATA)
    return der.encode_element(der.SEQUENCE, kind + der.encode_element(0xA0, body))


def sign_embedded(
    content: bytes, certificate: bytes, key: SigningKey, extra_certs: Sequence[bytes] = ()
) -> bytes:
    """`content` inside a DER SignedData, signed with SHA-256 by the `key` of the DER `certificate`.

    `extra_certs` are the intermediates that a reader needs, DER.

    Raises:
        CertificateMalformed: a certificate cannot be read, or does not fit.
    """
    try:
        builder = pkcs7.PKCS7SignatureBuilder(data=content).add_signer(
            x509.load_der_x509_certificate(certificate), key, hashes.SHA256()
        )
        for extra in extra_certs:
            builder = builder.add_certificate(x509.load_der_x509_certificate(extra))
        return builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])
    except UNREADABLE:
        raise CertificateMalformed from None
