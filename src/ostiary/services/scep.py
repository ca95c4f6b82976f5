"""SCEP as a service: one message in, one signed answer out, and at most one certificate for a challenge."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ostiary.domain.enrollment import Bound, Enrollment, Purpose, Standing
from ostiary.domain.invitation import Challenge, Invitation
from ostiary.domain.token import (
    DEFAULT_TENANT,
    Fingerprint,
    KeyedDigest,
    TenantId,
)
from ostiary.errors import Malformed, Missing, Refused
from ostiary.formats import cms
from ostiary.formats.signing_keys import public_key_of
from ostiary.formats.x509 import TrustAnchors, fingerprint, verify_chain
from ostiary.ports.clock import Clock
from ostiary.ports.sealer import Sealer
from ostiary.ports.signer import IssuingAuthority, NotDecipherable, SignatureScheme
from ostiary.ports.storage import Challenges
from ostiary.protocol.scep.csr import CertificateRequest, decode_csr, key_digest
from ostiary.protocol.scep.envelope import Envelope, decode_envelope, encode_envelope
from ostiary.protocol.scep.reply import NONCE_BYTES, CertRep
from ostiary.protocol.scep.request import PkiRequest, decode_request
from ostiary.protocol.scep.words import Capability, FailInfo, MessageType, RequestFailed
from ostiary.secret import Secret
from ostiary.services.allowance import FailureAllowance
from ostiary.services.certificates import CertificateService, CredentialOrder
from ostiary.services.spending import Spending

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScepPolicy:
    """Which old algorithms we still read; we never write them.

    SHA-1 in a request's signature is accepted: a client that knows no better signs so, and the signature only ties
    the request to the key inside it, which the CSR proves once more. 3DES is not: its 64-bit blocks protect the
    challenge worse than AES, which RFC 8894 3.5.2 asks of every client that follows it.
    """

    allow_sha1: bool = True
    allow_des3: bool = False
    most_renewals: int = 20
    """A day, for one enrollment: each is a row that stays for years, and a device asks whenever it likes. (docs/decisions/0016)"""


class ScepService:
    """Answers SCEP for the device CA. (RFC 8894; check-in-and-commands.md 6.3)"""

    def __init__(
        self,
        *,
        authority: IssuingAuthority,
        certificates: CertificateService,
        challenges: Challenges,
        sealer: Sealer,
        clock: Clock,
        policy: ScepPolicy | None = None,
        tenants: Sequence[TenantId] = (DEFAULT_TENANT,),
        allowance: FailureAllowance | None = None,
    ) -> None:
        self._authority = authority
        self._anchors = TrustAnchors([authority.certificate])
        self._certificates = certificates
        self._challenges = challenges
        self._sealer = sealer
        self._clock = clock
        self._policy = policy or ScepPolicy()
        self._tenants = tenants
        self._allowance = allowance or FailureAllowance()

    @property
    def capabilities(self) -> tuple[Capability, ...]:
        """What GetCACaps announces."""
        known = (
            Capability.AES,
            Capability.POST,
            Capability.RENEWAL,
            Capability.SHA_256,
            Capability.SHA_512,
            Capability.STANDARD,
        )
        return (*known, Capability.DES3) if self._policy.allow_des3 else known

    @property
    def ca_certificate(self) -> bytes:
        """The device CA's certificate, DER."""
        return self._authority.certificate

    async def answer(self, message: bytes) -> bytes:
        """The CertRep for a pkiMessage: a certificate, or a failure that tells a guesser nothing.

        Raises:
            Malformed, TooLarge, Refused: the message cannot be answered in SCEP at all.
            TooManyFailures: this one failed, and too many did lately.
            SignerUnavailable, StorageBusy, StorageFailed: nothing was issued.
        """
        try:
            request = decode_request(message, allow_sha1=self._policy.allow_sha1)
        except (Malformed, Refused):
            self._allowance.count_failure(self._clock.now())
            raise
        try:
            envelope = await self._certified(request)
        except RequestFailed as failure:
            self._allowance.count_failure(self._clock.now())
            _log.warning(
                "scep_request_failed", reason=failure.detail, fail_info=failure.fail_info.name
            )
            return await self._sign(request, failure.fail_info, b"")
        return await self._sign(request, None, envelope)

    async def _certified(self, request: PkiRequest) -> bytes:
        """The enveloped certificate that answers a request. Raises RequestFailed."""
        request.verify()
        envelope = decode_envelope(
            request.envelope,
            our_certificate=self._authority.certificate,
            allow_des3=self._policy.allow_des3,
        )
        csr = decode_csr(await self._open(envelope))
        _require_reachable(request)
        match request.message_type:
            case MessageType.CERTIFICATE_REQUEST:
                certificate = await self._enroll(request, csr)
            case MessageType.RENEWAL_REQUEST:
                certificate = await self._renew(request, csr)
            case _:
                raise RequestFailed(FailInfo.BAD_REQUEST, "a message type that we do not serve")
        return encode_envelope(
            cms.certificates_only([certificate]),
            request.signer,
            cipher=envelope.cipher,
            content_key=secrets.token_bytes(envelope.cipher.key_bytes),
            iv=secrets.token_bytes(envelope.cipher.block_bytes),
        )

    async def _open(self, envelope: Envelope) -> bytes:
        """The CSR inside. Wrong keys and wrong paddings take the same way, so neither is an oracle."""
        try:
            content_key = await self._authority.decrypter.decrypt(envelope.encrypted_key)
        except NotDecipherable:
            content_key = Secret(secrets.token_bytes(envelope.cipher.key_bytes))
        return envelope.open(content_key.reveal())

    async def _enroll(self, request: PkiRequest, csr: CertificateRequest) -> bytes:
        """A certificate for a challenge: a new one, or within a while the same one again. (6.3 rules 1, 2)"""
        if csr.challenge is None:
            raise RequestFailed(FailInfo.BAD_REQUEST, "the request carries no challenge")
        self._require_signer(request, csr)
        digest, challenge, invitation, issued = await self._find(csr.challenge)
        spending = Spending(key_digest=csr.key_digest, now=self._clock.now())
        order = CredentialOrder(
            tenant=challenge.tenant,
            purpose=challenge.purpose,
            bound=challenge.bound,
            profile=challenge.profile,
            challenge_id=challenge.id,
        )
        try:
            # Asked here, so that the CA signs only where a certificate is due, and again on fresh state inside spend.
            if spending.is_repeat(challenge, invitation) and issued is not None:
                return issued
            identity = await self._certificates.issue(csr.public_key, order)
            return await self._challenges.spend(
                digest, lambda fresh, its_invitation: spending.rule(fresh, its_invitation, identity)
            )
        except (Refused, Missing) as refusal:
            raise RequestFailed(FailInfo.BAD_REQUEST, str(refusal)) from None

    async def _find(
        self, challenge: Secret
    ) -> tuple[KeyedDigest, Challenge, Invitation | None, bytes | None]:
        """The stored challenge of these bytes, in whichever tenant, and what belongs to it. Raises RequestFailed."""
        for tenant in self._tenants:
            digest = self._sealer.digest(tenant, challenge)
            found = await self._challenges.find_challenge(digest)
            if found is not None:
                return digest, *found
        raise RequestFailed(FailInfo.BAD_REQUEST, "the challenge is unknown")

    async def _renew(self, request: PkiRequest, csr: CertificateRequest) -> bytes:
        """A certificate for the relationship that the signer's certificate is bound to, whatever key it asks for."""
        self._require_ours(request)
        signer = Fingerprint(fingerprint(request.signer))
        enrollment = await self._challenges.find_renewable(signer)
        if enrollment is None or not _may_renew(enrollment):
            raise RequestFailed(FailInfo.BAD_REQUEST, "the signer is bound to no live enrollment")
        since = self._clock.now() - timedelta(days=1)
        renewed = await self._challenges.count_renewals(enrollment.key, since=since)
        if renewed >= self._policy.most_renewals:
            raise RequestFailed(
                FailInfo.BAD_REQUEST, "too many renewals of one enrollment in a day"
            )
        order = CredentialOrder(
            tenant=enrollment.tenant,
            purpose=Purpose.RENEW,
            bound=Bound(enrollment_key=enrollment.key),
            profile=enrollment.profile,
            challenge_id=secrets.token_hex(16),
        )
        identity = await self._certificates.issue(csr.public_key, order)
        await self._challenges.add_credential(identity.credential, identity.certificate)
        return identity.certificate

    def _require_signer(self, request: PkiRequest, csr: CertificateRequest) -> None:
        """A new request is signed by the very key it is about, or by an identity of ours that is replaced."""
        if key_digest(public_key_of(request.signer)) != csr.key_digest:
            self._require_ours(request)

    def _require_ours(self, request: PkiRequest) -> None:
        try:
            verify_chain(request.signer, (), self._anchors, self._clock.now())
        except (Refused, Malformed):
            raise RequestFailed(
                FailInfo.BAD_REQUEST, "the signer is no valid identity of this CA"
            ) from None

    async def _sign(
        self, request: PkiRequest, fail_info: FailInfo | None, envelope: bytes
    ) -> bytes:
        reply = CertRep(
            transaction_id=request.transaction_id,
            recipient_nonce=request.sender_nonce,
            sender_nonce=secrets.token_bytes(NONCE_BYTES),
            fail_info=fail_info,
            envelope=envelope,
        )
        signature = await self._authority.signer.sign(reply.to_sign(), SignatureScheme.RSA_SHA256)
        return reply.encode(signature, self._authority.certificate)


def _may_renew(enrollment: Enrollment) -> bool:
    """A released, departed or contested device must not mint a proof for itself."""
    return enrollment.state.is_served and enrollment.standing is Standing.CURRENT


def _require_reachable(request: PkiRequest) -> None:
    """Before anything is spent: an elliptic curve key could not open its own answer."""
    if not isinstance(public_key_of(request.signer), RSAPublicKey):
        raise RequestFailed(
            FailInfo.BAD_ALGORITHM, "the requester's key cannot decrypt; SCEP needs RSA"
        )
