"""What a CMS SignedData says, taken apart within bounds. Nothing is verified here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

from cryptography import x509

from ostiary.errors import Malformed
from ostiary.formats import der
from ostiary.formats.der import Element, IndefiniteLength, NotDer, children, expect, read_element
from ostiary.formats.signing_keys import UNREADABLE, AlgorithmNotAllowed, CertificateMalformed

SIGNED_DATA: Final = bytes.fromhex("2a864886f70d010702")
DATA: Final = bytes.fromhex("2a864886f70d010701")
_CONTENT_TYPE: Final = bytes.fromhex("2a864886f70d010903")
_MESSAGE_DIGEST: Final = bytes.fromhex("2a864886f70d010904")
_SIGNING_TIME: Final = bytes.fromhex("2a864886f70d010905")

_DIGESTS: Final[Mapping[bytes, str]] = {
    bytes.fromhex("2b0e03021a"): "sha1",
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
}
_SIGNATURES: Final[
    Mapping[bytes, tuple[str, str | None]]
] = {  # kind of key, and the digest if the name says it
    bytes.fromhex("2a864886f70d010101"): ("rsa", None),
    bytes.fromhex("2a864886f70d010105"): ("rsa", "sha1"),
    bytes.fromhex("2a864886f70d01010b"): ("rsa", "sha256"),
    bytes.fromhex("2a864886f70d01010c"): ("rsa", "sha384"),
    bytes.fromhex("2a864886f70d01010d"): ("rsa", "sha512"),
    bytes.fromhex("2a8648ce3d0201"): ("ec", None),
    bytes.fromhex("2a8648ce3d0401"): ("ec", "sha1"),
    bytes.fromhex("2a8648ce3d040302"): ("ec", "sha256"),
    bytes.fromhex("2a8648ce3d040303"): ("ec", "sha384"),
    bytes.fromhex("2a8648ce3d040304"): ("ec", "sha512"),
}

_CERTIFICATES: Final = 0xA0  # in SignedData
_CRLS: Final = 0xA1
_CONTENT: Final = 0xA0  # in EncapsulatedContentInfo
_KEY_IDENTIFIER: Final = 0x80  # in SignerIdentifier
_SIGNED_ATTRIBUTES: Final = 0xA0  # in SignerInfo
_UNSIGNED_ATTRIBUTES: Final = 0xA1
_VERSION: Final = 0xA0  # in TBSCertificate
_MOMENT_BYTES: Final = len("20300131120000Z")
_CONSTRUCTED_OCTETS: Final = der.OCTET_STRING | der.CONSTRUCTED

_MOST_CERTIFICATES: Final = 16
_MOST_ATTRIBUTES: Final = 32
_MOST_CHUNKS: Final = 65_536  # openssl streams content in pieces of a few kilobytes
_MOST_ELEMENTS: Final = 2 * _MOST_CHUNKS


class NotASignedMessage(Malformed):
    """The bytes are not one CMS signed message."""


class SeveralSigners(Malformed):
    """The signed message has several signers, or none."""


class SignerCertificateMissing(Malformed):
    """The signed message does not contain its signer's certificate."""


class Leaves(NamedTuple):
    """Where in a message the values stand that are other ones in each message of a signer; None: there is none."""

    signature: Element
    message_digest: Element | None
    signing_time: Element | None
    attributes: Element | None  # around the digest and the time


@dataclass(slots=True, kw_only=True)
class SignerInfo:
    """How the one signer signed."""

    certificate: bytes
    digest: str  # a key of signing_keys.HASHES
    key_kind: str  # "rsa" or "ec"
    signature: bytes
    attributes: bytes | None  # as a SET, the bytes that were signed; None: the content itself was
    message_digest: bytes | None
    signing_time: datetime | None
    leaves: Leaves | None  # None: not in the message itself, whose lengths had to be written anew


@dataclass(slots=True, kw_only=True)
class Parts:
    """A SignedData with one signer, taken apart."""

    certificates: tuple[bytes, ...]
    content: bytes | None  # None: detached
    signer: SignerInfo


def read_parts(message: bytes, *, allow_sha1: bool) -> Parts:
    """The parts of a DER or BER SignedData.

    Raises:
        NotASignedMessage, SeveralSigners, SignerCertificateMissing: the structure is wrong.
        CertificateMalformed: an included certificate cannot be read.
        AlgorithmNotAllowed: digest or signature algorithm outside of the accepted ones.

    Source: check-in-and-commands.md 3.8, steps 1 to 4.
    """
    try:
        try:
            return _signed_data(message, allow_sha1=allow_sha1)
        except IndefiniteLength:
            rewritten = der.to_definite(message, max_elements=_MOST_ELEMENTS)
            parts = _signed_data(rewritten, allow_sha1=allow_sha1)
            parts.signer.leaves = None
            return parts
    except NotDer as error:
        raise NotASignedMessage(error.detail) from None


