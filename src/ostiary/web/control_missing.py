"""The route behind `ostiary token missing`, on the control socket."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.secret_gap import Gap
from ostiary.domain.secret_survey import SURVEYED
from ostiary.domain.token import DEFAULT_TENANT, TenantId, TokenKind
from ostiary.services.missing_secrets import MissingSecrets
from ostiary.web.asks import limit_of, one_of
from ostiary.web.lines import Line, moment
from ostiary.web.secret_lines import severity_word


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingControl:
    """Whoever reaches it may know what is missing; no value is in an answer."""

    missing: MissingSecrets
    tenant: TenantId = DEFAULT_TENANT

    def routes(self) -> list[Route]:
        return [Route("/secrets/missing", self.list_missing, methods=["GET"])]

    async def list_missing(self, request: Request) -> Response:
        """A line for each gap of the next devices that have any, and how many devices were looked at for them."""
        asked = request.query_params.get("kind")
        page = await self.missing.list_missing(
            self.tenant,
            kind=one_of(TokenKind, asked, "kind of secret", SURVEYED)
            if asked is not None
            else None,
            limit=limit_of(request),
            after=request.query_params.get("after"),
        )
        return JSONResponse(
            {
                "items": [gap_line(one.device, gap) for one in page.found for gap in one.gaps],
                "looked_at": page.looked_at,
                "with_gaps": len(page.found),
                "by_kind": {kind.value: number for kind, number in page.by_kind.items()},
                "not_known": {
                    report.value: {"devices": one.devices, "first": list(one.first)}
                    for report, one in page.not_known.items()
                },
                "after": page.after,
                "more": page.after is not None,
            }
        )


def gap_line(device: Enrollment, gap: Gap) -> Line:
    """One gap of one device."""
    return {
        "id": device.id,
        "serial": device.facts.serial_number,
        "name": device.facts.device_name,
        "model": device.facts.product_name or device.facts.model,
        "os": device.facts.os_version,
        "last_seen": moment(device.last_seen_at),
        "kind": gap.kind.value,
        "state": gap.state.value,
        "severity": severity_word(gap.severity),
        "why": gap.why,
        "since": moment(gap.since),
        "reported": moment(gap.told_at),
        "todo": gap.todo,
    }
