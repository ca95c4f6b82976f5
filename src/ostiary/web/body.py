"""Reading request bodies within bounds: a bound for each request, and a budget for all of them together."""

import sys
from typing import Final, Self

from starlette.requests import Request
from starlette.types import Receive

from ostiary.errors import Malformed, TooLarge, Unavailable

_MOST_DIGITS: Final = 18


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

        with BodyReader(receive, budget, announced_bytes=None) as body:
            whole = await body.rest(limit=16 * 1024 * 1024)

    The budget is held until the `with` ends.  (check-in-and-commands.md 3.9)
    """

    __slots__ = ("_announced_bytes", "_budget", "_held_bytes", "_receive")

    def __init__(
        self, receive: Receive, budget: BodyBudget, *, announced_bytes: int | None
    ) -> None:
        """`announced_bytes` is the Content-Length, None for a chunked body."""
        self._receive = receive
        self._budget = budget
        self._announced_bytes = announced_bytes
        self._held_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._budget.give_back(self._held_bytes)
        self._held_bytes = 0

    async def rest(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: it is, or says that it will be, longer than `limit`.
            TooManyBodies: the budget of all requests is used up.
            SenderGone: the connection ended before the body did.
        """
        if self._announced_bytes is not None and self._announced_bytes > limit:
            raise BodyTooLarge(limit_bytes=limit)
        chunk, is_whole = await self._next(limit)
        if is_whole:
            return chunk
        read = bytearray(chunk)
        while not is_whole:
            chunk, is_whole = await self._next(limit)
            read += chunk
        return bytes(read)

    async def _next(self, limit: int) -> tuple[bytes, bool]:
        """What has arrived since, held in the budget, and whether that was all."""
        message = await self._receive()
        if message["type"] != "http.request":
            raise SenderGone
        chunk: bytes = message.get("body", b"")
        self._budget.take(len(chunk))
        self._held_bytes += len(chunk)
        if self._held_bytes > limit:
            raise BodyTooLarge(limit_bytes=limit)
        return chunk, not message.get("more_body", False)


async def read_body(request: Request, *, limit: int, budget: BodyBudget) -> bytes:
    """The whole body of a request, at most `limit` bytes; the budget is held while it arrives.

    Raises:
        BodyTooLarge, TooManyBodies, SenderGone: as `BodyReader.rest`.
    """
    length = request.headers.get("content-length")
    announced = None if length is None else announced_bytes(length.encode("latin-1"))
    with BodyReader(request.receive, budget, announced_bytes=announced) as body:
        return await body.rest(limit)


def announced_bytes(length: bytes) -> int | None:
    """The number in a Content-Length."""
    # The HTTP parser has refused what is not a number, or stands beside a transfer encoding. It takes any number of zeros.
    if not length.isdigit():
        return None
    digits = length.lstrip(b"0") or b"0"
    return int(digits) if len(digits) <= _MOST_DIGITS else sys.maxsize
