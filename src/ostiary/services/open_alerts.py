"""Alerts that still hold: one that tells of something settled since is kept for whoever asks what happened, and not told as news."""

from typing import Final

from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Standing
from ostiary.domain.escrow import EscrowState
from ostiary.domain.token import Holder, TenantId, TokenKind
from ostiary.ports.escrow import Escrows
from ostiary.ports.reports import AlertLine, Reports
from ostiary.protocol.mdm.identity import EnrollmentId

CONTESTED: Final = "contested"
UNCERTAIN: Final = "-uncertain"
_KINDS: Final = {f"{kind.value}{UNCERTAIN}": kind for kind in TokenKind}


class OpenAlerts:
    """Reads, and closes nothing: what an alert is about says by itself whether it is over."""

    def __init__(self, reports: Reports, escrows: Escrows) -> None:
        self._reports = reports
        self._escrows = escrows

    async def list(self, tenant: TenantId, *, limit: int) -> tuple[AlertLine, ...]:
        """Of the newest `limit` alerts those that are not known to be over."""
        lines = await self._reports.list_alerts(tenant, limit=limit)
        return tuple([line for line in lines if not await self._is_over(line.alert)])

    async def _is_over(self, alert: Alert) -> bool:
        if alert.kind == CONTESTED:
            rows = await self._reports.find_enrollments(alert.tenant, EnrollmentId(alert.subject))
            return not any(row.standing is Standing.CONTESTED for row in rows)
        if (kind := _KINDS.get(alert.kind)) is None:
            return False
        found = await self._escrows.find(alert.tenant, Holder(alert.subject))
        escrow = next((one for one in found if one.kind is kind), None)
        return (
            escrow is not None and escrow.state is EscrowState.SETTLED and escrow.candidate is None
        )
