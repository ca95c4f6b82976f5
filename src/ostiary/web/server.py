"""Listening: uvicorn's HTTP protocol on uvloop, with the bounds that it does not have by itself."""

import asyncio
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final, Self

import structlog
from starlette.types import ASGIApp
from typing_extensions import override
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

_log = structlog.get_logger()

LONGEST_PIPELINE: Final = 8
LINGER_BYTES: Final = 1024 * 1024
LINGER_SECONDS: Final = 2.0
SLEPT_SECONDS: Final = 5.0
"""A loop that did not turn for so long was stopped, or its machine was; who spoke to it may have gone elsewhere since."""
WARY_SECONDS: Final = 30.0
"""How long what stood in line meanwhile is looked at twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one sender may cost us."""

    header_bytes: int = 32 * 1024
    header_timeout_seconds: float = 15.0
    """From the connection, or the first byte of a later request, to the end of its headers."""
    body_idle_seconds: float = 15.0
    """The longest silence within a body."""
    body_bytes_per_second: int = 512
    """The slowest average, once `body_grace_seconds` are over."""
    body_grace_seconds: float = 20.0
    write_timeout_seconds: float = 30.0
    keep_alive_seconds: float = 75.0
    connections: int = 4096
    tls_handshake_seconds: float = 10.0
    tls_shutdown_seconds: float = 5.0
    sweep_seconds: float = 1.0
    """How often late connections are looked for."""


