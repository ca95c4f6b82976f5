"""A SCEP client as devices have one, and a few that devices do not: honest by default, hostile by lever.

The conversation is `GetCACaps`, `GetCACert`, then `PKIOperation` until the server says success or failure.

Source: check-in-and-commands.md 6.2, 6.3; RFC 8894.
"""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from os import urandom
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
from asn1crypto import core
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import AttributeOID, NameOID

from ostiary_sim.clock import Clock, system_clock
from ostiary_sim.cms import (
    ContentCipher,
    Digest,
    Signed,
    decode_certificates,
    decode_enveloped,
    encode_enveloped,
    encode_signed,
    verify_signed,
)
from ostiary_sim.errors import IdentityNotIssued, MessageUnreadable, ScepRefused
from ostiary_sim.identity import Identity, KeySource, new_rsa_key, self_signed
from ostiary_sim.profile import ScepRequest
from ostiary_sim.said import with_sentence

Sleeper = Callable[[float], Awaitable[None]]
"""Waits so many seconds, or pretends to."""

PKCS_REQ: Final = 19
RENEWAL_REQ: Final = 17
CERT_REP: Final = 3
CERT_POLL: Final = 20

SUCCESS: Final = "0"
FAILURE: Final = "2"
PENDING: Final = "3"


class Oid:
    """Attributes of a SCEP message. Source: check-in-and-commands.md 6.3."""

    MESSAGE_TYPE: Final = "2.16.840.1.113733.1.9.2"
    PKI_STATUS: Final = "2.16.840.1.113733.1.9.3"
    FAIL_INFO: Final = "2.16.840.1.113733.1.9.4"
    SENDER_NONCE: Final = "2.16.840.1.113733.1.9.5"
    RECIPIENT_NONCE: Final = "2.16.840.1.113733.1.9.6"
    TRANSACTION_ID: Final = "2.16.840.1.113733.1.9.7"


_SHORT_NAMES: Final = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
}
# Profiles name the CA by MD5, SHA-1 or SHA-256; the length tells which.
_FINGERPRINTS: Final[Mapping[int, Callable[[], hashes.HashAlgorithm]]] = {
    16: hashes.MD5,  # an old profile may use it; we only compare
    20: hashes.SHA1,
    32: hashes.SHA256,
}
_NONCE_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostility:
    """What this client does that a device would not. The default does nothing."""

    message_type: int | None = None
    """Announce this number instead of PKCSReq or RenewalReq."""
    challenge: str | None = field(default=None, repr=False)
    """Send this challenge instead of the profile's."""
    omit_challenge: bool = False
    subject: x509.Name | None = None
    """Ask for this subject."""
    dns_names: tuple[str, ...] = ()
    """Ask for these names."""
    ask_for_ca: bool = False
    """Ask for CA:TRUE with keyCertSign."""
    use_get: bool = False
    """PKIOperation by GET even though the server takes POST."""
    cipher: ContentCipher | None = None
    """Wrap the CSR in this cipher."""
    digest: Digest = Digest.SHA256


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """What the server said about itself."""

    capabilities: frozenset[str]
    certificates: tuple[x509.Certificate, ...]
    recipient: x509.Certificate
    """Whom requests are encrypted for: the RA if there is one, else the CA."""


