"""`/scep`: the three operations of SCEP over HTTP, GET and POST. (check-in-and-commands.md 6.3)"""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ostiary.errors import Malformed
from ostiary.formats import base64
from ostiary.protocol.scep.request import LARGEST_MESSAGE
from ostiary.services.scep import ScepService
from ostiary.web.body import BodyBudget, BodyTooLarge, read_body

PATH: Final = "/scep"
_LONGEST_QUERY: Final = 24 * 1024
"""Characters of a message in the address; real ones have four to eight thousand, and addresses are bounded anyway."""

_NO_STORE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class UnknownOperation(Malformed):
    """SCEP knows GetCACaps, GetCACert and PKIOperation; the request asks for something else."""


def scep_routes(service: ScepService, budget: BodyBudget) -> list[Route]:
    """The one address of SCEP. Failures of PKI are 200 with a CertRep; errors rise to the front door."""

    async def answer(request: Request) -> Response:
        operation = request.query_params.get("operation", "")
        match request.method, operation:
            case (("GET" | "HEAD"), "GetCACaps"):
                caps = "".join(f"{capability}\n" for capability in service.capabilities)
                return PlainTextResponse(caps, headers=_NO_STORE)
            case (("GET" | "HEAD"), "GetCACert"):
                return Response(
                    service.ca_certificate,
                    headers=_NO_STORE,
                    media_type="application/x-x509-ca-cert",
                )
            case "GET", "PKIOperation":
                return await _answer_pki(service.answer, _message_in_query(request))
            case "POST", "PKIOperation":
                message = await read_body(request, limit=LARGEST_MESSAGE, budget=budget)
                return await _answer_pki(service.answer, message)
            case _:
                raise UnknownOperation(method=request.method)

    return [Route(PATH, answer, methods=["GET", "POST"])]


async def _answer_pki(answer: Callable[[bytes], Awaitable[bytes]], message: bytes) -> Response:
    return Response(
        await answer(message), headers=_NO_STORE, media_type="application/x-pki-message"
    )


def _message_in_query(request: Request) -> bytes:
    encoded = request.query_params.get("message", "")
    if len(encoded) > _LONGEST_QUERY:
        raise BodyTooLarge(limit_bytes=_LONGEST_QUERY)
    # A bare `+` in a query means a blank, and clients forget to escape it: base64 has no blanks of its own.
    return base64.decode_strict(encoded.replace(" ", "+"), whitespace=False)
