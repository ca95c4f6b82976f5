"""EnvelopedData: content encrypted to one RSA key, as SCEP requests and replies carry it."""

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.padding import PKCS7

from ostiary.formats import der
from ostiary.formats.der import Element, NotDer, children, encode_element, expect, read_element
from ostiary.formats.signing_keys import UNREADABLE
from ostiary.protocol.scep.words import (
    CONTEXT_0,
    CONTEXT_0_PRIMITIVE,
    CONTEXT_1,
    DATA,
    ENVELOPED_DATA,
    NULL,
    RSA_ENCRYPTION,
    FailInfo,
    RequestFailed,
)

_MOST_RECIPIENTS: Final = 8
_MOST_PIECES: Final = 4096
_CONSTRUCTED_OCTETS: Final = der.OCTET_STRING | der.CONSTRUCTED
_VERSION: Final = encode_element(der.INTEGER, b"\0")
_Algorithm: TypeAlias = AES | TripleDES


class ContentCipher(Enum):
    """How an envelope's content is encrypted: object identifier, key bytes, block bytes."""

    AES_128 = (bytes.fromhex("608648016503040102"), 16, 16)
    AES_192 = (bytes.fromhex("608648016503040116"), 24, 16)
    AES_256 = (bytes.fromhex("60864801650304012a"), 32, 16)
    DES3 = (bytes.fromhex("2a864886f70d0307"), 24, 8)

    def __init__(self, identifier: bytes, key_bytes: int, block_bytes: int) -> None:
        self.identifier = identifier
        self.key_bytes = key_bytes
        self.block_bytes = block_bytes

    def over(self, key: bytes, iv: bytes) -> Cipher[modes.CBC]:
        algorithm: _Algorithm = TripleDES(key) if self is ContentCipher.DES3 else AES(key)
        return Cipher(algorithm, modes.CBC(iv))


