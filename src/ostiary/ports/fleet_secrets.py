"""What a whole fleet's secrets are judged by, page by page: reports, without any value.

Both databases implement this and pass tests/conformance/test_fleet_secrets.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.escrow import Escrow
from ostiary.domain.facts import FactSheet
from ostiary.domain.token import TenantId, TokenKind, TokenRecord

NEWEST_OF_A_KIND: Final = 20
"""The device's own generations of each kind (`is_own`) that are read beside those that pointers name.

History says why one is missing, or doubted; whoever contests the device puts nothing into it, and pushes nothing out.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSecrets:
    """One managed device with all that its secrets are judged by."""

    device: Enrollment
    escrows: tuple[Escrow, ...]
    """Sorted by kind."""
    records: tuple[TokenRecord, ...]
    """Without values, sorted by kind and generation; superseded, revoked and dead ones are left out, and those of contesters."""
    sheets: tuple[FactSheet, ...]
    """Sorted by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPage:
    """A stretch of the fleet in the order of ids."""

    devices: tuple[DeviceSecrets, ...]
    after: str | None
    """Where the next page goes on; None: there is none."""


class FleetSecrets(Protocol):
    """Reads, off the hot path."""

    async def list_secrets(
        self, tenant: TenantId, kinds: Sequence[TokenKind], *, limit: int, after: str | None
    ) -> FleetPage:
        """The managed devices among the next `limit` enrollments and channels, all of one moment; `after` is a page's.

        `kinds` are the kinds whose generations are wanted.
        """
