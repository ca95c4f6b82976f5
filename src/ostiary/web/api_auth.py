"""Which program asks: HTTP Basic with any user name, or Bearer; the secret is an API token."""

import base64
import binascii

from starlette.requests import Request

from ostiary.secret import Secret
from ostiary.services.api_tokens import ApiTokenService, ApiTokenUnknown
from ostiary.services.caller import Caller


async def caller_of(request: Request, tokens: ApiTokenService) -> Caller:
    """The program that sent this request.

    Raises:
        ApiTokenUnknown, ApiTokenExpired: none or a wrong one.
    """
    return await tokens.identify(_presented(request.headers.get("authorization", "")))


def _presented(header: str) -> Secret:
    scheme, _, value = header.partition(" ")
    match scheme.lower():
        case "bearer":
            return Secret(value.strip().encode("latin-1"))
        case "basic":
            try:
                user_and_password = base64.b64decode(value.strip(), validate=True)
            except binascii.Error:
                raise ApiTokenUnknown from None
            return Secret(user_and_password.partition(b":")[2])
        case _:
            raise ApiTokenUnknown
