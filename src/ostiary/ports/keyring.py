"""Keys as rotation sees them: what is loaded from storage, opened under the root key, and put to use."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from ostiary.domain.token import TenantId
from ostiary.errors import Missing
from ostiary.ports.sealer import Sealer
from ostiary.ports.storage import EpochRow


class TenantUnknown(Missing):
    """There is no tenant of this name."""

    hint = "`ostiary key check` lists every tenant with its keys."


class RotatingSealer(Sealer, Protocol):
    """A sealer that says under which epochs it works."""

    def tenants(self) -> tuple[TenantId, ...]: ...

    def current_epoch(self, tenant: TenantId) -> int:
        """Under which epoch values are sealed now. Raises `TenantWithoutKeys`."""

    def newest_epoch(self, tenant: TenantId) -> int:
        """The latest epoch that is known here; for a while after a rotation it opens values and seals none."""

    def epoch_of(self, head: bytes) -> int:
        """The epoch that a sealed value names in its first `ports.resealing.HEAD_BYTES` bytes; 0 if it names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLook:
    """What was found of one wrapped key."""

    row: EpochRow
    fits: bool
    """Wrapped by the root key that lies on this node."""
    opens: bool
    """Unwrapped just now."""


class RootChange(Protocol):
    """A new root key that lies on the disk beside the old one, and is not in force."""

    @property
    def rows(self) -> tuple[EpochRow, ...]:
        """Every key, wrapped anew."""

    def finish(self) -> Path:
        """Let the new key take the old one's name, once `rows` are stored; where the old one lies now."""


class Keyring(Protocol):
    """Opens and wraps tenant keys under the root key. It reads files, so it is off the hot path."""

    def adopt(self, rows: Sequence[EpochRow], now: datetime) -> None:
        """Open what is new among all rows of the database, and seal under what is known for long enough.

        Raises:
            RootKeyDoesNotMatch, KeyFileMissing, …: something is new and does not open; all stays as it was.
        """

    def make_epoch(self, rows: Sequence[EpochRow], tenant: TenantId, now: datetime) -> EpochRow:
        """The next epoch of a tenant, to be stored. Raises `TenantUnknown`, and what `adopt` raises."""

    def examine(self, rows: Sequence[EpochRow]) -> tuple[KeyLook, ...]: ...

    def changing_root(
        self, rows: Sequence[EpochRow], now: datetime
    ) -> AbstractContextManager[RootChange]:
        """A new root key on the disk, and nobody else on this node who changes it meanwhile.

        Raises:
            RootKeyInChange: somebody else does.
            RootKeyDoesNotMatch, KeyFileMissing, …: as for `adopt`.
        """
