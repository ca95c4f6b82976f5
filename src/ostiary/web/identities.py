"""The routes behind `ostiary identity`: which certificates end, who renews next, and asking for it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ostiary.domain.token import Fingerprint
from ostiary.errors import OstiaryError
from ostiary.ports.renewals import EndingPlace
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.caller import Caller
from ostiary.services.commands import NobodyNamed
from ostiary.services.identity_renewal import IdentityRenewalService
from ostiary.services.identity_survey import IdentityStanding, IdentitySurvey
from ostiary.services.policies import PolicyBook
from ostiary.web import lines
from ostiary.web.asks import AskUnreadable, limit_of, read_ask, texts
from ostiary.web.body import BodyBudget

_LONGEST_SECONDS: Final = 3650 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRoutes:
    """One address for each thing that the command does."""

    renewals: IdentityRenewalService
    survey: IdentitySurvey
    policies: PolicyBook
    budget: BodyBudget
    caller: Callable[[Request], Caller]
    meant: Callable[[str], Awaitable[EnrollmentId]]
    """Whom an id or a serial number means."""

    def routes(self) -> list[Route]:
        return [
            Route("/identities", self.identities, methods=["GET"]),
            Route("/identities/due", self.due, methods=["GET"]),
            Route("/identities/renew", self.renew, methods=["POST"]),
            Route("/identities/renew-due", self.renew_due, methods=["POST"]),
        ]

    async def identities(self, request: Request) -> Response:
        await self.policies.refresh()
        limit = limit_of(request)
        found = await self.survey.list_identities(
            _place(request.query_params.get("after")),
            within=_span(request.query_params.get("within_seconds")),
            limit=limit + 1,
        )
        told = found[:limit]
        after = _after(told[-1]) if len(found) > limit else None
        return JSONResponse(
            {
                "items": [identity_line(one) for one in told],
                "after": after,
                "more": after is not None,
            }
        )

    async def due(self, request: Request) -> Response:
        """Who would be asked, and when; nobody is."""
        await self.policies.refresh()
        within = _span(request.query_params.get("within_seconds")) or timedelta(0)
        found = await self.survey.look_ahead(within=within, limit=limit_of(request))
        return JSONResponse(
            {
                "gate": found.barrier.gate.value,
                "why": found.barrier.why,
                "is_all": found.is_all,
                "items": [identity_line(one) for one in found.standings],
            }
        )

    async def renew(self, request: Request) -> Response:
        ask = await read_ask(request, self.budget)
        if not (ids := texts(ask, "ids")):
            raise NobodyNamed
        results = [await self._renew(one, self.caller(request)) for one in ids]
        return JSONResponse({"results": results})

    async def renew_due(self, request: Request) -> Response:
        """One round, as a worker makes one a minute."""
        await read_ask(request, self.budget)
        await self.policies.refresh()
        done = await self.renewals.run_round(by_hand=True)
        return JSONResponse(
            {"asked": done.asked, "gate": done.barrier.gate.value, "why": done.barrier.why}
        )

    async def _renew(self, name: str, caller: Caller) -> dict[str, Any]:
        enrollment_id = name
        try:
            enrollment_id = await self.meant(name)
            uuid = await self.renewals.renew(enrollment_id, caller)
        except OstiaryError as error:
            return {"id": enrollment_id, "uuid": None} | lines.refusal(error)
        return {"id": enrollment_id, "uuid": uuid} | lines.refusal(None)


def identity_line(one: IdentityStanding) -> lines.Line:
    """One certificate in force: its end, how it was proven, and its renewal."""
    row, known = one.sight.enrollment, one.sight.renewal
    return {
        "id": row.id,
        "serial": row.facts.serial_number,
        "name": row.facts.device_name,
        "state": row.state.value,
        "standing": row.standing.value,
        "fingerprint": one.binding.fingerprint,
        "proof": one.binding.proof.value,
        "suspicious": one.is_suspicious,
        "bound": lines.moment(one.binding.bound_at),
        "not_after": lines.moment(one.binding.not_after),
        "life_left": one.life_left,
        "renewal": one.word.value,
        "renews_at": lines.moment(one.renews_at),
        "canary": one.is_named_canary or (known is not None and known.is_canary),
        "attempts": known.attempts if known is not None else 0,
        "asked": lines.moment(known.asked_at if known is not None else None),
        "command": known.command_uuid if known is not None else None,
        "outcome": known.outcome if known is not None else "",
        "last_seen": lines.moment(row.last_seen_at),
    }


def _after(last: IdentityStanding) -> str:
    return f"{last.binding.not_after.isoformat()} {last.binding.fingerprint}"


def _place(after: str | None) -> EndingPlace | None:
    if not after:
        return None
    at, _, fingerprint = after.partition(" ")
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise AskUnreadable("this is no place in the list") from None
    if moment.tzinfo is None:
        raise AskUnreadable("this is no place in the list")
    return EndingPlace(not_after=moment, fingerprint=Fingerprint(fingerprint))


def _span(seconds: str | None) -> timedelta | None:
    if seconds is None:
        return None
    if not seconds.isascii() or not seconds.isdigit() or int(seconds) > _LONGEST_SECONDS:
        days = _LONGEST_SECONDS // 86_400
        raise AskUnreadable(f"`within_seconds` is a number, at most that of {days} days")
    return timedelta(seconds=int(seconds))
