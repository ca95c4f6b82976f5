"""Cryptographic messages (RFC 5652) both ways: signed and enveloped. Used by signatures, SCEP and profiles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from os import urandom
from typing import Any, Final

from asn1crypto import algos, cms, core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding

from ostiary_sim.errors import MessageUnreadable
from ostiary_sim.identity import Identity

Attributes = Mapping[str, core.Asn1Value]
"""Further signed attributes, OID to the one value each carries."""


class Digest(Enum):
    """The digests a signature may use, by their names in CMS."""

    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"

    @property
    def algorithm(self) -> hashes.HashAlgorithm:
        """The same digest, as the mathematics want it."""
        return _HASHES[self.value]()

    def of(self, content: bytes) -> bytes:
        """The digest of `content`."""
        state = hashes.Hash(self.algorithm)
        state.update(content)
        return state.finalize()


# SHA-1 is what old Macs sign with; verifying and imitating them needs it.
_HASHES: Final[Mapping[str, Callable[[], hashes.HashAlgorithm]]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


class ContentCipher(Enum):
    """The ciphers we wrap contents in: name in CMS."""

    AES_128 = "aes128_cbc"
    AES_192 = "aes192_cbc"
    AES_256 = "aes256_cbc"
    TRIPLE_DES = "tripledes_3key"
    AES_256_GCM = "aes256_gcm"
    """Authenticated: an AuthEnvelopedData (RFC 5083, 5084)."""

    @property
    def authenticates(self) -> bool:
        """Say whether the cipher comes with a code that proves the content."""
        return self is ContentCipher.AES_256_GCM


_KEY_BYTES: Final = {
    ContentCipher.AES_128: 16,
    ContentCipher.AES_192: 24,
    ContentCipher.AES_256: 32,
    ContentCipher.TRIPLE_DES: 24,
    ContentCipher.AES_256_GCM: 32,
}
_TRIPLE_DES_NAME: Final = "tripledes_3key"
_GCM_NONCE_BYTES: Final = 12
_GCM_CODE_BYTES: Final = 16


class _GcmParameters(core.Sequence):  # type: ignore[misc]  # asn1crypto has no types
    """Source: RFC 5084 3.2."""

    _fields = [("nonce", core.OctetString), ("icv_length", core.Integer)]  # noqa: RUF012 (asn1crypto's way)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A verified SignedData: the content, who signed it, and the signed attributes by OID."""

    content: bytes = field(repr=False)
    signer: x509.Certificate
    certificates: tuple[x509.Certificate, ...]
    attributes: Mapping[str, core.Asn1Value]


