"""The load generator's side of HTTP/1.1: keep-alive connections that send what was made beforehand, and check every answer.

A general client would cost more than the server that it measures; this one does what the bench needs and no more.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from typing_extensions import override

SLOWEST_SECONDS = 300.0
"""One measurement, with the slowest contestant on a busy machine."""
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


class WrongAnswer(Exception):
    """The server answered something else than it should have; such a run measures nothing."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as bytes, and what its answer must look like."""

    request: bytes
    holds: bytes = b""
    """A part of the answer's body; empty: the body must be empty, too."""
    kind: str = ""
    """Which figures this request counts for."""


@dataclass(slots=True)
class Timings:
    """How long each request took, by kind, in seconds."""

    by_kind: dict[str, list[float]] = field(default_factory=dict)

    def add(self, kind: str, seconds: float) -> None:
        self.by_kind.setdefault(kind, []).append(seconds)

    @property
    def all(self) -> list[float]:
        return [seconds for some in self.by_kind.values() for seconds in some]


def render_request(method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A whole HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("ascii") + _END_OF_HEAD + body


class Connection(asyncio.Protocol):
    """Sends its exchanges one after the other; `finished` is done after the last answer, or fails with the first wrong one."""

    def __init__(
        self, exchanges: Sequence[Exchange], timings: Timings, finished: asyncio.Future[None]
    ) -> None:
        self._exchanges = exchanges
        self._timings = timings
        self.finished = finished
        self._next = 0
        self._buffer = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports write and close, and are no asyncio.Transport by name.
        self._transport = cast(asyncio.Transport, transport)

    def begin(self) -> None:
        """Send the first request."""
        self._send_next()

    @override
    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        end = buffer.find(_END_OF_HEAD)
        if end < 0:
            self._buffer = buffer
            return
        head = buffer[:end]
        size = body_size(head)
        if len(buffer) < end + 4 + size:
            self._buffer = buffer
            return
        self._buffer = b""
        self._take(head, buffer[end + 4 :])

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_exception(WrongAnswer("the server closed the connection"))

    def _take(self, head: bytes, body: bytes) -> None:
        exchange = self._exchanges[self._next]
        self._timings.add(exchange.kind, time.perf_counter() - self._sent_at)
        wrong = fault(exchange, head, body)
        if wrong is not None:
            self._end(WrongAnswer(f"{exchange.kind}: {wrong}"))
            return
        self._next += 1
        self._send_next()

    def _send_next(self) -> None:
        if self._next == len(self._exchanges):
            self._end(None)
            return
        self._sent_at = time.perf_counter()
        assert self._transport is not None  # noqa: S101 - set when the connection was made
        self._transport.write(self._exchanges[self._next].request)

    def _end(self, error: WrongAnswer | None) -> None:
        if not self.finished.done():
            if error is None:
                self.finished.set_result(None)
            else:
                self.finished.set_exception(error)
        assert self._transport is not None  # noqa: S101 - set when the connection was made
        self._transport.close()


def body_size(head: bytes) -> int:
    """The Content-Length of an answer's head; 0 without one."""
    at = head.lower().find(_LENGTH)
    if at < 0:
        return 0
    return int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])


def fault(exchange: Exchange, head: bytes, body: bytes) -> str | None:
    """What is wrong with an answer; None if it is as it should be."""
    status = head[9:12]
    if status != b"200":
        return f"status {status.decode('latin-1')}: {body[:200].decode('latin-1')}"
    if not exchange.holds:
        return None if not body else f"a body of {len(body)} bytes where none belongs"
    return None if exchange.holds in body else "the body does not hold what it should"


@dataclass(frozen=True, slots=True)
class Load:
    """Open connections, each with a queue of requests; nothing is sent yet."""

    connections: list[Connection]
    timings: Timings

    async def run(self) -> Timings:
        """Send everything, over all connections at once. Raises WrongAnswer, TimeoutError."""
        for connection in self.connections:
            connection.begin()
        async with asyncio.timeout(SLOWEST_SECONDS):
            await asyncio.gather(*(connection.finished for connection in self.connections))
        return self.timings


def _itself(connection: Connection) -> Connection:
    return connection


async def connect(port: int, queues: Sequence[Sequence[Exchange]]) -> Load:
    """A connection to the server for each queue that holds something."""
    loop = asyncio.get_running_loop()
    timings = Timings()
    made = [Connection(queue, timings, loop.create_future()) for queue in queues if queue]
    for connection in made:
        await loop.create_connection(partial(_itself, connection), "127.0.0.1", port)
    return Load(made, timings)


async def ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of one answer, for the preparations. Raises OSError, asyncio.IncompleteReadError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        head = await reader.readuntil(_END_OF_HEAD)
        return head, await reader.readexactly(body_size(head))
    finally:
        writer.close()
