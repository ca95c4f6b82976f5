"""Storage as re-sealing sees it: every place that holds sealed values, walked by its primary key.

Every engine implements these and passes tests/conformance/test_storage_sealed_values.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from ostiary.domain.token import Holder, RecordId, SealedValue, TenantId

HEAD_BYTES: Final = 5
"""So much of a sealed value tells its epoch."""

Key = tuple[str, ...]
"""The primary key of a row, or what is as unique."""


class SealedIn(StrEnum):
    """Every column that holds sealed values. A test compares these with the schema and with the code."""

    TOKENS = "token.value"
    COMMANDS = "command.payload"
    PUSH_CERTIFICATES = "push_certificate.sealed_key"
    PENDING_PUSH_KEYS = "pending_push_key.sealed_key"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSite:
    """One sealed value as a walk meets it: enough to judge it by."""

    key: Key
    tenant: TenantId
    head: bytes
    """Its first `HEAD_BYTES` bytes."""
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPage:
    """The next sealed values of one column."""

    sites: tuple[SealedSite, ...]
    place: str
    """Where the walk goes on; `ports.retention.START` once it is at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRow:
    """One sealed value, with what its sealing is bound to."""

    key: Key
    tenant: TenantId
    holder: Holder
    kind: str | None
    """None: one kind for the whole column."""
    record_id: RecordId
    value: SealedValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """The same value in clear, sealed anew."""

    key: Key
    before: SealedValue
    after: SealedValue


class SealedValues(Protocol):
    """Sealed values wherever they are."""

    async def find_sealed(self, where: SealedIn, place: str, *, limit: int) -> SealedPage:
        """What is sealed among the next `limit` rows; rows that hold a digest, a public value or nothing are left out."""

    async def load_sealed(self, where: SealedIn, keys: Sequence[Key]) -> tuple[SealedRow, ...]:
        """Those of them that are still there."""

    async def replace_sealed(self, where: SealedIn, values: Sequence[Resealed]) -> int:
        """Put each in the place of what it was made of; how many.

        A value that somebody replaced meanwhile, or is just replacing, stays as it is.
        """
