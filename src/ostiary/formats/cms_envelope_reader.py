"""What a CMS envelope says, taken apart within bounds: for whom it is, and what it hides. Nothing is opened here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ostiary.errors import Malformed
from ostiary.formats import der
from ostiary.formats.der import Element, NotDer, children, expect
from ostiary.formats.encrypted_content import (
    CBC_BY_IDENTIFIER,
    GCM_KEY_BYTES,
    SHORTEST_TAG,
    CbcContent,
    GcmContent,
)
from ostiary.formats.key_transport import KeyTransport, decode_key_transport

LIMIT_BYTES: Final = 64 * 1024
ENVELOPED_DATA: Final = bytes.fromhex("2a864886f70d010703")
AUTH_ENVELOPED_DATA: Final = bytes.fromhex("2a864886f70d0109100117")

Content: TypeAlias = CbcContent | GcmContent

_MOST_RECIPIENTS: Final = 32
_MOST_ATTRIBUTES: Final = 32
_MOST_PIECES: Final = 4096
_ORIGINATOR: Final = 0xA0
_RECIPIENTS: Final = frozenset(
    {der.SEQUENCE, 0xA1, 0xA2, 0xA3, 0xA4}
)  # key transport, and four other ways
_KEY_IDENTIFIER: Final = 0x80  # in RecipientIdentifier
_IMPLICIT_OCTETS: Final = 0x80
_ATTRIBUTES: Final = 0xA1  # unprotected in EnvelopedData, authenticated in AuthEnvelopedData
_UNAUTHENTICATED: Final = 0xA2
_TAG_BYTES: Final = range(SHORTEST_TAG, 16 + 1)
_NONCE_BYTES: Final = range(8, 128 + 1)  # what the library computes; everybody uses 12


class EnvelopeUnreadable(Malformed):
    """The bytes are not a CMS envelope that we can read."""

    hint = "Keep the envelope as it came: a later version may read it."


class CipherNotKnown(EnvelopeUnreadable):
    """The envelope uses a cipher that we do not speak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One RSA key that the envelope was made for, named in one of two ways."""

    issuer_and_serial: bytes | None
    """DER of the issuer's name and of the serial number, one after the other."""
    serial: int | None
    key_identifier: bytes | None
    transport: KeyTransport | None
    """None: a way of encrypting keys that we do not speak."""
    encrypted_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An EnvelopedData or AuthEnvelopedData, still closed."""

    recipients: tuple[Recipient, ...]
    content: Content


def read_envelope(message: bytes) -> Envelope:
    """The envelope in `message`, DER or BER, at most 64 KiB.

    Recipients by other ways than RSA key transport are left out: they are no business of ours.

    Raises:
        EnvelopeUnreadable: malformed, too large, or of another type.
        CipherNotKnown: a kind of EnvelopeUnreadable; the content's cipher is none of ours.

    Source: RFC 5652 6.1; RFC 5083 2.1; escrowed-secrets.md 4.3 (CMS decryption).
    """
    if len(message) > LIMIT_BYTES:
        raise EnvelopeUnreadable("the envelope is larger than we read", size_bytes=len(message))
    try:
        return _envelope(der.to_definite(message))
    except NotDer as error:
        raise EnvelopeUnreadable(error.detail) from None


def _envelope(message: bytes) -> Envelope:
    outer = expect(message, 0, len(message), der.SEQUENCE)
    kind = expect(message, outer.start, outer.stop, der.OBJECT_IDENTIFIER)
    wrapper = expect(message, kind.stop, outer.stop, 0xA0)
    body = expect(message, wrapper.start, wrapper.stop, der.SEQUENCE)
    if not outer.stop == wrapper.stop == body.stop:
        raise NotDer("bytes follow the envelope")
    fields = children(message, body.start, body.stop, at_most=7)
    if len(fields) > 1 and fields[1].tag == _ORIGINATOR:
        del fields[1]
    if [one.tag for one in fields[:3]] != [der.INTEGER, der.SET, der.SEQUENCE]:
        raise NotDer("the envelope has other fields than it must have")
    name = _contents(message, kind)
    if name not in _CONTENT_BY_KIND:
        raise EnvelopeUnreadable("the message is of another type than an envelope")
    return Envelope(
        content=_CONTENT_BY_KIND[name](message, fields[2], fields[3:]),
        recipients=tuple(_recipients(message, fields[1])),
    )


def _cbc(message: bytes, encrypted: Element, rest: Sequence[Element]) -> CbcContent:
    if [one.tag for one in rest] not in ([], [_ATTRIBUTES]):
        raise NotDer("the envelope has other fields than it must have")
    name, parameters, ciphertext = _encrypted(message, encrypted)
    cipher = CBC_BY_IDENTIFIER.get(name)
    if cipher is None:
        raise CipherNotKnown(cipher=name.hex())
    iv = _contents(message, expect(message, *parameters, der.OCTET_STRING))
    if len(iv) != cipher.block_bytes or not ciphertext or len(ciphertext) % cipher.block_bytes:
        raise NotDer("the encrypted content has an impossible length")
    return CbcContent(cipher=cipher, iv=iv, ciphertext=ciphertext)


def _gcm(message: bytes, encrypted: Element, rest: Sequence[Element]) -> GcmContent:
    """The parts of an AuthEnvelopedData; the tag's own length counts, not what the parameters say of it."""
    left = list(rest)
    associated = b""
    if left and left[0].tag == _ATTRIBUTES:
        associated = _set_of(message, left.pop(0))
    if left and left[-1].tag == _UNAUTHENTICATED:
        left.pop()
    if len(left) != 1:
        raise NotDer("the envelope has other fields than it must have")
    name, parameters, ciphertext = _encrypted(message, encrypted)
    key_bytes = GCM_KEY_BYTES.get(name)
    if key_bytes is None:
        raise CipherNotKnown(cipher=name.hex())
    inside = expect(message, *parameters, der.SEQUENCE)
    nonce = _contents(message, expect(message, inside.start, inside.stop, der.OCTET_STRING))
    tag = _octets(message, left[0], der.OCTET_STRING)
    if len(nonce) not in _NONCE_BYTES or len(tag) not in _TAG_BYTES:
        raise NotDer("the encrypted content has an impossible nonce or tag")
    return GcmContent(
        key_bytes=key_bytes, nonce=nonce, tag=tag, associated=associated, ciphertext=ciphertext
    )


