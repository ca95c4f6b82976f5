"""Ledger records of tokens that no device hands over: challenges, API tokens, push certificates."""

import secrets

from ostiary.domain.invitation import Challenge
from ostiary.domain.token import (
    Holder,
    KeyedDigest,
    RecordId,
    SealedValue,
    TokenKind,
    TokenRecord,
    TokenState,
)
from ostiary.ports.storage import ApiToken, PushCertificate
from ostiary.storage.wording import IMPORTED, ISSUED

_NOTHING_KEPT = SealedValue(b"")


def challenge_record(challenge: Challenge) -> TokenRecord:
    """The record of a challenge, under the challenge's own id; only its digest is kept."""
    return TokenRecord(
        id=challenge.id,
        tenant=challenge.tenant,
        holder=Holder(challenge.id),
        kind=TokenKind.ENROLLMENT_CHALLENGE,
        value=_NOTHING_KEPT,
        digest=challenge.digest,
        size=0,
        state=TokenState.OK,
        cause=ISSUED,
        source=challenge.purpose.value if challenge.invitation_id is None else "invitation",
        fingerprint=None,
        relationship=challenge.bound.enrollment_key,
        received_at=challenge.created_at,
        changed_at=challenge.created_at,
        expires_at=challenge.valid_until,
    )


def api_token_record(token: ApiToken, source: str) -> TokenRecord:
    """The record of an API token, under a fresh id; only its digest is kept."""
    return TokenRecord(
        id=RecordId(secrets.token_hex(16)),
        tenant=token.tenant,
        holder=Holder(token.name),
        kind=TokenKind.API_TOKEN,
        value=_NOTHING_KEPT,
        digest=token.digest,
        size=0,
        state=TokenState.OK,
        cause=ISSUED,
        source=source,
        fingerprint=None,
        relationship=None,
        received_at=token.created_at,
        changed_at=token.created_at,
        expires_at=token.expires_at,
    )


def push_certificate_record(certificate: PushCertificate, source: str) -> TokenRecord:
    """The record of a push certificate's sealed key. Storage cannot open it, so digest and size stay empty."""
    return TokenRecord(
        id=certificate.record_id,
        tenant=certificate.tenant,
        holder=Holder(certificate.topic),
        kind=TokenKind.PUSH_CERTIFICATE,
        value=certificate.sealed_key,
        digest=KeyedDigest(b""),
        size=0,
        state=TokenState.OK,
        cause=IMPORTED,
        source=source,
        fingerprint=None,
        relationship=None,
        received_at=certificate.imported_at,
        changed_at=certificate.imported_at,
        expires_at=certificate.not_after,
    )
