"""EnvelopedData: content encrypted to one RSA key, as SCEP requests and replies carry it."""

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.padding import PKCS7

from ostiary.formats import cms_envelope, der
from ostiary.formats.cms_envelope import (
    CipherNotKnown,
    EnvelopeBroken,
    EnvelopeUnreadable,
    NotForThisKey,
    issuer_and_serial,
)
from ostiary.formats.der import NotDer, encode_element
from ostiary.formats.encrypted_content import CbcContent, ContentCipher
from ostiary.formats.signing_keys import UNREADABLE
from ostiary.protocol.scep.words import (
    CONTEXT_0,
    CONTEXT_0_PRIMITIVE,
    DATA,
    ENVELOPED_DATA,
    NULL,
    RSA_ENCRYPTION,
    FailInfo,
    RequestFailed,
)

_VERSION: Final = encode_element(der.INTEGER, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An EnvelopedData that names us among its recipients, still closed."""

    encrypted_key: bytes
    """To be decrypted with our RSA key (PKCS#1 v1.5)."""
    content: CbcContent

    @property
    def cipher(self) -> ContentCipher:
        return self.content.cipher

    def open(self, content_key: bytes) -> bytes:
        """The content. Raises RequestFailed(BAD_REQUEST) for a wrong key and for a wrong padding alike."""
        try:
            return self.content.open(content_key)
        except EnvelopeBroken:
            # One sentence for wrong keys and wrong padding: two would be an oracle.
            raise RequestFailed(FailInfo.BAD_REQUEST, "the envelope does not open") from None


def decode_envelope(message: bytes, *, our_certificate: bytes, allow_des3: bool) -> Envelope:
    """The envelope in `message`, if it was made for `our_certificate`.

    Raises:
        RequestFailed: BAD_ALGORITHM for ciphers that we do not speak, else BAD_REQUEST.

    Source: RFC 5652 6.1; RFC 8894 3.2.2.
    """
    try:
        envelope = cms_envelope.read_envelope(message)
        recipient = cms_envelope.find_recipient(envelope, our_certificate)
    except CipherNotKnown:
        raise _cipher_refused() from None
    except EnvelopeUnreadable:
        raise RequestFailed(FailInfo.BAD_REQUEST, "the envelope is not EnvelopedData") from None
    except NotForThisKey:
        raise RequestFailed(FailInfo.BAD_REQUEST, "the envelope is for another recipient") from None
    content = envelope.content
    if not isinstance(content, CbcContent):  # GCM came after SCEP
        raise _cipher_refused()
    if content.cipher is ContentCipher.DES3 and not allow_des3:
        raise _cipher_refused()
    if not isinstance(recipient.transport, padding.PKCS1v15):
        raise RequestFailed(FailInfo.BAD_ALGORITHM, "the envelope's key is not under RSA")
    return Envelope(encrypted_key=recipient.encrypted_key, content=content)


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


def _sequence(contents: bytes) -> bytes:
    return encode_element(der.SEQUENCE, contents)


def _cipher_refused() -> RequestFailed:
    return RequestFailed(FailInfo.BAD_ALGORITHM, "the envelope's cipher is not accepted")