@dataclass(slots=True, kw_only=True)
class ScepClient:
    """Asks one SCEP server for certificates."""

    request: ScepRequest
    http: httpx.AsyncClient
    clock: Clock = system_clock
    sleeper: Sleeper = asyncio.sleep
    new_key: KeySource = new_rsa_key
    user_agent: str = "MDM/1.0"

    async def obtain(
        self,
        *,
        key: rsa.RSAPrivateKey | None = None,
        renew: Identity | None = None,
        hostility: Hostility | None = None,
    ) -> Identity:
        """A new identity.

        Args:
            key: the key to certify; None makes a fresh one. Give the same one again to replay.
            renew: sign with this identity and say RenewalReq instead of PKCSReq.
            hostility: see `Hostility`.

        Raises:
            ScepRefused: the server said FAILURE.
            IdentityNotIssued: no answer, a wrong answer, or PENDING for too long.
        """
        manners = hostility or Hostility()
        if key is None:
            key = await asyncio.to_thread(self.new_key, self.request.key_bits)
        try:
            authority = await self.meet()
            return await self._enroll(authority, key, renew, manners)
        except MessageUnreadable as problem:
            raise IdentityNotIssued(str(problem)) from problem

    async def meet(self) -> Authority:
        """The server's capabilities and certificates (GetCACaps, GetCACert).

        Raises:
            IdentityNotIssued: no answer, or the CA is not the one whose fingerprint the profile names.
        """
        caps = await self._get("GetCACaps", self.request.ca_name)
        answer = await self._get("GetCACert", self.request.ca_name)
        kind = answer.headers.get("content-type", "").split(";")[0].strip()
        certificates: tuple[x509.Certificate, ...]
        if kind == "application/x-x509-ca-ra-cert":
            certificates = decode_certificates(answer.content)
        elif kind == "application/x-x509-ca-cert":
            try:
                certificates = (x509.load_der_x509_certificate(answer.content),)
            except ValueError as problem:
                raise IdentityNotIssued("GetCACert did not answer a certificate") from problem
        else:
            raise IdentityNotIssued(f"GetCACert answered the media type {kind!r}")
        self._check_fingerprint(certificates)
        return Authority(
            capabilities=frozenset(caps.text.split()),
            certificates=certificates,
            recipient=_recipient(certificates),
        )

    async def _enroll(
        self,
        authority: Authority,
        key: rsa.RSAPrivateKey,
        renew: Identity | None,
        manners: Hostility,
    ) -> Identity:
        csr = self._csr(key, manners)
        transaction = _transaction_id(key)
        signer = renew or self_signed(key, csr.subject, self.clock())
        envelope_key = signer.key
        if not isinstance(envelope_key, rsa.RSAPrivateKey):
            raise IdentityNotIssued("SCEP needs an RSA key to receive the answer")
        kind = manners.message_type or (RENEWAL_REQ if renew else PKCS_REQ)
        content = csr.public_bytes(serialization.Encoding.DER)
        for attempt in range(self.request.retries + 1):
            reply = await self._exchange(authority, content, kind, transaction, signer, manners)
            status = _attribute(reply, Oid.PKI_STATUS)
            if status == SUCCESS:
                return _issued(reply, envelope_key, key)
            if status != PENDING:
                raise ScepRefused(_fail_info(reply))
            if attempt < self.request.retries:
                await self.sleeper(self.request.retry_delay_seconds)
            kind = CERT_POLL
            content = _issuer_and_subject(authority.certificates[0], csr.subject)
        raise IdentityNotIssued("the SCEP server kept the request pending for too long")

    async def _exchange(
        self,
        authority: Authority,
        content: bytes,
        kind: int,
        transaction: str,
        signer: Identity,
        manners: Hostility,
    ) -> Signed:
        nonce = urandom(_NONCE_BYTES)
        cipher = manners.cipher or _best_cipher(authority.capabilities)
        message = encode_signed(
            encode_enveloped(content, authority.recipient, cipher),
            signer,
            digest=manners.digest,
            attributes={
                Oid.MESSAGE_TYPE: core.PrintableString(str(kind)),
                Oid.TRANSACTION_ID: core.PrintableString(transaction),
                Oid.SENDER_NONCE: core.OctetString(nonce),
            },
            signed_at=self.clock(),
        )
        answer = await self._operate(message, authority, use_get=manners.use_get)
        reply = verify_signed(answer.content)
        _check_reply(reply, authority, transaction, nonce)
        return reply

    async def _operate(
        self, message: bytes, authority: Authority, *, use_get: bool
    ) -> httpx.Response:
        posts = {"POSTPKIOperation", "SCEPStandard"} & authority.capabilities
        if use_get or not posts:
            return await self._get("PKIOperation", b64encode(message).decode("ascii"))
        try:
            answer = await self.http.post(
                self._url("PKIOperation", None),
                content=message,
                headers={
                    "Content-Type": "application/x-pki-message",
                    "User-Agent": self.user_agent,
                },
            )
        except httpx.HTTPError as problem:
            raise IdentityNotIssued(f"the SCEP server does not answer: {problem}") from problem
        return _checked(answer, "PKIOperation")

    async def _get(self, operation: str, message: str | None) -> httpx.Response:
        try:
            answer = await self.http.get(
                self._url(operation, message), headers={"User-Agent": self.user_agent}
            )
        except httpx.HTTPError as problem:
            raise IdentityNotIssued(f"the SCEP server does not answer: {problem}") from problem
        return _checked(answer, operation)

    def _url(self, operation: str, message: str | None) -> str:
        parts = urlsplit(self.request.url)
        query = f"operation={operation}"
        if message is not None:
            query += f"&message={quote(message, safe='')}"
        if parts.query:
            query = f"{parts.query}&{query}"
        return urlunsplit(parts._replace(query=query))

    def _csr(self, key: rsa.RSAPrivateKey, manners: Hostility) -> x509.CertificateSigningRequest:
        subject = manners.subject or _name(self.request.subject)
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        challenge = manners.challenge or self.request.challenge
        if challenge and not manners.omit_challenge:
            builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
        names = self._alternative_names(manners)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if manners.ask_for_ca:
            builder = builder.add_extension(
                x509.BasicConstraints(ca=True, path_length=None), critical=True
            )
        return builder.sign(key, hashes.SHA256())

    def _alternative_names(self, manners: Hostility) -> list[x509.GeneralName]:
        wished = self.request.alternative_names
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in manners.dns_names]
        for key, kind in (
            ("dNSName", x509.DNSName),
            ("rfc822Name", x509.RFC822Name),
            ("uniformResourceIdentifier", x509.UniformResourceIdentifier),
        ):
            value = wished.get(key, [])
            names += [kind(str(each)) for each in (value if isinstance(value, list) else [value])]
        return names

    def _check_fingerprint(self, certificates: tuple[x509.Certificate, ...]) -> None:
        wanted = self.request.ca_fingerprint
        if wanted is None:
            return
        digest = _FINGERPRINTS.get(len(wanted))
        if digest is None or all(each.fingerprint(digest()) != wanted for each in certificates):
            raise IdentityNotIssued("the CA is not the one whose fingerprint the profile names")


