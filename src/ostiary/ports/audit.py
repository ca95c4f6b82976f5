"""What the audit tells of the near past."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from ostiary.domain.token import TenantId


class AuditCounts(Protocol):
    """Counts what people and programs did, over all nodes of an installation."""

    async def count_audited(
        self, tenant: TenantId, verbs: Sequence[str], *, since: datetime
    ) -> int:
        """How many entries since then are of one of these verbs, in lower case, whatever else was audited."""
