"""What the audit tells of the near past."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from ostiary.domain.token import TenantId


class AuditCounts(Protocol):
    """Counts what people and programs did, over all nodes of an installation."""

    async def count_audited(
        self, tenant: TenantId, verbs: Sequence[str], *, since: datetime, among: int
    ) -> int:
        """How many of the newest `among` entries are of one of these verbs, in lower case, and of that time."""
