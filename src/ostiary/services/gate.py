"""The device's door: a certificate of an authority we trust, and proof that its holder sent this very body."""

import hmac
from collections.abc import Callable
from typing import Final

from ostiary.domain.policy import Policy
from ostiary.domain.token import Fingerprint
from ostiary.domain.visitor import DeviceIdentity
from ostiary.errors import Refused, TooLarge
from ostiary.formats import base64
from ostiary.formats.cms import KnownSigners, PublicKeys, SignedMessage, read_signed
from ostiary.ports.clock import Clock
from ostiary.services.authorities import DeviceAuthorities, VerifiedIssuer
from ostiary.values import dataclass

LARGEST_SIGNATURE: Final = 24 * 1024
"""Characters of an Mdm-Signature; devices send two to four thousand. (3.9)"""


class IdentityMissing(Refused):
    """The request carries neither a signature nor a certificate from a trusted proxy."""

    hint = "Enrollment profiles must set SignMessage, or a proxy that verifies client certificates must forward them."


class SignatureTooLarge(TooLarge):
    """The Mdm-Signature is longer than any device makes it."""


class IdentitiesDiffer(Refused):
    """The certificate of the connection and the one that signed the message are not the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What a request brings to say who sent it. A proxy's certificate counts only if the proxy is trusted."""

    signature: bytes | None
    """The value of `Mdm-Signature`, base64."""
    proxy_certificate: bytes | None
    """DER, from a trusted proxy's header."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A certificate that chains to a trusted authority; nothing is proven about the body yet."""

    certificate: bytes
    fingerprint: Fingerprint
    issuer: VerifiedIssuer
    signed: SignedMessage | None
    """None: the connection itself proved possession of the key, at the proxy."""
    public_keys: PublicKeys
    has_ended: bool = False
    """Its time is over, and policy lets it fetch its renewal, and nothing else."""

    def prove(self, body: bytes) -> DeviceIdentity:
        """The identity, once the signature turns out to be over this body.

        Raises:
            DigestDoesNotMatch, SignatureDoesNotVerify: over another body, or by another key.
        """
        if self.signed is not None:
            self.signed.verify(body, self.public_keys.of(self.certificate))
        return DeviceIdentity(
            fingerprint=self.fingerprint,
            tenant=self.issuer.tenant,
            certificate=self.certificate,
            not_after=self.issuer.not_after,
            is_ours=self.issuer.is_ours,
        )


class DeviceGate:
    """Lets in who holds a device certificate. Says nothing about enrollments: decisions check the binding."""

    def __init__(
        self, authorities: DeviceAuthorities, clock: Clock, policy: Callable[[], Policy]
    ) -> None:
        self._authorities = authorities
        self._clock = clock
        self._policy = policy
        self._public_keys = PublicKeys()
        self._known_signers = KnownSigners()

    def recognize(self, presented: Presented) -> Visitor:
        """The certificate behind a request, verified against the trusted authorities before any body is read.

        Raises:
            IdentityMissing, IdentitiesDiffer, CertificateNotTrusted, CertificateExpired, …: all answered 400.

        Source: check-in-and-commands.md 3.8, 3.9.
        """
        if presented.signature is not None:
            return self._by_signature(presented.signature, presented.proxy_certificate)
        if presented.proxy_certificate is not None:
            return self._visitor(presented.proxy_certificate, (), None)
        raise IdentityMissing

    def _by_signature(self, header: bytes, proxy_certificate: bytes | None) -> Visitor:
        if len(header) > LARGEST_SIGNATURE:
            raise SignatureTooLarge(limit_characters=LARGEST_SIGNATURE)
        signed = read_signed(
            base64.decode_strict(header, whitespace=False),
            allow_sha1=self._policy().accept_sha1,
            known=self._known_signers,
        )
        if proxy_certificate is not None and not hmac.compare_digest(
            proxy_certificate, signed.certificate
        ):
            raise IdentitiesDiffer
        return self._visitor(signed.certificate, signed.certificates, signed)

    def _visitor(
        self, certificate: bytes, others: tuple[bytes, ...], signed: SignedMessage | None
    ) -> Visitor:
        policy, now = self._policy(), self._clock.now()
        issuer = self._authorities.verify(
            certificate,
            others,
            now,
            accept_expired=policy.accept_expired_certificates,
            grace=policy.expired_grace,
        )
        return Visitor(
            certificate,
            Fingerprint(issuer.fingerprint),
            issuer,
            signed,
            self._public_keys,
            has_ended=now > issuer.not_after and not policy.accept_expired_certificates,
        )