def _signed_data(message: bytes, *, allow_sha1: bool) -> Parts:
    outer = expect(message, 0, len(message), der.SEQUENCE)
    kind = expect(message, outer.start, outer.stop, der.OBJECT_IDENTIFIER)
    wrapper = expect(message, kind.stop, outer.stop, _CONTENT)
    if message[kind.start : kind.stop] != SIGNED_DATA:
        raise NotASignedMessage("the message is not of type signedData")
    body = expect(message, wrapper.start, wrapper.stop, der.SEQUENCE)
    if not len(message) == outer.stop == wrapper.stop == body.stop:
        raise NotASignedMessage("bytes follow the structure")
    fields = children(message, body.start, body.stop, at_most=6)
    tags = [field.tag for field in fields]
    if tags[:3] != [der.INTEGER, der.SET, der.SEQUENCE] or tags[-1] != der.SET:
        raise NotASignedMessage("the signed data has other fields than it must have")
    if tags[3:-1] not in ([_CERTIFICATES], [_CERTIFICATES, _CRLS]):
        raise SignerCertificateMissing
    certificates = _certificates(message, fields[3])
    infos = children(message, fields[-1].start, fields[-1].stop, at_most=_MOST_CERTIFICATES)
    if len(infos) != 1:
        raise SeveralSigners(signers=len(infos))
    return Parts(
        certificates=certificates,
        content=_content(message, fields[2]),
        signer=_signer(message, infos[0], certificates, allow_sha1=allow_sha1),
    )


def _certificates(message: bytes, field: Element) -> tuple[bytes, ...]:
    found = children(message, field.start, field.stop, at_most=_MOST_CERTIFICATES)
    # Attribute certificates and other kinds carry tags of their own, and nothing for us.
    return tuple([message[one.begin : one.stop] for one in found if one.tag == der.SEQUENCE])


def _content(message: bytes, field: Element) -> bytes | None:
    kind = expect(message, field.start, field.stop, der.OBJECT_IDENTIFIER)
    if message[kind.start : kind.stop] != DATA:
        raise NotASignedMessage("the content is not of type data")
    if kind.stop == field.stop:
        return None
    wrapper = expect(message, kind.stop, field.stop, _CONTENT)
    octets = read_element(message, wrapper.start, wrapper.stop)
    if not field.stop == wrapper.stop == octets.stop:
        raise NotASignedMessage("bytes follow the content")
    return _octets(message, octets)


def _octets(message: bytes, field: Element) -> bytes:
    """The contents of an OCTET STRING, which BER allows in pieces."""
    if field.tag == der.OCTET_STRING:
        return message[field.start : field.stop]
    if field.tag != _CONSTRUCTED_OCTETS:
        raise NotASignedMessage("an octet string is of another type")
    pieces = children(message, field.start, field.stop, at_most=_MOST_CHUNKS)
    if any(piece.tag != der.OCTET_STRING for piece in pieces):
        raise NotASignedMessage("an octet string has pieces of another type")
    return b"".join([message[piece.start : piece.stop] for piece in pieces])


def _signer(
    message: bytes, info: Element, certificates: Sequence[bytes], *, allow_sha1: bool
) -> SignerInfo:
    if info.tag != der.SEQUENCE:
        raise NotASignedMessage("the signer is not a sequence")
    fields = children(message, info.start, info.stop, at_most=7)
    if fields and fields[-1].tag == _UNSIGNED_ATTRIBUTES:
        fields.pop()
    attributes = fields.pop(3) if len(fields) > 3 and fields[3].tag == _SIGNED_ATTRIBUTES else None  # noqa: PLR2004  # the fourth field
    if len(fields) != 5:  # noqa: PLR2004  # version, identifier, digest, algorithm, signature
        raise NotASignedMessage("the signer has other fields than it must have")
    version, identifier, digest_field, algorithm_field, signature = fields
    if version.tag != der.INTEGER:
        raise NotASignedMessage("the signer's version is not an integer")
    digest = _DIGESTS.get(_algorithm(message, digest_field))
    if digest is None or (digest == "sha1" and not allow_sha1):
        raise AlgorithmNotAllowed("the digest algorithm is not accepted")
    key_kind, named_digest = _SIGNATURES.get(_algorithm(message, algorithm_field), ("", None))
    if not key_kind or named_digest not in (None, digest):
        raise AlgorithmNotAllowed("the signature algorithm is not accepted")
    signer = SignerInfo(
        certificate=_signer_certificate(message, identifier, certificates),
        digest=digest,
        key_kind=key_kind,
        signature=_octets(message, signature),
        attributes=None,
        message_digest=None,
        signing_time=None,
        leaves=Leaves(signature, None, None, None),
    )
    if attributes is not None:
        _read_attributes(message, attributes, signer)
    return signer


