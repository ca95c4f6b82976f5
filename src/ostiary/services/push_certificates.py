"""Push certificates: asking for one, taking it in, and keeping a wrong one from silencing a fleet."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import Holder, RecordId, TenantId, TokenKind
from ostiary.errors import Conflicting, Malformed, Missing, Refused
from ostiary.ports.clock import Clock
from ostiary.ports.push import ClientCertificate
from ostiary.ports.sealer import Sealer, SealLabel
from ostiary.ports.storage import PendingPushKey, PushCertificate, PushCertificates
from ostiary.protocol.apns.certificate import (
    PrivateKey,
    PushBundle,
    PushIdentity,
    PushKeyMissing,
    decode_push_bundle,
    encode_private_key,
    leaves,
    load_private_key,
    public_key_id,
    verify_push_identity,
)
from ostiary.protocol.mdm.checkin import Topic
from ostiary.secret import Secret

PENDING_KEY_KIND: Final = "key"
"""What the key of a certificate request is sealed as, until its certificate comes."""
_RSA_BITS: Final = 2048
_LONGEST_NAME: Final = 64
"""Of a common name. (RFC 5280, ub-common-name)"""


class PushTopicNew(Refused):
    """This push certificate is for another topic than the enrolled devices use, and would not reach them."""

    hint = (
        "In Apple's portal, with the Apple Account that created the certificate, Renew keeps the topic and Create makes "
        "a new one. Import it with confirmation to hold it beside the old one; devices must enroll again to use it."
    )


class PushTopicForeign(Conflicting):
    """Another tenant holds this push topic."""


class PushCertificateMissing(Missing):
    """No push certificate is held for this topic."""

    hint = "ostiary apns csr begins, ostiary apns import ends."


class RequestNameUnusable(Malformed):
    """The name for the certificate request is empty, too long, or not printable."""

    hint = (
        "Leave the name out, or give a short one in printable characters; nobody but you reads it."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """A PKCS #10 request, for a vendor to sign and the portal to answer; its key stays here, sealed."""

    pem: bytes
    der: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A push certificate that is now in use for its topic."""

    topic: Topic
    not_after: datetime
    replaced: bool
    """Whether it took the place of an older one of the same topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushTopicStatus:
    """One topic as people see it."""

    topic: Topic
    not_before: datetime
    not_after: datetime
    imported_at: datetime
    paused_since: datetime | None
    paused_reason: str | None
    enrollments: int
    """Served enrollments that hang on it."""


def fresh_record_id() -> RecordId:
    """A random primary key of a record."""
    return RecordId(secrets.token_hex(16))


