"""Issuing device identities: which life they get, and what we remember of each."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from ostiary.domain.enrollment import Bound, Credential, InstalledProfile, Purpose
from ostiary.domain.token import Fingerprint, TenantId
from ostiary.errors import Unavailable
from ostiary.formats.x509 import fingerprint
from ostiary.ports.clock import Clock
from ostiary.ports.signer import IssuingAuthority, SignatureScheme
from ostiary.protocol.scep.csr import DeviceKey
from ostiary.services.identity_certificate import IdentityCertificate

_SERIAL_BITS: Final = 159  # positive, and at most the 20 bytes of RFC 5280 4.1.2.2


class AuthorityExpired(Unavailable):
    """The device CA's own certificate has ended, so nothing can be issued under it."""

    hint = "Make a new device CA and renew the enrollment of every device under it."


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuingPolicy:
    """How long identities live.

    Two years: a device asleep in a drawer for a year and a half can still renew itself, and renewal is due
    in the last third, some eight months of tries, before anything ends. TLS's limit of 398 days is about
    servers that browsers trust; these certificates are trusted by this server alone, which can forget a
    binding at any moment.
    """

    valid_for: timedelta = timedelta(days=730)
    back_dated: timedelta = timedelta(hours=1)
    """Devices' clocks lag, and they sign seconds before a fresh certificate begins. (3.8 step 6, 6.3 rule 3)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialOrder:
    """What a certificate shall stand for, told by its challenge or its predecessor, never by its CSR."""

    tenant: TenantId
    purpose: Purpose
    bound: Bound
    profile: InstalledProfile | None
    challenge_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedIdentity:
    """A fresh certificate in DER, and what is to be stored about it before it leaves."""

    credential: Credential
    certificate: bytes


class CertificateService:
    """Issues device identities under the device CA."""

    def __init__(
        self, authority: IssuingAuthority, clock: Clock, policy: IssuingPolicy | None = None
    ) -> None:
        self._authority = authority
        self._clock = clock
        self._policy = policy or IssuingPolicy()
        self._issuer = x509.load_der_x509_certificate(authority.certificate)
        is_rsa = isinstance(authority.signer.public_key, rsa.RSAPublicKey)
        self._scheme = SignatureScheme.RSA_SHA256 if is_rsa else SignatureScheme.ECDSA_SHA256

    async def issue(self, public_key: DeviceKey, order: CredentialOrder) -> IssuedIdentity:
        """A certificate for `public_key`, not stored anywhere yet.

        Subject, extensions and life are the CA's; the serial number has 159 random bits.

        Raises:
            AuthorityExpired: the CA has ended.
            SignerUnavailable: its key does not answer.

        Source: check-in-and-commands.md 6.3 rules 3 and 4; case SC-03.
        """
        now = self._clock.now().replace(microsecond=0)
        not_after = min(now + self._policy.valid_for, self._issuer.not_valid_after_utc)
        if not_after <= now:
            raise AuthorityExpired(not_after=self._issuer.not_valid_after_utc.isoformat())
        certificate = IdentityCertificate(
            public_key=public_key,
            challenge_id=order.challenge_id,
            serial_number=secrets.randbits(_SERIAL_BITS) | 1,
            not_before=now - self._policy.back_dated,
            not_after=not_after,
            issuer=self._issuer,
            scheme=self._scheme,
        )
        signature = await self._authority.signer.sign(certificate.to_sign(), self._scheme)
        encoded = certificate.encode(signature)
        credential = Credential(
            fingerprint=Fingerprint(fingerprint(encoded)),
            tenant=order.tenant,
            purpose=order.purpose,
            bound=order.bound,
            profile=order.profile,
            issued_at=now,
            not_after=not_after,
            challenge_id=order.challenge_id,
        )
        return IssuedIdentity(credential=credential, certificate=encoded)
