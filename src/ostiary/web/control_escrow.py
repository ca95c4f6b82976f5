"""The routes behind `ostiary token rotate`, `set`, `clear`, `verify` and `ostiary filevault`, on the control socket."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ostiary.domain.escrow_wishes import ALLOWED, Verb
from ostiary.domain.token import DEFAULT_TENANT, TenantId, TokenKind
from ostiary.protocol.mdm.filevault_profile import FileVaultOptions
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.caller import Caller, Scope
from ostiary.services.escrow import EscrowDesk, Wish
from ostiary.services.filevault import FileVaultDesk
from ostiary.services.secrets_desk import SecretsDesk
from ostiary.web.asks import Fields, actor_of, flag, number, one_of, optional_text, read_ask, text
from ostiary.web.body import BodyBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowServices:
    """What the command line can have done with secrets."""

    desk: EscrowDesk
    filevault: FileVaultDesk
    names: SecretsDesk
    """Says which device an id or a serial number means."""
    budget: BodyBudget
    tenant: TenantId = DEFAULT_TENANT


class EscrowControl:
    """The routes; whoever reaches them may do everything, and says who he is for the audit."""

    def __init__(self, services: EscrowServices) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """One address for each thing a command does."""
        return [
            Route("/secrets/change", self.change, methods=["POST"]),
            Route("/secrets/verify", self.verify, methods=["POST"]),
            Route("/filevault", self.filevault, methods=["POST"]),
        ]

    async def change(self, request: Request) -> Response:
        """Set, change, clear or fetch one secret of one device; the value that was drawn is not in the answer."""
        ask = await read_ask(request, self._services.budget)
        wish = Wish(
            enrollment_id=await self._meant(ask),
            kind=_kind(ask, _verb(ask)),
            value=_secret(ask, "value"),
            clears=flag(ask, "clears"),
            unlock_with=_secret(ask, "unlock_with"),
            reason=optional_text(ask, "reason") or "",
        )
        changing = await self._services.desk.change_or_defer(wish, self._caller(request))
        return JSONResponse({"uuid": changing.uuid, "waits_for": changing.waits_for})

    async def verify(self, request: Request) -> Response:
        """Ask the device whether it holds what is believed."""
        ask = await read_ask(request, self._services.budget)
        uuid = await self._services.desk.verify(
            await self._meant(ask), _kind(ask, Verb.VERIFY), self._caller(request)
        )
        return JSONResponse({"uuid": uuid})

    async def filevault(self, request: Request) -> Response:
        """Send a Mac its FileVault profile."""
        ask = await read_ask(request, self._services.budget)
        options = FileVaultOptions(
            defer=not flag(ask, "at_once"),
            max_bypass_attempts=number(ask, "bypasses")
            if ask.get("bypasses") is not None
            else None,
            force_in_setup_assistant=flag(ask, "in_setup_assistant"),
            show_recovery_key=not flag(ask, "hide_key"),
        )
        uuid = await self._services.filevault.install(
            await self._meant(ask),
            self._caller(request),
            location=text(ask, "location"),
            options=options,
        )
        return JSONResponse({"uuid": uuid})

    async def _meant(self, ask: Fields) -> EnrollmentId:
        return await self._services.names.id_of(self._services.tenant, text(ask, "id"))

    def _caller(self, request: Request) -> Caller:
        return Caller(
            name=actor_of(request),
            tenant=self._services.tenant,
            scopes=frozenset({Scope.ADMIN}),
        )


def _verb(ask: Fields) -> Verb:
    """What is wished; a value that is no text is refused when it is read."""
    if flag(ask, "clears"):
        return Verb.CLEAR
    return Verb.ROTATE if ask.get("value") is None else Verb.SET


def _kind(ask: Fields, verb: Verb) -> TokenKind:
    offered = (kind for kind in TokenKind if kind in ALLOWED[verb])
    return one_of(TokenKind, text(ask, "kind"), "kind of secret", offered)


def _secret(ask: Fields, key: str) -> Secret | None:
    given = optional_text(ask, key)
    return Secret(given.encode()) if given else None
