"""The routes behind `ostiary key`, on the control socket. No key or value is in any answer."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.ports.resealing import SealedIn
from ostiary.ports.retention import START
from ostiary.services.key_rotation import KeyRotation
from ostiary.services.resealing import ResealingService
from ostiary.web.asks import actor_of, one_of, optional_text, read_ask
from ostiary.web.body import BodyBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyControl:
    """The routes; whoever reaches them may do everything, and says who he is for the audit."""

    rotation: KeyRotation
    resealing: ResealingService
    budget: BodyBudget
    tenant: TenantId = DEFAULT_TENANT

    def routes(self) -> list[Route]:
        return [
            Route("/keys", self.keys, methods=["GET"]),
            Route("/keys/values", self.values, methods=["GET"]),
            Route("/keys/rotate", self.rotate, methods=["POST"]),
            Route("/keys/rotate-root", self.rotate_root, methods=["POST"]),
        ]

    async def keys(self, _request: Request) -> Response:
        """Every key with what the root key on this node says of it, and how far re-sealing is."""
        standing = await self.resealing.stand()
        progress = standing.progress
        items = [
            {
                "tenant": look.row.tenant,
                "epoch": look.row.epoch,
                "made_at": f"{look.row.created_at:%Y-%m-%dT%H:%M:%SZ}",
                "fits": look.fits,
                "opens": look.opens,
            }
            for look in await self.rotation.look()
        ]
        return JSONResponse(
            {
                "items": items,
                "newest": standing.targets,
                "current": standing.current,
                "is_rotated": standing.is_rotated,
                "is_resealed": standing.is_done,
                "is_begun": progress is not None,
                "resealed": 0 if progress is None else progress.resealed,
                "broken": 0 if progress is None else progress.broken,
            }
        )

    async def values(self, request: Request) -> Response:
        """How many values are under which epoch, of the next some ten thousand rows."""
        said = request.query_params.get("where", SealedIn.TOKENS.value)
        place = request.query_params.get("place", START)
        tally = await self.resealing.count(one_of(SealedIn, said, "place of sealed values"), place)
        following = tally.following
        return JSONResponse(
            {
                "numbers": [
                    {"tenant": tenant, "epoch": epoch, "values": number}
                    for (tenant, epoch), number in tally.numbers.items()
                ],
                "where": None if following is None else following[0].value,
                "place": None if following is None else following[1],
            }
        )

    async def rotate(self, request: Request) -> Response:
        ask = await read_ask(request, self.budget)
        tenant = TenantId(optional_text(ask, "tenant") or self.tenant)
        rotated = await self.rotation.rotate(tenant, actor_of(request))
        return JSONResponse(
            {
                "tenant": rotated.tenant,
                "epoch": rotated.epoch,
                "rest_seconds": int(self.rotation.rest.total_seconds()),
            }
        )

    async def rotate_root(self, request: Request) -> Response:
        await read_ask(request, self.budget)
        kept = await self.rotation.rotate_root(self.tenant, actor_of(request))
        return JSONResponse({"kept": kept})
