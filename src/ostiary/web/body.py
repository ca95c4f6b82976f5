"""Reading request bodies within bounds: a bound for each request, and a budget for all of them together."""

from typing import Self

from starlette.requests import Request

from ostiary.errors import Malformed, TooLarge, Unavailable


class BodyTooLarge(TooLarge):
    """The body is larger than this address takes."""


class TooManyBodies(Unavailable):
    """More bodies are arriving at once than we hold in memory."""

    hint = "Devices repeat by themselves; raise bounds.body_budget_bytes if this is the usual load."


class SenderGone(Malformed):
    """The sender went away, or was too slow, before its body was whole."""


class BodyBudget:
    """Counts the bytes of all bodies that are in memory, and refuses what would be too many."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, size: int) -> None:
        """Raises `TooManyBodies`, and then holds nothing more than before."""
        if self.held_bytes + size > self.limit_bytes:
            raise TooManyBodies(limit_bytes=self.limit_bytes)
        self.held_bytes += size

    def give_back(self, size: int) -> None:
        self.held_bytes -= size


class BodyReader:
    """Reads one body, once its sender is known to hold a certificate that we trust.

        with BodyReader(request, budget) as body:
            whole = await body.rest(limit=16 * 1024 * 1024)

    The budget is held until the `with` ends.  (check-in-and-commands.md 3.9)
    """

    def __init__(self, request: Request, budget: BodyBudget) -> None:
        self._receive = request.receive
        self._budget = budget
        self._read = bytearray()
        self._is_whole = False
        self.announced_bytes = _announced(request)
        """Content-Length; None for a chunked body."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._budget.give_back(len(self._read))
        self._read = bytearray()

    async def rest(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: it is, or says that it will be, longer than `limit`.
            TooManyBodies: the budget of all requests is used up.
            SenderGone: the connection ended before the body did.
        """
        if self.announced_bytes is not None and self.announced_bytes > limit:
            raise BodyTooLarge(limit_bytes=limit)
        while not self._is_whole and len(self._read) <= limit:
            await self._read_on()
        if len(self._read) > limit:
            raise BodyTooLarge(limit_bytes=limit)
        return bytes(self._read)

    async def _read_on(self) -> None:
        message = await self._receive()
        if message["type"] != "http.request":
            raise SenderGone
        chunk: bytes = message.get("body", b"")
        self._budget.take(len(chunk))
        self._read += chunk
        self._is_whole = not message.get("more_body", False)


async def read_body(request: Request, *, limit: int, budget: BodyBudget) -> bytes:
    """The whole body of a request, at most `limit` bytes; the budget is held while it arrives.

    Raises:
        BodyTooLarge, TooManyBodies, SenderGone: as `BodyReader.rest`.
    """
    with BodyReader(request, budget) as body:
        return await body.rest(limit)


def _announced(request: Request) -> int | None:
    # The HTTP parser has refused what is not a number, or stands beside a transfer encoding.
    length = request.headers.get("content-length")
    return int(length) if length is not None and length.isdecimal() else None
