"""Envelopes (CMS EnvelopedData and AuthEnvelopedData): finding ours among the recipients, and opening it."""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from ostiary.errors import Missing
from ostiary.formats import der
from ostiary.formats.cms_envelope_reader import (
    CipherNotKnown,
    Envelope,
    EnvelopeUnreadable,
    Recipient,
    read_envelope,
)
from ostiary.formats.der import NotDer, expect, read_element
from ostiary.formats.encrypted_content import EnvelopeBroken
from ostiary.formats.signing_keys import UNREADABLE, CertificateMalformed

__all__ = [
    "CipherNotKnown",
    "Envelope",
    "EnvelopeBroken",
    "EnvelopeUnreadable",
    "NotForThisKey",
    "Recipient",
    "find_recipient",
    "issuer_and_serial",
    "open_envelope",
    "read_envelope",
]

_VERSION: Final = 0xA0  # in TBSCertificate


class NotForThisKey(Missing):
    """The envelope was made for other keys than this one."""

    hint = "Keep the envelope as it came: the key it was made for may still be found."


def open_envelope(envelope: Envelope, private_key: rsa.RSAPrivateKey, certificate: bytes) -> bytes:
    """What the envelope hides, opened with the key of the DER `certificate`.

    CBC authenticates nothing: a damaged envelope may open to garbage, so look at what comes out.

    Raises:
        NotForThisKey: no recipient is this certificate.
        EnvelopeBroken: it does not decrypt; one error without detail, whatever the reason.
        CipherNotKnown: the content key is encrypted in a way that we do not speak.
        CertificateMalformed: `certificate` cannot be read.

    Source: escrowed-secrets.md 4.3 (CMS decryption), FV-02.
    """
    recipient = find_recipient(envelope, certificate)
    if recipient.transport is None:
        raise CipherNotKnown("the envelope's key is not under RSA as we know it")
    try:
        content_key = private_key.decrypt(recipient.encrypted_key, recipient.transport)
    except (ValueError, UnsupportedAlgorithm):
        # The library may as well hand out random bytes instead; those fail one step later, in the same words.
        raise EnvelopeBroken from None
    return envelope.content.open(content_key)


def find_recipient(envelope: Envelope, certificate: bytes) -> Recipient:
    """The recipient that is the DER `certificate`, by issuer and serial number or by key identifier.

    A serial number alone decides where no issuer is the same byte for byte: names may be spelled in another
    string type or in other letters and mean the same, and what was not made for us does not open anyway.

    Raises:
        NotForThisKey: there is none.
        CertificateMalformed: the certificate cannot be read.
    """
    try:
        ours = x509.load_der_x509_certificate(certificate)
        name, serial = issuer_and_serial(certificate), ours.serial_number
        key_identifiers = _key_identifiers(ours)
    except (*UNREADABLE, NotDer):
        raise CertificateMalformed from None
    for recipient in envelope.recipients:
        if recipient.issuer_and_serial == name or recipient.key_identifier in key_identifiers:
            return recipient
    for recipient in envelope.recipients:
        if recipient.serial == serial:
            return recipient
    raise NotForThisKey


def issuer_and_serial(certificate: bytes) -> bytes:
    """Issuer and serial of a DER certificate exactly as they stand in it: how CMS names it. Raises NotDer."""
    outer = expect(certificate, 0, len(certificate), der.SEQUENCE)
    body = expect(certificate, outer.start, outer.stop, der.SEQUENCE)
    serial = read_element(certificate, body.start, body.stop)
    if serial.tag == _VERSION:  # which the oldest certificates leave out
        serial = read_element(certificate, serial.stop, body.stop)
    algorithm = read_element(certificate, serial.stop, body.stop)
    issuer = read_element(certificate, algorithm.stop, body.stop)
    return certificate[issuer.begin : issuer.stop] + certificate[serial.begin : serial.stop]


def _key_identifiers(certificate: x509.Certificate) -> set[bytes]:
    """The key identifier that the certificate states, and the usual one, for certificates that state none."""
    found = {x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest}
    try:
        stated = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return found
    return found | {stated.value.digest}
