"""The route behind `ostiary lights-out`, on the control socket."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.protocol.mdm.lights_out import Switch
from ostiary.services.caller import Caller, Scope
from ostiary.services.lights_out import LightsOutDesk, Switching
from ostiary.web import lines
from ostiary.web.asks import AskUnreadable, actor_of, number, one_of, read_ask, text
from ostiary.web.body import BodyBudget


class SwitchWord(StrEnum):
    """What is done to the Macs, for people."""

    ON = "on"
    OFF = "off"
    RESET = "reset"


_SWITCH: Final = {
    SwitchWord.ON: Switch.ON,
    SwitchWord.OFF: Switch.OFF,
    SwitchWord.RESET: Switch.RESET,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LightsOutControl:
    """The route; whoever reaches it may do everything, and says who he is for the audit."""

    desk: LightsOutDesk
    budget: BodyBudget
    tenant: TenantId = DEFAULT_TENANT

    def routes(self) -> list[Route]:
        return [Route("/lights-out", self.switch, methods=["POST"])]

    async def switch(self, request: Request) -> Response:
        ask = await read_ask(request, self.budget)
        targets = ask.get("targets")
        if not isinstance(targets, dict) or not all(isinstance(v, str) for v in targets.values()):
            raise AskUnreadable("`targets` is missing")
        caller = Caller(name=actor_of(request), tenant=self.tenant, scopes=frozenset({Scope.ADMIN}))
        wish = Switching(
            controller=EnrollmentId(text(ask, "controller")),
            switch=_SWITCH[one_of(SwitchWord, text(ask, "switch"), "switch")],
            dns_name_by_target={EnrollmentId(key): name for key, name in targets.items()},
            confirmed=number(ask, "confirm") if ask.get("confirm") is not None else None,
        )
        enqueued = await self.desk.switch(wish, caller)
        return JSONResponse(
            {
                "uuid": enqueued.uuid,
                "request_type": enqueued.request_type,
                "results": [
                    {"id": one} | lines.refusal(error) for one, error in enqueued.refused.items()
                ],
            }
        )
