"""The routes behind `ostiary token health`, `escrow` and `reveal`, on the control socket."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ostiary.domain.escrow_view import FOR_PEOPLE
from ostiary.domain.severity import Severity
from ostiary.domain.token import DEFAULT_TENANT, TenantId, TokenKind
from ostiary.ports.clock import Clock
from ostiary.services.caller import Caller, Scope
from ostiary.services.reveal import RevealService
from ostiary.services.secrets_desk import SecretsDesk
from ostiary.web import secret_lines
from ostiary.web.asks import (
    actor_of,
    limit_of,
    number,
    one_of,
    parameter,
    read_ask,
    text,
)
from ostiary.web.body import BodyBudget


class SeverityWord(StrEnum):
    """How bad the health of a bootstrap token is, for people."""

    FINE = "fine"
    WARNING = "warning"
    CRITICAL = "critical"


_SEVERITY: Final = {
    SeverityWord.FINE: Severity.OK,
    SeverityWord.WARNING: Severity.WARNING,
    SeverityWord.CRITICAL: Severity.CRITICAL,
}
_FOR_PEOPLE: Final = tuple(kind for kind in TokenKind if kind in FOR_PEOPLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretServices:
    """What the command line can ask about secrets."""

    desk: SecretsDesk
    reveals: RevealService
    clock: Clock
    budget: BodyBudget
    tenant: TenantId = DEFAULT_TENANT


class SecretControl:
    """The routes; whoever reaches them may do everything, and says who he is for the audit."""

    def __init__(self, services: SecretServices) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """One address for each thing a command does."""
        return [
            Route("/bootstrap-tokens", self.bootstrap_tokens, methods=["GET"]),
            Route("/bootstrap-token", self.bootstrap_token, methods=["GET"]),
            Route("/secrets", self.secrets, methods=["GET"]),
            Route("/secrets/reveal", self.reveal, methods=["POST"]),
        ]

    async def bootstrap_tokens(self, request: Request) -> Response:
        """A page of them, worst first."""
        word = one_of(SeverityWord, request.query_params.get("severity") or "fine", "severity")
        found, after = await self._services.desk.list_bootstrap(
            self._services.tenant,
            at_least=_SEVERITY[word],
            limit=limit_of(request),
            after=request.query_params.get("after"),
        )
        items = [secret_lines.bootstrap_line(one) for one in found]
        return JSONResponse({"items": items, "after": after, "more": after is not None})

    async def bootstrap_token(self, request: Request) -> Response:
        examined = await self._services.desk.bootstrap_of(
            self._services.tenant, parameter(request, "id")
        )
        return JSONResponse(secret_lines.bootstrap_line(examined))

    async def secrets(self, request: Request) -> Response:
        held = await self._services.desk.secrets_of(self._services.tenant, parameter(request, "id"))
        now = self._services.clock.now()
        return JSONResponse(
            {
                "id": held.device.id,
                "erase": held.erasure.value if held.erasure is not None else None,
                "secrets": [secret_lines.secret_line(view, now) for view in held.secrets],
                "generations": [secret_lines.generation_line(one, now) for one in held.generations],
            }
        )

    async def reveal(self, request: Request) -> Response:
        """The one answer with values in it. Nothing on this way logs bodies, and no cache may keep it."""
        ask = await read_ask(request, self._services.budget)
        caller = Caller(
            name=actor_of(request),
            tenant=self._services.tenant,
            scopes=frozenset({Scope.ADMIN}),
        )
        given = ask.get("reason")
        revealed = await self._services.reveals.reveal(
            await self._services.desk.id_of(self._services.tenant, text(ask, "id")),
            one_of(TokenKind, text(ask, "kind"), "kind of secret", _FOR_PEOPLE),
            caller,
            reason=given if isinstance(given, str) else "",
            generation=None if ask.get("generation") is None else number(ask, "generation"),
        )
        return JSONResponse(
            secret_lines.revealed_line(revealed), headers={"cache-control": "no-store"}
        )
