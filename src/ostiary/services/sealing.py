"""Sealing a secret of one device for the ledger, before storage is asked to decide."""

from datetime import datetime

from ostiary.domain.ledger import SealedToken
from ostiary.domain.token import Holder, RecordId, TenantId, TokenKind
from ostiary.ports.sealer import Sealer, SealLabel
from ostiary.secret import Secret
from ostiary.services.identifiers import new_identifier


def seal_for(
    sealer: Sealer, tenant: TenantId, holder: str, kind: TokenKind, value: Secret, now: datetime
) -> SealedToken:
    """The value under a fresh record id, bound to its tenant, holder and kind; with its keyed digest."""
    record_id = RecordId(new_identifier(now))
    label = SealLabel(tenant=tenant, holder=Holder(holder), kind=kind, record_id=record_id)
    return SealedToken(
        record_id=record_id,
        kind=kind,
        value=sealer.seal(value, label),
        digest=sealer.digest(tenant, value),
        size=len(value),
    )
