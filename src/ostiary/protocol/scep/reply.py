"""CertRep: the one answer that SCEP has, in two steps because the signing key is elsewhere."""

import hashlib
from dataclasses import dataclass
from typing import Final

from ostiary.formats import der
from ostiary.formats.cms_envelope import issuer_and_serial
from ostiary.formats.der import encode_element
from ostiary.protocol.scep.words import (
    CERT_REP,
    CONTENT_TYPE,
    CONTEXT_0,
    DATA,
    FAIL_INFO,
    MESSAGE_DIGEST,
    MESSAGE_TYPE,
    NULL,
    PKI_STATUS,
    PRINTABLE_STRING,
    RECIPIENT_NONCE,
    RSA_ENCRYPTION,
    SENDER_NONCE,
    SHA256,
    SIGNED_DATA,
    TRANSACTION_ID,
    FailInfo,
    PkiStatus,
)

NONCE_BYTES: Final = 16
_VERSION_1: Final = encode_element(der.INTEGER, b"\x01")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertRep:
    """An answer to one request, not signed yet."""

    transaction_id: bytes
    recipient_nonce: bytes
    """The request's senderNonce."""
    sender_nonce: bytes
    """Fresh random bytes."""
    fail_info: FailInfo | None
    envelope: bytes
    """The certificate, enveloped; empty for a failure."""

    def to_sign(self) -> bytes:
        """The signed attributes as a SET: what the CA signs with RSA and SHA-256."""
        status = PkiStatus.SUCCESS if self.fail_info is None else PkiStatus.FAILURE
        attributes = [
            _attribute(CONTENT_TYPE, der.OBJECT_IDENTIFIER, DATA),
            _attribute(MESSAGE_DIGEST, der.OCTET_STRING, hashlib.sha256(self.envelope).digest()),
            _attribute(MESSAGE_TYPE, PRINTABLE_STRING, b"%d" % CERT_REP),
            _attribute(PKI_STATUS, PRINTABLE_STRING, b"%d" % status),
            _attribute(TRANSACTION_ID, PRINTABLE_STRING, self.transaction_id),
            _attribute(SENDER_NONCE, der.OCTET_STRING, self.sender_nonce),
            _attribute(RECIPIENT_NONCE, der.OCTET_STRING, self.recipient_nonce),
        ]
        if self.fail_info is not None:
            attributes.append(_attribute(FAIL_INFO, PRINTABLE_STRING, b"%d" % self.fail_info))
        return encode_element(der.SET, b"".join(sorted(attributes)))

    def encode(self, signature: bytes, ca_certificate: bytes) -> bytes:
        """The pkiMessage, with the CA's signature over `to_sign()`.

        A failure has no envelope. Its content is empty rather than absent: readers that expect one digest nothing
        either way, and some stumble over a message without any. Source: RFC 8894 3.3.2.
        """
        digest = _sequence(encode_element(der.OBJECT_IDENTIFIER, SHA256))
        rsa = _sequence(
            encode_element(der.OBJECT_IDENTIFIER, RSA_ENCRYPTION) + encode_element(NULL, b"")
        )
        identifier = _sequence(issuer_and_serial(ca_certificate))
        # Signed as a SET, sent under an implicit [0]: only the first byte differs. (RFC 5652 5.4)
        attributes = bytes((CONTEXT_0,)) + self.to_sign()[1:]
        signer = _sequence(
            _VERSION_1
            + identifier
            + digest
            + attributes
            + rsa
            + encode_element(der.OCTET_STRING, signature)
        )
        octets = encode_element(der.OCTET_STRING, self.envelope)
        content = encode_element(der.OBJECT_IDENTIFIER, DATA) + encode_element(CONTEXT_0, octets)
        body = _sequence(
            _VERSION_1
            + encode_element(der.SET, digest)
            + _sequence(content)
            + encode_element(CONTEXT_0, ca_certificate)
            + encode_element(der.SET, signer)
        )
        return _sequence(
            encode_element(der.OBJECT_IDENTIFIER, SIGNED_DATA) + encode_element(CONTEXT_0, body)
        )


def _attribute(name: bytes, tag: int, contents: bytes) -> bytes:
    value = encode_element(der.SET, encode_element(tag, contents))
    return _sequence(encode_element(der.OBJECT_IDENTIFIER, name) + value)


def _sequence(contents: bytes) -> bytes:
    return encode_element(der.SEQUENCE, contents)