_BY_IDENTIFIER: Final = {cipher.identifier: cipher for cipher in ContentCipher}


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An EnvelopedData that names us among its recipients, still closed."""

    encrypted_key: bytes
    """To be decrypted with our RSA key (PKCS#1 v1.5)."""
    cipher: ContentCipher
    iv: bytes
    ciphertext: bytes

    def open(self, content_key: bytes) -> bytes:
        """The content. Raises RequestFailed(BAD_REQUEST) for a wrong key and for a wrong padding alike."""
        if len(content_key) != self.cipher.key_bytes:
            raise _unreadable()
        try:
            decryptor = self.cipher.over(content_key, self.iv).decryptor()
            padded = decryptor.update(self.ciphertext) + decryptor.finalize()
            unpadder = PKCS7(self.cipher.block_bytes * 8).unpadder()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError:
            raise _unreadable() from None


def decode_envelope(message: bytes, *, our_certificate: bytes, allow_des3: bool) -> Envelope:
    """The envelope in `message`, if it was made for `our_certificate`.

    Raises:
        RequestFailed: BAD_ALGORITHM for ciphers that we do not speak, else BAD_REQUEST.

    Source: RFC 5652 6.1; RFC 8894 3.2.2.
    """
    try:
        return _decode(der.to_definite(message), our_certificate, allow_des3=allow_des3)
    except NotDer:
        raise RequestFailed(FailInfo.BAD_REQUEST, "the envelope is not EnvelopedData") from None


def encode_envelope(
    content: bytes, recipient: bytes, *, cipher: ContentCipher, content_key: bytes, iv: bytes
) -> bytes:
    """`content` encrypted to the RSA key of the DER certificate `recipient`.

    Raises:
        RequestFailed: BAD_ALGORITHM if that key cannot decrypt (elliptic curves), or is too small.
    """
    try:
        certificate = x509.load_der_x509_certificate(recipient)
        key = certificate.public_key()
        identifier = issuer_and_serial(recipient)
    except (*UNREADABLE, NotDer):
        raise RequestFailed(FailInfo.BAD_MESSAGE_CHECK, "the signer is unreadable") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise RequestFailed(
            FailInfo.BAD_ALGORITHM, "the requester's key cannot decrypt; SCEP needs RSA"
        )
    padder = PKCS7(cipher.block_bytes * 8).padder()
    padded = padder.update(content) + padder.finalize()
    encryptor = cipher.over(content_key, iv).encryptor()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    rsa_algorithm = _sequence(
        encode_element(der.OBJECT_IDENTIFIER, RSA_ENCRYPTION) + encode_element(NULL, b"")
    )
    encrypted_key = encode_element(der.OCTET_STRING, key.encrypt(content_key, padding.PKCS1v15()))
    recipient_info = _sequence(_VERSION + _sequence(identifier) + rsa_algorithm + encrypted_key)
    algorithm = _sequence(
        encode_element(der.OBJECT_IDENTIFIER, cipher.identifier)
        + encode_element(der.OCTET_STRING, iv)
    )
    encrypted = _sequence(
        encode_element(der.OBJECT_IDENTIFIER, DATA)
        + algorithm
        + encode_element(CONTEXT_0_PRIMITIVE, ciphertext)
    )
    body = _sequence(_VERSION + encode_element(der.SET, recipient_info) + encrypted)
    return _sequence(
        encode_element(der.OBJECT_IDENTIFIER, ENVELOPED_DATA) + encode_element(CONTEXT_0, body)
    )


def issuer_and_serial(certificate: bytes) -> bytes:
    """Issuer and serial of a DER certificate exactly as they stand in it: how CMS names it. Raises NotDer."""
    outer = expect(certificate, 0, len(certificate), der.SEQUENCE)
    body = expect(certificate, outer.start, outer.stop, der.SEQUENCE)
    serial = read_element(certificate, body.start, body.stop)
    if serial.tag == CONTEXT_0:  # the version, which the oldest certificates leave out
        serial = read_element(certificate, serial.stop, body.stop)
    algorithm = read_element(certificate, serial.stop, body.stop)
    issuer = read_element(certificate, algorithm.stop, body.stop)
    return certificate[issuer.begin : issuer.stop] + certificate[serial.begin : serial.stop]


def _decode(message: bytes, our_certificate: bytes, *, allow_des3: bool) -> Envelope:
    outer = expect(message, 0, len(message), der.SEQUENCE)
    kind = expect(message, outer.start, outer.stop, der.OBJECT_IDENTIFIER)
    wrapper = expect(message, kind.stop, outer.stop, CONTEXT_0)
    if _contents(message, kind) != ENVELOPED_DATA:
        raise NotDer("the content is of another type")
    body = expect(message, wrapper.start, wrapper.stop, der.SEQUENCE)
    fields = children(message, body.start, body.stop, at_most=5)
    tags = [one.tag for one in fields]
    if tags[-1:] == [CONTEXT_1]:
        tags.pop()
    if tags != [der.INTEGER, der.SET, der.SEQUENCE]:
        raise NotDer("the envelope has other fields than it must have")
    cipher, iv, ciphertext = _encrypted_content(message, fields[2])
    if cipher is None or (cipher is ContentCipher.DES3 and not allow_des3):
        raise RequestFailed(FailInfo.BAD_ALGORITHM, "the envelope's cipher is not accepted")
    return Envelope(
        encrypted_key=_our_key(message, fields[1], our_certificate),
        cipher=cipher,
        iv=iv,
        ciphertext=ciphertext,
    )


def _encrypted_content(message: bytes, field: Element) -> tuple[ContentCipher | None, bytes, bytes]:
    parts = children(message, field.start, field.stop, at_most=3)
    if [one.tag for one in parts[:2]] != [der.OBJECT_IDENTIFIER, der.SEQUENCE]:
        raise NotDer("the encrypted content has other fields than it must have")
    name = expect(message, parts[1].start, parts[1].stop, der.OBJECT_IDENTIFIER)
    cipher = _BY_IDENTIFIER.get(_contents(message, name))
    if cipher is None:
        return None, b"", b""
    iv = _contents(message, expect(message, name.stop, parts[1].stop, der.OCTET_STRING))
    ciphertext = _pieces(message, parts[2]) if len(parts) == 3 else b""  # noqa: PLR2004  # type, algorithm, content
    if len(iv) != cipher.block_bytes or not ciphertext or len(ciphertext) % cipher.block_bytes:
        raise NotDer("the encrypted content has an impossible length")
    return cipher, iv, ciphertext


def _pieces(message: bytes, field: Element) -> bytes:
    """An implicitly tagged OCTET STRING, whole or in BER's pieces."""
    if field.tag == CONTEXT_0_PRIMITIVE:
        return _contents(message, field)
    if field.tag != CONTEXT_0:
        raise NotDer("the encrypted content is not there")
    pieces = children(message, field.start, field.stop, at_most=_MOST_PIECES)
    if any(piece.tag != der.OCTET_STRING for piece in pieces):
        raise NotDer("the encrypted content has pieces of another type")
    return b"".join([_contents(message, piece) for piece in pieces])


def _our_key(message: bytes, field: Element, our_certificate: bytes) -> bytes:
    """The content key encrypted to us, found by issuer and serial or by key identifier."""
    ours = x509.load_der_x509_certificate(our_certificate)
    by_serial = issuer_and_serial(our_certificate)
    by_key = ours.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    for recipient in children(message, field.start, field.stop, at_most=_MOST_RECIPIENTS):
        if recipient.tag != der.SEQUENCE:
            continue  # other ways than key transport are no business of ours
        parts = children(message, recipient.start, recipient.stop, at_most=4)
        tags = [one.tag for one in parts]
        if len(parts) != 4 or tags[2:] != [der.SEQUENCE, der.OCTET_STRING]:  # noqa: PLR2004  # version, identifier, algorithm, key
            raise NotDer("a recipient has other fields than it must have")
        wanted = by_serial if parts[1].tag == der.SEQUENCE else by_key
        if _contents(message, parts[1]) != wanted:
            continue
        name = expect(message, parts[2].start, parts[2].stop, der.OBJECT_IDENTIFIER)
        if _contents(message, name) != RSA_ENCRYPTION:
            raise RequestFailed(FailInfo.BAD_ALGORITHM, "the envelope's key is not under RSA")
        return _contents(message, parts[3])
    raise RequestFailed(FailInfo.BAD_REQUEST, "the envelope is for another recipient")


def _contents(message: bytes, element: Element) -> bytes:
    return message[element.start : element.stop]


def _sequence(contents: bytes) -> bytes:
    return encode_element(der.SEQUENCE, contents)


def _unreadable() -> RequestFailed:
    # One sentence for wrong keys and wrong padding: two would be an oracle.
    return RequestFailed(FailInfo.BAD_REQUEST, "the envelope does not open")
