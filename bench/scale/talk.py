"""One device's side of HTTP/1.1: a connection that asks and waits, and asks again when it is refused, as devices do."""

import asyncio
import random
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

from typing_extensions import override

from bench.figures import percentile
from bench.wire import Exchange, WrongAnswer, body_size

HOST = "127.0.0.1"
_END_OF_HEAD = b"\r\n\r\n"
_STATUS = slice(9, 12)
_COME_AGAIN = (b"503", b"408")
"""Busy; or a machine that stood still, on which time was over before anybody had looked at what had come."""
_AGAIN_AFTER_SECONDS = (1.0, 3.0)
"""A device that was refused waits a moment; the server's Retry-After is of the same size."""


@dataclass(slots=True)
class Tally:
    """What was answered, how fast, and what was refused first."""

    seconds: "array[float]" = field(default_factory=lambda: array("f"))
    kinds: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    longest_refused: float = 0.0
    """The longest time from a device's first attempt at a message until it was answered, where it was refused first."""

    _recent: int = 0

    def take_recent(self) -> list[float]:
        """Those since the last call, in order of size."""
        recent, self._recent = sorted(self.seconds[self._recent :]), len(self.seconds)
        return recent

    def percentile_ms(self, percent: float) -> float:
        """In milliseconds; 0 where nothing was asked."""
        return percentile(sorted(self.seconds), percent) * 1000 if self.seconds else 0.0


class Line(asyncio.Protocol):
    """One connection: one request at a time, and its answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._buffer = b""
        self.is_open = True

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports write and close, and are no asyncio.Transport by name.
        self._transport = cast(asyncio.Transport, transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(_END_OF_HEAD)
        if end < 0 or self._answer is None:
            return
        head, body = self._buffer[:end], self._buffer[end + len(_END_OF_HEAD) :]
        if len(body) < body_size(head):
            return
        self._buffer = b""
        if not self._answer.done():
            self._answer.set_result((head, body))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server closed the connection"))

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Head and body of the answer. Raises ConnectionResetError."""
        if self._transport is None or not self.is_open:
            raise ConnectionResetError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()


class Visit:
    """A device in contact with the server. Whatever is refused is said again a moment later, on a new connection."""

    def __init__(self, port: int, tally: Tally) -> None:
        self._port = port
        self._tally = tally
        self._line: Line | None = None

    async def say(self, exchange: Exchange) -> bytes:
        """The body of the answer; 503 and 408 are refusals. Raises WrongAnswer for any other status than 200 and those."""
        began, was_refused = time.perf_counter(), False
        while True:
            answered = await self._try(exchange)
            if answered is not None:
                break
            was_refused = True
            # A device is no secret: this draw only spreads its attempts.
            await asyncio.sleep(random.uniform(*_AGAIN_AFTER_SECONDS))  # noqa: S311
        if was_refused:
            waited = time.perf_counter() - began
            self._tally.longest_refused = max(self._tally.longest_refused, waited)
        return answered

    def end(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
            self._line = None

    async def _try(self, exchange: Exchange) -> bytes | None:
        sent_at = time.perf_counter()
        try:
            line = self._line or await self._open()
            head, body = await line.ask(exchange.request)
        except OSError as error:
            self.end()
            self._tally.refusals[type(error).__name__] += 1
            return None
        status = head[_STATUS]
        if status in _COME_AGAIN:
            self.end()
            self._tally.refusals[status.decode("ascii")] += 1
            return None
        if status != b"200":
            raise WrongAnswer(f"{exchange.kind}: {status!r} {body[:200]!r}")
        self._tally.seconds.append(time.perf_counter() - sent_at)
        self._tally.kinds[exchange.kind] += 1
        return body

    async def _open(self) -> Line:
        _, self._line = await asyncio.get_running_loop().create_connection(Line, HOST, self._port)
        return self._line