class PushCertificateService:
    """Holds one current push certificate a topic; implements `ports.push.ClientCertificates` for the pusher."""

    def __init__(
        self,
        *,
        certificates: PushCertificates,
        sealer: Sealer,
        clock: Clock,
        new_record_id: Callable[[], RecordId] = fresh_record_id,
    ) -> None:
        self._certificates = certificates
        self._sealer = sealer
        self._clock = clock
        self._new_record_id = new_record_id
        self._opened_by_topic: dict[Topic, ClientCertificate] = {}

    async def make_request(self, tenant: TenantId, *, name: str, actor: str) -> CertificateRequest:
        """A request for a push certificate, with a new RSA key that is sealed until its certificate comes.

        Several requests may be open; each key is found again by the certificate made for it.
        (check-in-and-commands.md 5.7)
        """
        if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
            raise RequestNameUnusable
        key = await asyncio.to_thread(rsa.generate_private_key, 65537, _RSA_BITS)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())
        record_id, public_key = self._new_record_id(), public_key_id(key)
        label = _pending_label(tenant, public_key, record_id)
        await self._certificates.save_pending_push_key(
            PendingPushKey(
                record_id=record_id,
                tenant=tenant,
                public_key=public_key,
                sealed_key=self._sealer.seal(encode_private_key(key), label),
                created_at=self._clock.now(),
            ),
            AuditEntry(
                tenant=tenant,
                actor=actor,
                verb="request-push-certificate",
                subject=public_key,
                reason="",
            ),
        )
        return CertificateRequest(
            pem=request.public_bytes(serialization.Encoding.PEM),
            der=request.public_bytes(serialization.Encoding.DER),
        )

    async def import_certificate(
        self,
        pem: bytes,
        *,
        tenant: TenantId,
        key_pem: Secret | None = None,
        confirm_new_topic: bool = False,
        actor: str,
    ) -> Imported:
        """Take a push certificate into use for its topic; never in place of another topic's.

        The key is the one in the file, else `key_pem`, else the one that waits since `make_request`.

        Raises:
            PushTopicNew: enrolled devices use other topics, and nobody confirmed.
            PushTopicForeign: the topic is another tenant's.
            OstiaryError: the file, key or dates are not usable; see `protocol.apns.certificate`.

        Source: check-in-and-commands.md 5.6, AP-08, AP-10.
        """
        bundle = decode_push_bundle(pem)
        key, spent_key = await self._find_key(bundle, tenant, key_pem)
        now = self._clock.now()
        identity = verify_push_identity(bundle, key, now)
        current = await self._certificates.load_push_certificate(identity.topic)
        if current is not None and current.tenant != tenant:
            raise PushTopicForeign(topic=identity.topic)
        if not confirm_new_topic:
            await self._guard_topic(tenant, identity.topic)
        verb = "add-push-certificate" if current is None else "renew-push-certificate"
        await self._certificates.save_push_certificate(
            self._sealed(identity, tenant, now),
            AuditEntry(
                tenant=tenant,
                actor=actor,
                verb=verb,
                subject=identity.topic,
                reason="new topic confirmed" if confirm_new_topic else "",
            ),
            spent_key=spent_key,
        )
        return Imported(
            topic=identity.topic, not_after=identity.not_after, replaced=current is not None
        )

    async def resume(self, tenant: TenantId, topic: Topic, *, actor: str) -> None:
        """Push a paused topic again with the certificate it has: APNs was at fault, not the certificate."""
        certificate = await self._load_own(tenant, topic)
        await self._certificates.save_push_certificate(
            replace(certificate, paused_since=None, paused_reason=None),
            AuditEntry(
                tenant=tenant, actor=actor, verb="resume-push-topic", subject=topic, reason=""
            ),
        )

    async def show(self, tenant: TenantId, topic: Topic) -> PushTopicStatus:
        """One topic. Raises `PushCertificateMissing`."""
        certificate = await self._load_own(tenant, topic)
        counts = await self._certificates.count_enrollments_by_topic(tenant)
        return _status_of(certificate, counts.get(topic, 0))

    async def show_all(self, tenant: TenantId) -> tuple[PushTopicStatus, ...]:
        """Every topic of a tenant, the one that expires first at the front."""
        certificates = await self._certificates.list_push_certificates(tenant)
        counts = await self._certificates.count_enrollments_by_topic(tenant)
        by_expiry = sorted(certificates, key=lambda one: (one.not_after, one.topic))
        return tuple(_status_of(one, counts.get(one.topic, 0)) for one in by_expiry)

    async def load_client_certificate(self, topic: Topic) -> ClientCertificate | None:
        """The current certificate with its key in clear; unsealed once a certificate. Raises `SealBroken`."""
        certificate = await self._certificates.load_push_certificate(topic)
        if certificate is None:
            self._opened_by_topic.pop(topic, None)
            return None
        opened = self._opened_by_topic.get(topic)
        if opened is None or opened.record_id != certificate.record_id:
            label = _label(certificate.tenant, topic, certificate.record_id)
            opened = ClientCertificate(
                record_id=certificate.record_id,
                chain_pem=certificate.certificate_pem,
                key_pem=self._sealer.unseal(certificate.sealed_key, label),
            )
            self._opened_by_topic[topic] = opened
        return opened

    async def _find_key(
        self, bundle: PushBundle, tenant: TenantId, key_pem: Secret | None
    ) -> tuple[PrivateKey, RecordId | None]:
        """The key to use, and the record of ours that it was, if it waited here."""
        if bundle.key is not None:
            return bundle.key, None
        if key_pem is not None:
            return load_private_key(key_pem), None
        for leaf in leaves(bundle):
            pending = await self._certificates.find_pending_push_key(tenant, public_key_id(leaf))
            if pending is not None:
                label = _pending_label(tenant, pending.public_key, pending.record_id)
                opened = self._sealer.unseal(pending.sealed_key, label)
                return load_private_key(opened), pending.record_id
        raise PushKeyMissing

    async def _guard_topic(self, tenant: TenantId, topic: Topic) -> None:
        """Refuse a topic that no enrolled device uses while devices use others. (AP-08)"""
        counts = await self._certificates.count_enrollments_by_topic(tenant)
        devices = sum(counts.values())
        if devices and not counts.get(topic):
            raise PushTopicNew(
                f"this certificate would not reach {devices} enrolled devices: they use another topic",
                topic=topic,
                used=" ".join(sorted(used for used, count in counts.items() if count)),
            )

    def _sealed(self, identity: PushIdentity, tenant: TenantId, now: datetime) -> PushCertificate:
        record_id = self._new_record_id()
        label = _label(tenant, identity.topic, record_id)
        return PushCertificate(
            topic=identity.topic,
            tenant=tenant,
            record_id=record_id,
            certificate_pem=identity.chain_pem,
            sealed_key=self._sealer.seal(identity.key_pem, label),
            not_before=identity.not_before,
            not_after=identity.not_after,
            imported_at=now,
        )

    async def _load_own(self, tenant: TenantId, topic: Topic) -> PushCertificate:
        certificate = await self._certificates.load_push_certificate(topic)
        if certificate is None or certificate.tenant != tenant:
            raise PushCertificateMissing(topic=topic)
        return certificate


def _label(tenant: TenantId, topic: Topic, record_id: RecordId) -> SealLabel:
    return SealLabel(
        tenant=tenant,
        holder=Holder(topic),
        kind=TokenKind.PUSH_CERTIFICATE,
        record_id=record_id,
    )


def _pending_label(tenant: TenantId, public_key: str, record_id: RecordId) -> SealLabel:
    return SealLabel(
        tenant=tenant, holder=Holder(public_key), kind=PENDING_KEY_KIND, record_id=record_id
    )


def _status_of(certificate: PushCertificate, enrollments: int) -> PushTopicStatus:
    return PushTopicStatus(
        topic=certificate.topic,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        imported_at=certificate.imported_at,
        paused_since=certificate.paused_since,
        paused_reason=certificate.paused_reason,
        enrollments=enrollments,
    )
