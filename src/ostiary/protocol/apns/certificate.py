"""Push certificates: what Apple's portal gives back, read and checked before it may serve a topic."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from ostiary.errors import Malformed, Refused, TooLarge
from ostiary.protocol.mdm.checkin import LONGEST_TOPIC, TOPIC_PREFIX, Topic
from ostiary.secret import Secret

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

LARGEST_BUNDLE: Final = 64 * 1024
_MOST_BLOCKS: Final = 16
_SHORTEST_RSA: Final = 2048

_BEGIN: Final = b"-----BEGIN "
_TOPIC_TEXT: Final = re.compile(re.escape(TOPIC_PREFIX) + r"[\x21-\x7e]+")
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    Warning,  # cryptography warns of oddities; where warnings are errors they are refusals
)


class PushBundleTooLarge(TooLarge):
    """The file is larger than any push certificate with its chain."""


class PushBundleUnreadable(Malformed):
    """The file holds no push certificate that can be read."""

    hint = (
        "Give the PEM file that Apple's push certificates portal gave you;"
        " and its key with --key FILE, if `ostiary apns csr` did not make it."
    )


class PushKeyEncrypted(Refused):
    """The private key is protected by a passphrase."""

    hint = "Write it without one (openssl pkey -in key.pem -out plain.pem) and upload that; it is sealed here."


class PushKeyMissing(Refused):
    """There is no private key for this certificate, neither in the file nor waiting here."""

    hint = (
        "Give the key with --key FILE or in the certificate's own file,"
        " or ask for a request here first: ostiary apns csr."
    )


class PushKeyMismatch(Refused):
    """The private key is not the certificate's."""

    hint = "Upload the certificate that was issued for this key's request."


class PushKeyUnusable(Refused):
    """The private key is of a kind or size that APNs does not take."""

    hint = "Apple issues push certificates for RSA keys of 2048 bits."


class PushTopicUnusable(Refused):
    """The certificate names no MDM push topic: its subject needs one UID that begins com.apple.mgmt. and goes on."""

    hint = "This is not a certificate of Apple's push certificates portal; an app's push certificate does not serve MDM."


class PushCertificateExpired(Refused):
    """The push certificate has expired."""

    hint = "Renew it in Apple's portal, with the same Apple Account and the button Renew."


class PushCertificateNotYetValid(Refused):
    """The push certificate is not valid yet."""

    hint = "Look at this server's clock."


@dataclass(frozen=True, slots=True, kw_only=True)
class PushBundle:
    """The blocks of an uploaded file: certificates as they came, and the key if one was among them."""

    certificates: tuple[x509.Certificate, ...]
    key: PrivateKey | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PushIdentity:
    """A certificate and key that fit, for the topic in the certificate."""

    topic: Topic
    chain_pem: bytes
    """Leaf first."""
    key_pem: Secret
    not_before: datetime
    not_after: datetime


def decode_push_bundle(pem: bytes) -> PushBundle:
    """The certificates and the key of a PEM file, in whatever order they stand in it.

    Raises:
        PushBundleTooLarge: more than any such file has.
        PushBundleUnreadable: no certificate, several keys, or a block that cannot be read.
        PushKeyEncrypted: the key needs a passphrase.
        PushKeyUnusable: another kind of key than RSA or ECDSA.
    """
    if len(pem) > LARGEST_BUNDLE:
        raise PushBundleTooLarge(size=len(pem), limit=LARGEST_BUNDLE)
    certificates: list[x509.Certificate] = []
    keys: list[PrivateKey] = []
    for label, block in _split(pem):
        if label.endswith(b"PRIVATE KEY"):
            keys.append(load_private_key(Secret(block)))
        elif label == b"CERTIFICATE":
            certificates.append(_load_certificate(block))
    if len(keys) > 1:
        raise PushBundleUnreadable("the file holds several private keys")
    return PushBundle(certificates=tuple(certificates), key=keys[0] if keys else None)


