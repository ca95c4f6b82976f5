"""What those who run the server ask: does it live, is it ready, what are its figures."""

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ostiary.errors import OstiaryError
from ostiary.services.api_tokens import ApiTokenService
from ostiary.services.caller import Scope
from ostiary.web.api_auth import caller_of
from ostiary.web.problems import log_problem

READY_TIMEOUT_SECONDS: Final = 5.0
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def operations_routes(
    *,
    check: Callable[[], Awaitable[None]],
    figures: Callable[[], Awaitable[bytes]],
    tokens: ApiTokenService,
) -> list[Route]:
    """/healthz, /readyz and /metrics.

    `check` raises what is not ready; `figures` makes the metrics page. The first two are open and
    say one word. Metrics name topics and counts, so they are for this machine, or for an API token
    with the scope `read`.
    """

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                await check()
        except TimeoutError:
            return PlainTextResponse("not ready\n", 503)
        except OstiaryError as error:
            log_problem(error)
            return PlainTextResponse("not ready\n", 503)
        return PlainTextResponse("ready\n")

    async def metrics(request: Request) -> Response:
        if not _comes_from_this_machine(request):
            (await caller_of(request, tokens)).require(Scope.READ)
        return Response(await figures(), media_type=METRICS_TYPE)

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]


def _comes_from_this_machine(request: Request) -> bool:
    """Whether the sender is here, and not behind a proxy that is here."""
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False
