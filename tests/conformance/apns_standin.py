"""A small APNs of our own: real HTTP/2 over real TLS with client certificates, on loopback, answering by script."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from typing_extensions import override

from conformance.push_certificates import Authority


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPush:
    """One request as the stand-in saw it."""

    connection: int
    certificate: bytes
    """DER of the client certificate."""
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to do with a push: answer it, reset the connection, or say goodbye with GOAWAY."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    reset: bool = False
    goaway: bool = False
    silent: bool = False


Script = Callable[[SeenPush], Answer]


def accept(_push: SeenPush) -> Answer:
    return Answer()


@dataclass(slots=True)
class ApnsStandIn:
    """The running stand-in: change `script` to make it behave."""

    port: int = 0
    script: Script = accept
    seen: list[SeenPush] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    _server: asyncio.Server | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _transports: set[asyncio.Transport] = field(default_factory=set)

    async def open(self, authority: Authority, folder: Path) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate = folder / "server.pem"
        certificate.write_bytes(authority.issue_server())
        trusted = folder / "ca.pem"
        trusted.write_bytes(authority.pem)
        context.load_cert_chain(certificate)
        context.load_verify_locations(trusted)
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2"])
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, _context: None)  # refused handshakes are the point
        self._server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", 0, ssl=context
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def wait_for(self, pushes: int) -> None:
        """Return once so many pushes were seen."""
        await self.wait_until(lambda: len(self.seen) >= pushes)

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Return once something holds that holds after some change here."""
        async with asyncio.timeout(10):
            while not is_so():
                self._changed.clear()
                await self._changed.wait()

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for transport in list(self._transports):
            transport.abort()
        await self._server.wait_closed()
        self._server = None


class _Connection(asyncio.Protocol):
    """One connection: frames in, scripted answers out."""

    def __init__(self, standin: ApnsStandIn) -> None:
        self._standin = standin
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._headers: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytearray] = {}
        self._number = 0
        self._certificate = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        tls = cast("ssl.SSLObject", transport.get_extra_info("ssl_object"))
        self._certificate = tls.getpeercert(binary_form=True) or b""
        self._standin.connections += 1
        self._standin.open_now += 1
        self._number = self._standin.connections
        self._standin._transports.add(self._transport)
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1000})  # as Apple's own
        self._flush()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._standin.open_now -= 1
        self._standin._changed.set()
        self._standin._transports.discard(self._transport)

    @override
    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self._transport.abort()
            return
        for event in events:
            self._on_event(event)
            if self._transport.is_closing():
                return
        self._flush()

    def _on_event(self, event: Event) -> None:
        match event:
            case RequestReceived(stream_id=int(stream), headers=headers):
                self._headers[stream] = {str(n): str(v) for n, v in headers or ()}
                self._bodies[stream] = bytearray()
            case DataReceived(
                stream_id=int(stream), data=bytes(part), flow_controlled_length=int(n)
            ):
                self._bodies[stream] += part
                self._h2.acknowledge_received_data(n, stream)
            case StreamEnded(stream_id=int(stream)):
                self._answer(stream)
            case _:
                pass

    def _answer(self, stream: int) -> None:
        push = SeenPush(
            connection=self._number,
            certificate=self._certificate,
            headers=self._headers.pop(stream),
            body=bytes(self._bodies.pop(stream)),
        )
        self._standin.seen.append(push)
        self._standin._changed.set()
        answer = self._standin.script(push)
        if answer.reset:
            self._transport.abort()
        elif answer.goaway:
            self._h2.close_connection(ErrorCodes.NO_ERROR, last_stream_id=max(stream - 2, 0))
            self._flush()
            self._transport.close()
        elif not answer.silent:
            headers = [(":status", str(answer.status)), *answer.headers]
            if apns_id := push.headers.get("apns-id"):
                headers.append(("apns-id", apns_id))
            self._h2.send_headers(stream, headers, end_stream=not answer.body)
            if answer.body:
                self._h2.send_data(stream, answer.body, end_stream=True)

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._transport.write(data)


class RefusingTls:
    """A TLS server that refuses client certificates with the alert that OpenSSL sends for them.

    In a thread, because asyncio's own TLS drops the connection before the alert has left.
    """

    def __init__(self, authority: Authority, folder: Path) -> None:
        certificate = folder / "refusing.pem"
        certificate.write_bytes(authority.issue_server())
        trusted = folder / "ca.pem"
        trusted.write_bytes(authority.pem)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate)
        self._context.load_verify_locations(trusted)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.set_alpn_protocols(["h2"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._refuse, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _refuse(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            with self._context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            ) as tls:
                try:
                    tls.do_handshake()
                except ssl.SSLError:
                    tls.shutdown(socket.SHUT_WR)
                    while tls.recv(4096):  # else the kernel would reset before the alert is read
                        pass