def load_private_key(pem: Secret) -> PrivateKey:
    """An unencrypted private key. Raises `PushKeyEncrypted`, `PushKeyUnusable` or `PushBundleUnreadable`."""
    text = pem.reveal()
    if b"ENCRYPTED" in text:
        raise PushKeyEncrypted
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except _UNREADABLE:
        raise PushBundleUnreadable("the private key cannot be read") from None
    match key:
        case rsa.RSAPrivateKey() if key.key_size >= _SHORTEST_RSA:
            return key
        case ec.EllipticCurvePrivateKey():
            return key
        case _:
            raise PushKeyUnusable


def encode_private_key(key: PrivateKey) -> Secret:
    """The key as PKCS #8 in PEM, as libcurl and we keep it."""
    return Secret(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def public_key_id(certificate_or_key: x509.Certificate | PrivateKey) -> str:
    """Lower-case hex SHA-256 of the SubjectPublicKeyInfo: equal for a certificate and the key that fits it."""
    public = certificate_or_key.public_key()
    spki = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return sha256(spki).hexdigest()


def leaves(bundle: PushBundle) -> tuple[x509.Certificate, ...]:
    """The certificates of a bundle that are no CA's.

    Raises:
        PushBundleUnreadable: there is none.
    """
    found = tuple(one for one in bundle.certificates if not _is_ca(one))
    if not found:
        raise PushBundleUnreadable("the file holds no certificate of a push topic")
    return found


def verify_push_identity(bundle: PushBundle, key: PrivateKey, now: datetime) -> PushIdentity:
    """The certificate of `bundle` that `key` fits, checked to be usable `now`.

    CA certificates of the bundle follow it in the chain; whatever else came along is left out.

    Raises:
        PushBundleUnreadable, PushKeyMismatch, PushTopicUnusable, PushCertificateExpired,
        PushCertificateNotYetValid: what it says; nothing was stored.

    Source: check-in-and-commands.md 5.6, AP-10; users.md 5.4, 34.
    """
    key_id = public_key_id(key)
    fitting = [one for one in leaves(bundle) if public_key_id(one) == key_id]
    if not fitting:
        raise PushKeyMismatch
    leaf = max(fitting, key=lambda one: one.not_valid_after_utc)
    topic = _topic_of(leaf)
    if now >= leaf.not_valid_after_utc:
        raise PushCertificateExpired(topic=topic, not_after=leaf.not_valid_after_utc.isoformat())
    if now < leaf.not_valid_before_utc:
        raise PushCertificateNotYetValid(
            topic=topic, not_before=leaf.not_valid_before_utc.isoformat()
        )
    chain = (leaf, *(one for one in bundle.certificates if _is_ca(one)))
    return PushIdentity(
        topic=topic,
        chain_pem=_encode_chain(chain),
        key_pem=encode_private_key(key),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def _split(pem: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Label and text of each block; what stands between blocks is nobody's business."""
    parts = pem.split(_BEGIN)[1:]
    if len(parts) > _MOST_BLOCKS:
        raise PushBundleTooLarge(blocks=len(parts), limit=_MOST_BLOCKS)
    for part in parts:
        label, _, rest = part.partition(b"-----")
        end = b"-----END " + label + b"-----"
        body, found, _ = rest.partition(end)
        if not found:
            raise PushBundleUnreadable("a block of the file has no end")
        yield label, _BEGIN + label + b"-----" + body + end + b"\n"


def _topic_of(leaf: x509.Certificate) -> Topic:
    """The UID of the subject; its dot after the prefix counts. (AP-10)"""
    values = [a.value for a in leaf.subject.get_attributes_for_oid(NameOID.USER_ID)]
    if len(values) != 1 or not isinstance(values[0], str):
        raise PushTopicUnusable(uids=len(values))
    if len(values[0]) > LONGEST_TOPIC or not _TOPIC_TEXT.fullmatch(values[0]):
        raise PushTopicUnusable
    return Topic(values[0])


def _load_certificate(pem: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        # Parsed lazily: what cannot be read shall show here, not later.
        certificate.public_key()
        _ = certificate.subject, certificate.extensions
    except _UNREADABLE:
        raise PushBundleUnreadable("a certificate in the file cannot be read") from None
    return certificate


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _encode_chain(chain: Sequence[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)
