"""Escrowed secrets beyond a single decision: which are due, and every generation of one.

Every engine implements this and passes tests/conformance/test_storage_escrow.py.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from ostiary.domain.escrow import Escrow
from ostiary.domain.token import Holder, TenantId, TokenKind, TokenRecord

MOST_RECORDS: Final = 100
"""Generations that are given at once; nobody has tried more passwords than that at a Mac."""


class Escrows(Protocol):
    """Where the secrets of devices stand, and what they are. What changes them is decided by `Enrollments.decide`."""

    async def claim_due(self, now: datetime, *, limit: int, lease: timedelta) -> Sequence[Escrow]:
        """Those that are due, oldest first, as they were; each is put off by `lease` so that nobody else takes it.

        Whoever handles one stores another `due_at` with its decision, or finds it again after the lease.
        """

    async def records_of(
        self, tenant: TenantId, holder: Holder, kind: TokenKind
    ) -> Sequence[TokenRecord]:
        """Every generation with its value, newest first; the newest `MOST_RECORDS`."""

    async def find(self, tenant: TenantId, holder: Holder) -> Sequence[Escrow]:
        """Where each secret of a device id stands, by kind."""