def encode_signed(
    content: bytes,
    identity: Identity,
    *,
    digest: Digest = Digest.SHA256,
    attributes: Attributes | None = None,
    signed_at: datetime | None = None,
    attached: bool = True,
    others: Sequence[x509.Certificate] = (),
) -> bytes:
    """A DER ContentInfo with one signer.

    Args:
        content: what is signed.
        identity: who signs.
        digest: over content and attributes.
        attributes: None signs the content itself; a mapping, even an empty one, signs the attributes
            (contentType and messageDigest are added).
        signed_at: adds a signingTime attribute.
        attached: carry the content inside.
        others: further certificates to include.
    """
    signed_attributes = None
    if attributes is not None:
        signed_attributes = _signed_attributes(digest.of(content), attributes, signed_at)
    to_sign = content if signed_attributes is None else signed_attributes.dump()
    certificate = _asn1_certificate(identity.certificate)
    signer: dict[str, Any] = {
        "version": "v1",
        "sid": cms.SignerIdentifier(
            {
                "issuer_and_serial_number": cms.IssuerAndSerialNumber(
                    {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
                )
            }
        ),
        "digest_algorithm": algos.DigestAlgorithm({"algorithm": digest.value}),
        "signature_algorithm": algos.SignedDigestAlgorithm(
            {"algorithm": _signature_name(identity, digest)}
        ),
        "signature": _sign(identity, to_sign, digest),
    }
    if signed_attributes is not None:
        signer["signed_attrs"] = signed_attributes
    inside: dict[str, Any] = {"content_type": "data"}
    if attached:
        inside["content"] = content
    included = [certificate, *(_asn1_certificate(other) for other in others)]
    return _signed_message(inside, included, [cms.SignerInfo(signer)], digest)


def encode_certificates_only(certificates: Sequence[x509.Certificate]) -> bytes:
    """A degenerate SignedData: certificates and no signer. Source: RFC 8894 3.4."""
    included = [_asn1_certificate(certificate) for certificate in certificates]
    return _signed_message({"content_type": "data"}, included, [], None)


def decode_certificates(message: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates carried by a SignedData, whoever signed it."""
    return _certificates(_signed_data(message))


def verify_signed(message: bytes, detached: bytes | None = None) -> Signed:
    """The content of a SignedData with one signer, after checking the signature and the digest.

    Whether the signer is *trusted* is for the caller to decide.

    Raises:
        MessageUnreadable: not a SignedData, signer's certificate missing, or the signature is wrong.
    """
    signed = _signed_data(message)
    certificates = _certificates(signed)
    try:
        content = (
            detached if detached is not None else bytes(signed["encap_content_info"]["content"])
        )
        (info,) = signed["signer_infos"]
        digest = Digest(info["digest_algorithm"]["algorithm"].native)
        signer = _find_signer(info["sid"], certificates)
        attributes = info["signed_attrs"]
        has_attributes = not isinstance(attributes, core.Void) and len(attributes) > 0
        found = {a["type"].dotted: a["values"][0] for a in attributes} if has_attributes else {}
        to_verify = attributes.untag().dump() if has_attributes else content
        if has_attributes and _digest_attribute(found) != digest.of(content):
            raise MessageUnreadable("the signed digest is not that of the content")
        _verify(signer, bytes(info["signature"]), to_verify, digest)
    except (ValueError, TypeError, KeyError) as problem:
        raise MessageUnreadable("the signed message is damaged") from problem
    except InvalidSignature as problem:
        raise MessageUnreadable("the signature does not match") from problem
    return Signed(content=content, signer=signer, certificates=certificates, attributes=found)


def encode_enveloped(
    content: bytes,
    recipient: x509.Certificate,
    cipher: ContentCipher = ContentCipher.AES_256,
    *,
    by_key_identifier: bool = False,
) -> bytes:
    """A DER ContentInfo that only `recipient` (an RSA certificate) can open.

    Args:
        content: what is wrapped.
        recipient: for whom.
        cipher: what wraps it.
        by_key_identifier: name the recipient by its key's identifier instead of issuer and serial number.
    """
    public_key = recipient.public_key()
    if not isinstance(public_key, rsa.RSAPublicKey):
        raise MessageUnreadable("only an RSA certificate can receive an envelope")
    key = urandom(_KEY_BYTES[cipher])
    transport = cms.KeyTransRecipientInfo(
        {
            "version": "v2" if by_key_identifier else "v0",
            "rid": _recipient_name(recipient, by_key_identifier=by_key_identifier),
            "key_encryption_algorithm": {"algorithm": "rsaes_pkcs1v15"},
            "encrypted_key": public_key.encrypt(key, padding.PKCS1v15()),
        }
    )
    recipients = [cms.RecipientInfo({"ktri": transport})]
    if cipher.authenticates:
        return _authenticated_envelope(content, key, cipher, recipients)
    vector = urandom(8 if cipher is ContentCipher.TRIPLE_DES else 16)
    enveloped = cms.EnvelopedData(
        {
            "version": "v2" if by_key_identifier else "v0",
            "recipient_infos": recipients,
            "encrypted_content_info": {
                "content_type": "data",
                "content_encryption_algorithm": algos.EncryptionAlgorithm(
                    {"algorithm": cipher.value, "parameters": core.OctetString(vector)}
                ),
                "encrypted_content": _encrypt(cipher.value, key, vector, content),
            },
        }
    )
    return bytes(cms.ContentInfo({"content_type": "enveloped_data", "content": enveloped}).dump())


def _recipient_name(
    recipient: x509.Certificate, *, by_key_identifier: bool
) -> cms.RecipientIdentifier:
    if by_key_identifier:
        public_key = recipient.public_key()
        identifier = x509.SubjectKeyIdentifier.from_public_key(public_key).digest
        try:
            found = recipient.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
            identifier = found.value.digest
        except x509.ExtensionNotFound:
            pass  # then the usual digest of the key is its name
        return cms.RecipientIdentifier(
            name="subject_key_identifier", value=core.OctetString(identifier)
        )
    certificate = _asn1_certificate(recipient)
    return cms.RecipientIdentifier(
        {
            "issuer_and_serial_number": cms.IssuerAndSerialNumber(
                {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
            )
        }
    )


def _authenticated_envelope(
    content: bytes, key: bytes, cipher: ContentCipher, recipients: Sequence[cms.RecipientInfo]
) -> bytes:
    nonce = urandom(_GCM_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, content, None)
    parameters = _GcmParameters({"nonce": nonce, "icv_length": _GCM_CODE_BYTES})
    enveloped = cms.AuthEnvelopedData(
        {
            "version": 0,
            "recipient_infos": list(recipients),
            "auth_encrypted_content_info": {
                "content_type": "data",
                "content_encryption_algorithm": algos.EncryptionAlgorithm(
                    {"algorithm": cipher.value, "parameters": core.Any(parameters)}
                ),
                "encrypted_content": sealed[:-_GCM_CODE_BYTES],
            },
            "mac": sealed[-_GCM_CODE_BYTES:],
        }
    )
    outer = {"content_type": "authenticated_enveloped_data", "content": enveloped}
    return bytes(cms.ContentInfo(outer).dump())


def decode_enveloped(message: bytes, key: rsa.RSAPrivateKey) -> bytes:
    """The content of an EnvelopedData or AuthEnvelopedData, opened with the recipient's key.

    Raises:
        MessageUnreadable: not an envelope, or not for this key.
    """
    try:
        outer = cms.ContentInfo.load(message)
        enveloped = outer["content"]
        recipient = enveloped["recipient_infos"][0].chosen
        content_key = key.decrypt(bytes(recipient["encrypted_key"]), padding.PKCS1v15())
        if isinstance(enveloped, cms.AuthEnvelopedData):
            return _open_authenticated(enveloped, content_key)
        inside = enveloped["encrypted_content_info"]
        algorithm = inside["content_encryption_algorithm"]
        name = str(algorithm["algorithm"].native)
        vector = bytes(algorithm["parameters"].native)
        return _decrypt(name, content_key, vector, bytes(inside["encrypted_content"]))
    except (ValueError, TypeError, KeyError, IndexError, InvalidTag) as problem:
        raise MessageUnreadable("the envelope does not open") from problem


def _open_authenticated(enveloped: cms.AuthEnvelopedData, key: bytes) -> bytes:
    inside = enveloped["auth_encrypted_content_info"]
    parameters = inside["content_encryption_algorithm"]["parameters"].parse(_GcmParameters)
    sealed = bytes(inside["encrypted_content"]) + bytes(enveloped["mac"])
    return AESGCM(key).decrypt(bytes(parameters["nonce"].native), sealed, None)


def _signed_message(
    inside: Mapping[str, Any],
    certificates: Sequence[asn1_x509.Certificate],
    signers: Sequence[cms.SignerInfo],
    digest: Digest | None,
) -> bytes:
    algorithms = [] if digest is None else [algos.DigestAlgorithm({"algorithm": digest.value})]
    signed = cms.SignedData(
        {
            "version": "v1",
            "digest_algorithms": algorithms,
            "encap_content_info": dict(inside),
            "certificates": [
                cms.CertificateChoices(name="certificate", value=each) for each in certificates
            ],
            "signer_infos": list(signers),
        }
    )
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": signed}).dump())


def _signed_attributes(
    content_digest: bytes, attributes: Attributes, signed_at: datetime | None
) -> cms.CMSAttributes:
    listed = [
        cms.CMSAttribute({"type": "content_type", "values": ["data"]}),
        cms.CMSAttribute({"type": "message_digest", "values": [content_digest]}),
    ]
    if signed_at is not None:
        time = cms.Time({"utc_time": signed_at.replace(microsecond=0)})
        listed.append(cms.CMSAttribute({"type": "signing_time", "values": [time]}))
    listed += [
        cms.CMSAttribute({"type": oid, "values": cms.SetOfAny([core.Any(value)])})
        for oid, value in attributes.items()
    ]
    return cms.CMSAttributes(listed)


def _signature_name(identity: Identity, digest: Digest) -> str:
    if isinstance(identity.key, rsa.RSAPrivateKey):
        return "rsassa_pkcs1v15"
    return f"{digest.value}_ecdsa"


def _sign(identity: Identity, message: bytes, digest: Digest) -> bytes:
    if isinstance(identity.key, rsa.RSAPrivateKey):
        return identity.key.sign(message, padding.PKCS1v15(), digest.algorithm)
    return identity.key.sign(message, ec.ECDSA(digest.algorithm))


def _verify(signer: x509.Certificate, signature: bytes, message: bytes, digest: Digest) -> None:
    key = signer.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, message, padding.PKCS1v15(), digest.algorithm)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(digest.algorithm))
    else:
        raise MessageUnreadable("the signer's key is of an unknown kind")


def _find_signer(
    signer_id: cms.SignerIdentifier, certificates: Sequence[x509.Certificate]
) -> x509.Certificate:
    if signer_id.name != "issuer_and_serial_number":
        raise MessageUnreadable("the signer is not named by issuer and serial number")
    issuer = signer_id.chosen["issuer"].dump()
    serial = signer_id.chosen["serial_number"].native
    for certificate in certificates:
        if certificate.serial_number == serial and certificate.issuer.public_bytes() == issuer:
            return certificate
    raise MessageUnreadable("the signer's certificate is not included")


def _digest_attribute(found: Mapping[str, core.Asn1Value]) -> bytes:
    value = found.get("1.2.840.113549.1.9.4")
    return b"" if value is None else bytes(value.native)


def _signed_data(message: bytes) -> cms.SignedData:
    try:
        outer = cms.ContentInfo.load(message)
        if outer["content_type"].native != "signed_data":
            raise MessageUnreadable("not a SignedData")
        return outer["content"]
    except (ValueError, TypeError) as problem:
        raise MessageUnreadable("not a cryptographic message") from problem


def _certificates(signed: cms.SignedData) -> tuple[x509.Certificate, ...]:
    try:
        listed = signed["certificates"]
        if isinstance(listed, core.Void):
            return ()
        return tuple(x509.load_der_x509_certificate(each.chosen.dump()) for each in listed)
    except (ValueError, TypeError) as problem:
        raise MessageUnreadable("a certificate in the message is damaged") from problem


def _asn1_certificate(certificate: x509.Certificate) -> asn1_x509.Certificate:
    return asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))


def _cipher(name: str, key: bytes, vector: bytes) -> Cipher[modes.CBC]:
    algorithm = TripleDES(key) if name == _TRIPLE_DES_NAME else AES(key)
    return Cipher(algorithm, modes.CBC(vector))


def _encrypt(name: str, key: bytes, vector: bytes, content: bytes) -> bytes:
    padder = PKCS7(len(vector) * 8).padder()
    padded = padder.update(content) + padder.finalize()
    encryptor = _cipher(name, key, vector).encryptor()
    return encryptor.update(padded) + encryptor.finalize()


def _decrypt(name: str, key: bytes, vector: bytes, encrypted: bytes) -> bytes:
    decryptor = _cipher(name, key, vector).decryptor()
    padded = decryptor.update(encrypted) + decryptor.finalize()
    unpadder = PKCS7(len(vector) * 8).unpadder()
    return unpadder.update(padded) + unpadder.finalize()
