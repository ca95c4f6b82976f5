"""Invitations, and the enrollment challenges inside the profiles that they give out."""

from dataclasses import dataclass
from datetime import datetime

from ostiary.domain.enrollment import Bound, Credential, InstalledProfile, Purpose
from ostiary.domain.token import Fingerprint, KeyedDigest, RecordId, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A person may fetch enrollment profiles with a code; `uses_left` counts certificates, not downloads."""

    id: RecordId
    tenant: TenantId
    code: KeyedDigest
    bound: Bound
    valid_until: datetime
    uses_left: int
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A single-use SCEP challenge: the ledger's kind `enrollment-challenge`, form digest.

    It remembers what its invitation was bound to; the certificate issued for it carries `id` in an
    extension that only the CA writes, and that is what later proves an enrollment.
    """

    id: RecordId
    tenant: TenantId
    digest: KeyedDigest
    purpose: Purpose
    bound: Bound
    profile: InstalledProfile
    invitation_id: RecordId | None
    valid_until: datetime
    created_at: datetime
    spent_at: datetime | None = None
    spent_by_key: str | None = None
    """Hex SHA-256 of the SubjectPublicKeyInfo that spent it; the same key may ask again for a while. (6.3 rule 2)"""
    issued: Fingerprint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """The change that spends a challenge: it, one use of its invitation, and the new certificate, together."""

    challenge: Challenge
    credential: Credential
    certificate: bytes
    """DER."""