def _checked(answer: httpx.Response, operation: str) -> httpx.Response:
    if not answer.is_success:
        kind = answer.headers.get("content-type", "").split(";")[0].strip()
        fact = f"{operation} was answered with {answer.status_code}"
        raise IdentityNotIssued(with_sentence(fact, kind, answer.content))
    return answer


def _name(subject: tuple[tuple[tuple[str, str], ...], ...]) -> x509.Name:
    return x509.Name(
        x509.RelativeDistinguishedName(
            x509.NameAttribute(_SHORT_NAMES.get(name) or x509.ObjectIdentifier(name), value)
            for name, value in rdn
        )
        for rdn in subject
    )


def _transaction_id(key: rsa.RSAPrivateKey) -> str:
    """One number per key, so that a retry is recognised as the same request. Source: RFC 8894 3.2.1.1."""
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return Digest.SHA256.of(public).hex().upper()


def _recipient(certificates: tuple[x509.Certificate, ...]) -> x509.Certificate:
    if not certificates:
        raise IdentityNotIssued("GetCACert answered no certificate")
    for certificate in certificates:
        if not _is_ca(certificate):
            return certificate
    return certificates[0]


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _best_cipher(capabilities: frozenset[str]) -> ContentCipher:
    if {"AES", "SCEPStandard"} & capabilities:
        return ContentCipher.AES_128  # the one AES that RFC 8894 makes mandatory
    return ContentCipher.TRIPLE_DES


def _check_reply(reply: Signed, authority: Authority, transaction: str, nonce: bytes) -> None:
    """Refuse an answer that is not the authority's, or not to our question. Source: RFC 8894 3.2."""
    if reply.signer not in authority.certificates:
        raise IdentityNotIssued("the answer is not signed by the certificate authority")
    if _attribute(reply, Oid.MESSAGE_TYPE) != str(CERT_REP):
        raise IdentityNotIssued("the answer is not a CertRep")
    if _attribute(reply, Oid.TRANSACTION_ID) != transaction:
        raise IdentityNotIssued("the answer belongs to another transaction")
    if _attribute(reply, Oid.RECIPIENT_NONCE) != nonce:
        raise IdentityNotIssued("the answer does not repeat our nonce")
    if not _attribute(reply, Oid.SENDER_NONCE):
        raise IdentityNotIssued("the answer has no nonce of its own")


def _attribute(reply: Signed, oid: str) -> str | bytes | None:
    value = reply.attributes.get(oid)
    if value is None:
        return None
    native = value.native
    return native if isinstance(native, (str, bytes)) else None


def _fail_info(reply: Signed) -> int | None:
    told = _attribute(reply, Oid.FAIL_INFO)
    return int(told) if isinstance(told, str) and told.isdecimal() else None


def _issued(reply: Signed, envelope_key: rsa.RSAPrivateKey, key: rsa.RSAPrivateKey) -> Identity:
    inside = decode_certificates(decode_enveloped(reply.content, envelope_key))
    for certificate in inside:
        if certificate.public_key() == key.public_key():
            return Identity(key=key, certificate=certificate)
    raise IdentityNotIssued("the answer holds no certificate for our key")


def _issuer_and_subject(authority: x509.Certificate, subject: x509.Name) -> bytes:
    """What CertPoll asks about. Source: RFC 8894 3.3.3."""
    names = authority.subject.public_bytes() + subject.public_bytes()
    return core.Sequence(contents=names).dump()  # type: ignore[no-any-return]  # asn1crypto has no types