_CONTENT_BY_KIND: Final[Mapping[bytes, Callable[[bytes, Element, Sequence[Element]], Content]]] = {
    ENVELOPED_DATA: _cbc,
    AUTH_ENVELOPED_DATA: _gcm,
}


def _encrypted(message: bytes, field: Element) -> tuple[bytes, tuple[int, int], bytes]:
    """An EncryptedContentInfo: the cipher's name, where its parameters begin and end, the ciphertext."""
    parts = children(message, field.start, field.stop, at_most=3)
    if [one.tag for one in parts[:2]] != [der.OBJECT_IDENTIFIER, der.SEQUENCE]:
        raise NotDer("the encrypted content has other fields than it must have")
    algorithm = parts[1]
    name = expect(message, algorithm.start, algorithm.stop, der.OBJECT_IDENTIFIER)
    ciphertext = b"".join([_octets(message, one, _IMPLICIT_OCTETS) for one in parts[2:]])
    return _contents(message, name), (name.stop, algorithm.stop), ciphertext


def _recipients(message: bytes, field: Element) -> list[Recipient]:
    found = children(message, field.start, field.stop, at_most=_MOST_RECIPIENTS)
    if any(one.tag not in _RECIPIENTS for one in found):
        raise NotDer("a recipient is of an unknown kind")
    return [_recipient(message, one) for one in found if one.tag == der.SEQUENCE]


def _recipient(message: bytes, info: Element) -> Recipient:
    fields = children(message, info.start, info.stop, at_most=4)
    if len(fields) != 4 or fields[0].tag != der.INTEGER:  # noqa: PLR2004  # version, identifier, algorithm, key
        raise NotDer("a recipient has other fields than it must have")
    _, identifier, algorithm, encrypted_key = fields
    name: bytes | None = None
    serial: int | None = None
    key_identifier: bytes | None = None
    if identifier.tag == der.SEQUENCE:
        parts = children(message, identifier.start, identifier.stop, at_most=2)
        if [one.tag for one in parts] != [der.SEQUENCE, der.INTEGER]:
            raise NotDer("a recipient is not named by issuer and serial number")
        name = _contents(message, identifier)
        serial = int.from_bytes(_contents(message, parts[1]), signed=True)
    else:
        key_identifier = _octets(message, identifier, _KEY_IDENTIFIER)
    return Recipient(
        issuer_and_serial=name,
        serial=serial,
        key_identifier=key_identifier,
        transport=decode_key_transport(message, algorithm),
        encrypted_key=_octets(message, encrypted_key, der.OCTET_STRING),
    )


def _set_of(message: bytes, field: Element) -> bytes:
    """The attributes as they are authenticated: a SET OF in DER, so sorted. (RFC 5083 2.2)"""
    found = children(message, field.start, field.stop, at_most=_MOST_ATTRIBUTES)
    return der.encode_element(der.SET, b"".join(sorted(message[a.begin : a.stop] for a in found)))


def _octets(message: bytes, field: Element, tag: int) -> bytes:
    """An OCTET STRING under `tag`, whole or in the pieces that BER allows; they may have pieces of their own."""
    if field.tag == tag:
        return _contents(message, field)
    if field.tag != tag | der.CONSTRUCTED:
        raise NotDer("an octet string is of another type")
    pieces = children(message, field.start, field.stop, at_most=_MOST_PIECES)
    return b"".join([_octets(message, piece, der.OCTET_STRING) for piece in pieces])


def _contents(message: bytes, element: Element) -> bytes:
    return message[element.start : element.stop]