def _algorithm(message: bytes, field: Element) -> bytes:
    if field.tag != der.SEQUENCE:
        raise NotASignedMessage("an algorithm is not a sequence")
    name = expect(message, field.start, field.stop, der.OBJECT_IDENTIFIER)
    # What we accept has no parameters that mean anything: NULL, or a curve that the certificate names, too.
    if name.stop != field.stop and read_element(message, name.stop, field.stop).stop != field.stop:
        raise NotASignedMessage("bytes follow an algorithm")
    return message[name.start : name.stop]


def _signer_certificate(
    message: bytes, identifier: Element, certificates: Sequence[bytes]
) -> bytes:
    wanted = message[identifier.start : identifier.stop]
    name: Callable[[bytes], bytes | None]
    if identifier.tag == der.SEQUENCE:
        name = _issuer_and_serial
    elif identifier.tag == _KEY_IDENTIFIER:
        name = _key_identifier
    else:
        raise NotASignedMessage("the signer's identifier is of an unknown kind")
    for certificate in certificates:
        if name(certificate) == wanted:
            return certificate
    raise SignerCertificateMissing


@lru_cache(maxsize=256)
def _issuer_and_serial(certificate: bytes) -> bytes:
    """Issuer and serial of a certificate, encoded as a signer names them; remembered for authorities and small fleets."""
    try:
        outer = expect(certificate, 0, len(certificate), der.SEQUENCE)
        body = expect(certificate, outer.start, outer.stop, der.SEQUENCE)
        serial = read_element(certificate, body.start, body.stop)
        if serial.tag == _VERSION:
            serial = read_element(certificate, serial.stop, body.stop)
        algorithm = read_element(certificate, serial.stop, body.stop)
        issuer = read_element(certificate, algorithm.stop, body.stop)
    except NotDer:
        raise CertificateMalformed from None
    return certificate[issuer.begin : issuer.stop] + certificate[serial.begin : serial.stop]


def _key_identifier(certificate: bytes) -> bytes | None:
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        return extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None
    except UNREADABLE:
        raise CertificateMalformed from None


def _read_attributes(message: bytes, field: Element, signer: SignerInfo) -> None:
    """Fill in what the signed attributes say: exactly one content type and one digest, at most one time."""
    found: dict[bytes, Element] = {}
    for attribute in children(message, field.start, field.stop, at_most=_MOST_ATTRIBUTES):
        if attribute.tag != der.SEQUENCE:
            raise NotASignedMessage("a signed attribute is not a sequence")
        name = expect(message, attribute.start, attribute.stop, der.OBJECT_IDENTIFIER)
        values = expect(message, name.stop, attribute.stop, der.SET)
        kind = message[name.start : name.stop]
        if kind in found or values.stop != attribute.stop:
            raise NotASignedMessage("a signed attribute is repeated or has no set of values")
        found[kind] = values
    content_type = _single(message, found.get(_CONTENT_TYPE), der.OBJECT_IDENTIFIER)
    if message[content_type.start : content_type.stop] != DATA:
        raise NotASignedMessage("the signed content type is not data")
    digest = _single(message, found.get(_MESSAGE_DIGEST), der.OCTET_STRING)
    signer.message_digest = message[digest.start : digest.stop]
    time: Element | None = None
    if (times := found.get(_SIGNING_TIME)) is not None:
        time = _single(message, times, None)
        signer.signing_time = read_moment(message, time)
    signer.attributes = as_signed(message, field)
    if signer.leaves is not None:
        signer.leaves = Leaves(signer.leaves.signature, digest, time, field)


def as_signed(message: bytes, attributes: Element) -> bytes:
    """The bytes that a signature over attributes covers.

    Sent under an implicit [0], signed as a SET: only the first byte differs, and the order stays the sender's, as openssl
    has it. (RFC 5652 5.4)
    """
    return b"\x31" + message[attributes.begin + 1 : attributes.stop]


def _single(message: bytes, values: Element | None, tag: int | None) -> Element:
    if values is None:
        raise NotASignedMessage("a signed attribute that must be there is missing")
    value = read_element(message, values.start, values.stop)
    if value.stop != values.stop or (tag is not None and value.tag != tag):
        raise NotASignedMessage("a signed attribute has several values, or one of another type")
    return value


def read_moment(message: bytes, value: Element) -> datetime:
    """A UTCTime or GeneralizedTime to the second, in UTC. (RFC 5652 11.3)"""
    digits = message[value.start : value.stop]
    if value.tag == der.UTC_TIME:
        digits = (b"19" if digits >= b"50" else b"20") + digits
    elif value.tag != der.GENERALIZED_TIME:
        digits = b""
    if len(digits) != _MOMENT_BYTES or digits[-1:] != b"Z" or not digits[:-1].isdigit():
        raise NotASignedMessage("the signing time is not a moment")
    text = digits.decode("ascii")
    try:
        return datetime.fromisoformat(f"{text[:8]}T{text[8:]}")
    except ValueError:
        raise NotASignedMessage("the signing time is not a moment") from None
