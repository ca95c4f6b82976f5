"""Sealing: the one way a secret value reaches the disk."""

from typing import Protocol

from ostiary.domain.token import Holder, KeyedDigest, RecordId, SealedValue, TenantId
from ostiary.errors import Unavailable
from ostiary.secret import Secret
from ostiary.values import dataclass


class SealBroken(Unavailable):
    """A sealed value does not open: its key is away, or the record was altered or moved.

    Never the same as "no token": callers let it rise as an error. (escrowed-secrets.md 4.0.2)
    """

    hint = "Check the root key with `ostiary doctor`; restore the keys directory that belongs to this database."


class EpochUnknown(SealBroken):
    """A sealed value names an epoch whose key is not open here; it may be younger than our last look."""

    hint = (
        "If this lasts for longer than a few seconds: `ostiary key check` says whether the root key on this node"
        " is the one of the database."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SealLabel:
    """What a sealed value is bound to: moved to another row, it does not open."""

    tenant: TenantId
    holder: Holder
    kind: str
    """A `TokenKind`, or `command` for queued payloads, `key` for private keys of ours."""
    record_id: RecordId


class Sealer(Protocol):
    """Seals values under a tenant's epoch key and makes keyed digests; synchronous, microseconds each."""

    def seal(self, value: Secret, label: SealLabel) -> SealedValue: ...

    def unseal(self, sealed: SealedValue, label: SealLabel) -> Secret:
        """The value in clear. Raises `SealBroken`."""

    def digest(self, tenant: TenantId, value: Secret) -> KeyedDigest:
        """HMAC-SHA-256 of the value under the tenant's digest key, which does not rotate with sealing."""