class Listener:
    """One listening socket, its connections, and an orderly end.

    uvicorn's own server polls, owns the process's signals and has one socket; we listen on two
    (devices, and the control socket), so its protocol is used without it.
    """

    def __init__(self, app: ASGIApp, bounds: Bounds, *, tls: ssl.SSLContext | None = None) -> None:
        self.bounds = bounds
        self.state = ServerState()
        self.idle: dict[BoundedProtocol, None] = {}
        """Connections between two requests, longest idle first."""
        self._swept_at: float | None = None
        self._wary_until = 0.0
        self._tls = tls
        self._config = Config(
            app,
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=int(bounds.keep_alive_seconds),
        )
        self._config.load()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def open(self, sock: socket.socket) -> Self:
        """Accept connections on a bound socket from now on."""
        loop = asyncio.get_running_loop()
        make: Callable[[], asyncio.Protocol] = self._protocol
        self._sweep()
        if sock.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(make, sock=sock)
        elif self._tls is None:
            self._server = await loop.create_server(make, sock=sock, backlog=2048)
        else:
            self._server = await loop.create_server(
                make,
                sock=sock,
                backlog=2048,
                ssl=self._tls,
                ssl_handshake_timeout=self.bounds.tls_handshake_seconds,
                ssl_shutdown_timeout=self.bounds.tls_shutdown_seconds,
            )
        return self

    async def close(self, *, drain_seconds: float) -> None:
        """Accept nobody new, let requests that are under way end, then close what is left."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self.state.connections):
            connection.shutdown()
        if self.state.tasks:
            await asyncio.wait(tuple(self.state.tasks), timeout=drain_seconds)
        cut_off = len(self.state.tasks)
        for task in tuple(self.state.tasks):
            task.cancel()
        await asyncio.sleep(0)  # so that the last answers reach their transports before these close
        for connection in list(self.state.connections):
            connection.transport.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._server = None
        _log.info("listener_closed", requests_cut_off=cut_off)

    def is_wary(self, now: float) -> bool:
        """Whether this process has slept, so that senders may have given up on what it reads now."""
        if self._swept_at is not None and now - self._swept_at > SLEPT_SECONDS:
            self._wary_until = now + WARY_SECONDS
        return now < self._wary_until

    def _drop_late_requests(self) -> None:
        """End what was under way while this process slept, for senders that are gone.

        A decision that another node has overtaken would be made again, on what was said since. (docs/decisions/0014)
        """
        for task in tuple(self.state.tasks):
            # uvicorn keeps no other link from a task to its request.
            frame = getattr(task.get_coro(), "cr_frame", None)
            cycle = frame.f_locals.get("self") if frame is not None else None
            transport = getattr(cycle, "transport", None)
            if transport is not None and sender_is_gone(transport):
                _log.warning("late_request_dropped")
                task.cancel()

    def _protocol(self) -> asyncio.Protocol:
        return BoundedProtocol(self, self._config)

    def _sweep(self) -> None:
        """Close connections whose time is over, and refresh the Date header."""
        loop = asyncio.get_running_loop()
        self.state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]
        now = loop.time()
        was_asleep = self.is_wary(now)
        if was_asleep:
            self._drop_late_requests()
        self._swept_at = now
        for connection in list(self.state.connections):
            # After a sleep it is not the sender who is late: what it sent stands in line and was not read yet.
            if (
                not was_asleep
                and isinstance(connection, BoundedProtocol)
                and connection.is_late(now)
            ):
                connection.turn_away(408, "Request Timeout")
        self._sweeper = loop.call_later(self.bounds.sweep_seconds, self._sweep)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection, with bounds on headers, time, pipelining and connections.

    A connection is always in one of these moods, and only the sender's own are timed: it owes us
    headers (`_due_at`), it owes us a body (`_due_at`, and an average rate), or we owe it an answer.
    """

    def __init__(self, listener: Listener, config: Config) -> None:
        super().__init__(config=config, server_state=listener.state, app_state={})
        self._listener = listener
        self._bounds = listener.bounds
        self._due_at: float | None = None
        self._write_due_at: float | None = None
        self._body_began_at = 0.0
        self._body_bytes = 0
        self._silent_bytes = 0
        self._header_bytes = 0
        self._in_headers = True
        self._heard_body = False
        self._linger_bytes: int | None = None

    def is_late(self, now: float) -> bool:
        """Whether the sender has kept us waiting for longer than the bounds allow."""
        if self._write_due_at is not None and now > self._write_due_at:
            return True
        if self._due_at is None or self.flow.read_paused:
            return False
        if now > self._due_at:
            return True
        spent = now - self._body_began_at - self._bounds.body_grace_seconds
        return (
            not self._in_headers
            and spent > 0
            and self._body_bytes < spent * self._bounds.body_bytes_per_second
        )

    def turn_away(self, status: int, phrase: str) -> None:
        """Say so, if nothing was said yet, and close."""
        answering = self.cycle is not None and self.cycle.response_started
        if not answering and not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                % (status, phrase.encode())
            )
        if self._write_due_at is not None:
            self.transport.abort()  # it does not read, so waiting for it to read would not end
        else:
            self.transport.close()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows to Transport
        self._due_at = self.loop.time() + self._bounds.header_timeout_seconds
        if len(self.connections) > self._bounds.connections:
            self._make_room()
        self._listener.idle[self] = None

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.idle.pop(self, None)
        self._due_at = self._write_due_at = None
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._linger_bytes is not None:
            self._linger(len(data))
            return
        if self._listener.is_wary(self.loop.time()) and sender_is_gone(self.transport):
            # It has repeated itself at another node and gone on from there: this would undo what it said since.
            _log.warning("late_request_dropped")
            self.transport.abort()
            return
        if self._listener.idle.pop(self, 0) is None and self._due_at is None:
            self._due_at = self.loop.time() + self._bounds.header_timeout_seconds
        self._heard_body = False
        super().data_received(data)
        # What is neither body nor yet a whole header waits inside the parser: bound that too.
        self._silent_bytes = 0 if self._heard_body else self._silent_bytes + len(data)
        if self._silent_bytes > self._bounds.header_bytes and not self.transport.is_closing():
            self._refuse_headers()

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        self._header_bytes = self._body_bytes = self._silent_bytes = 0
        self._heard_body = (
            True  # a new message began within this read, so what came before is paid for
        )

    @override
    def on_url(self, url: bytes) -> None:
        self._count_header(len(url))
        super().on_url(url)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value) + 4)
        if (
            self._in_headers
        ):  # a trailer is no header: it would get past a proxy that strips headers
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        if self.transport.is_closing():
            return
        if self._hosts_are_wrong() or len(self.pipeline) >= LONGEST_PIPELINE:
            raise ValueError("refused")  # the parser stops, and uvicorn answers 400 and closes
        self._in_headers = False
        self._body_began_at = self.loop.time()
        self._due_at = self._body_began_at + self._bounds.body_idle_seconds
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        self._heard_body = True
        self._body_bytes += len(body)
        self._due_at = self.loop.time() + self._bounds.body_idle_seconds
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._due_at = None  # from here on it is our turn
        self._heard_body = True
        super().on_message_complete()

    @override
    def on_response_complete(self) -> None:
        unread = self.cycle is not None and self.cycle.more_body
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if unread:
            # Closing at once would reset the connection, and the sender would never read our answer.
            self._linger_bytes = LINGER_BYTES
            self._unset_keepalive_if_required()
            self._due_at = None
            self.loop.call_later(LINGER_SECONDS, self.transport.close)
        elif not self.pipeline and self.cycle.response_complete:
            self._listener.idle[self] = None

    @override
    def pause_writing(self) -> None:
        self._write_due_at = self.loop.time() + self._bounds.write_timeout_seconds
        super().pause_writing()

    @override
    def resume_writing(self) -> None:
        self._write_due_at = None
        super().resume_writing()

    @override
    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            super().send_400_response("Bad Request")

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._bounds.header_bytes and not self.transport.is_closing():
            self._refuse_headers()

    def _refuse_headers(self) -> None:
        _log.warning("headers_too_large", limit_bytes=self._bounds.header_bytes)
        self.turn_away(431, "Request Header Fields Too Large")

    def _hosts_are_wrong(self) -> bool:
        """HTTP/1.1 names exactly one host (RFC 9112 3.2); two would let a proxy and us disagree."""
        hosts = sum(1 for name, _ in self.headers if name == b"host")
        return hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1")

    def _linger(self, size: int) -> None:
        assert self._linger_bytes is not None  # noqa: S101 - the caller has looked
        self._linger_bytes -= size
        if self._linger_bytes < 0:
            self.transport.close()

    def _make_room(self) -> None:
        """Close the connection that has been idle longest; without an idle one, this one."""
        longest_idle = next(iter(self._listener.idle), None)
        if longest_idle is not None:
            longest_idle.transport.abort()
            self._listener.idle.pop(longest_idle, None)
        else:
            _log.warning("too_many_connections", limit=self._bounds.connections)
            self.turn_away(503, "Service Unavailable")


def sender_is_gone(transport: asyncio.BaseTransport) -> bool:
    """Whether the sender has closed its side, even if there is still something to be read."""
    sock = transport.get_extra_info("socket")
    if transport.is_closing() or sock is None:
        return transport.is_closing()
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
