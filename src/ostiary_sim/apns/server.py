"""The simulated push service: takes notifications over HTTP/2 and brings them to whoever listens.

Source: check-in-and-commands.md 5.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

from cryptography import x509

from ostiary_sim.apns.certificates import PushAuthority, topic_of
from ostiary_sim.apns.connection import Headers, PushConnection
from ostiary_sim.apns.levers import ApnsLevers, Break
from ostiary_sim.apns.requests import (
    ACCEPTED,
    PushRequest,
    Verdict,
    examine,
    read_magic,
    read_token,
)
from ostiary_sim.background import Background
from ostiary_sim.clock import Clock, system_clock
from ostiary_sim.connections import load_identity
from ostiary_sim.door import Door
from ostiary_sim.push import Deliver

_REMEMBERED: Final = 100_000


@dataclass(slots=True, kw_only=True)
class _Listener:
    topic: str
    deliver: Deliver = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """The last notification for a device that is not there. Source: check-in-and-commands.md 5.2."""

    topic: str
    magic: str = field(repr=False)
    expires_at: float


class SimulatedApns:
    """An APNs on loopback; an async context manager, and a `PushService` for devices in this process.

    Args:
        authority: whose certificates it shows and accepts.
        clock: for records and stored notifications.
        host: address to listen on.
        port: 0 takes a free one.
        max_streams: concurrent requests allowed on one connection.
        names: names in the server certificate.
    """

    def __init__(
        self,
        authority: PushAuthority,
        *,
        clock: Clock = system_clock,
        host: str = "127.0.0.1",
        port: int = 0,
        max_streams: int = 1000,
        names: Sequence[str] = ("localhost", "127.0.0.1", "::1"),
    ) -> None:
        self.authority = authority
        self.levers = ApnsLevers()
        self.requests: deque[PushRequest] = deque(maxlen=_REMEMBERED)
        """Every request, oldest first."""
        self.connections = 0
        """How many connections were opened so far."""
        self._door = Door(self._serve, host, port)
        self._clock = clock
        self._max_streams = max_streams
        self._names = names
        self._listeners: dict[bytes, _Listener] = {}
        self._topics: dict[bytes, str] = {}
        self._kept: dict[bytes, _Kept] = {}
        self._background = Background()
        self._open: set[PushConnection] = set()
        self._arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._door.open(self._tls())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._door.close()
        await self._background.close()

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self._door.host

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._door.port

    @property
    def url(self) -> str:
        """Where a push client connects."""
        return f"https://{self.host}:{self.port}"

    async def settle(self) -> None:
        """Wait until every accepted notification was brought to its device and acted upon.

        Raises:
            ExceptionGroup: what went wrong on the devices' side.
        """
        await self._background.settle()
        if self._background.problems:
            problems, self._background.problems = self._background.problems, []
            raise BaseExceptionGroup("devices failed on a push", problems)

    async def connect(self, token: bytes, topic: str, deliver: Deliver) -> None:
        """Deliver what is sent to `token` from now on, and the last notification that was kept."""
        self._listeners[token] = _Listener(topic=topic, deliver=deliver)
        self._topics[token] = topic
        kept = self._kept.pop(token, None)
        if kept is not None and kept.topic == topic and kept.expires_at > self._now():
            self._background.start(_bring(deliver, kept.topic, kept.magic))

    async def disconnect(self, token: bytes) -> None:
        """The device is away: the last notification is kept for it."""
        self._listeners.pop(token, None)

    def listening(self) -> dict[bytes, str]:
        """The tokens somebody listens on, with their topics."""
        return {token: listener.topic for token, listener in self._listeners.items()}

    @property
    def held(self) -> list[int]:
        """How many requests wait for their answer, for each open connection."""
        return [connection.held for connection in self._open]

    async def until_held(self, count: int) -> None:
        """Return once so many requests wait for their answer, or more."""
        while sum(self.held) < count:
            self._arrived.clear()
            await self._arrived.wait()

    async def release(self) -> None:
        """Answer everything that waits, and hold nothing any more."""
        self.levers.holding = False
        for connection in list(self._open):
            await connection.release()

    async def leave_amid(self, answered: int, *, how: Break) -> None:
        """End every connection in the middle of what waits: the first are answered, the others never were. (5.3)"""
        self.levers.holding = False
        for connection in list(self._open):
            await connection.leave_amid(min(answered, connection.held), how=how)

    async def close_connections(self) -> None:
        """Say GOAWAY to every client now connected."""
        for connection in list(self._open):
            await connection.say_goodbye()

    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.authority.ca_pem.decode())
        load_identity(context, self.authority.issue_server_certificate(self._names))
        return context

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = PushConnection(
            reader,
            writer,
            judge=self._judge,
            number=self.connections,
            max_streams=self._max_streams,
            goaway_reason=lambda: self.levers.goaway_reason,
            holds=self._holds,
        )
        self._open.add(connection)
        try:
            await connection.serve()
        finally:
            self._open.discard(connection)

    def _holds(self) -> bool:
        if self.levers.holding:
            self._arrived.set()
        return self.levers.holding

    def _judge(
        self, headers: Headers, body: bytes, certificate: x509.Certificate, connection: int
    ) -> Verdict | Break:
        if (broken := self.levers.next_break()) is not None:
            return broken
        fields = dict(headers)
        topic = topic_of(certificate)
        token = read_token(fields.get(":path", ""))
        verdict = self._decide(headers, body, topic, token, certificate.serial_number)
        self.requests.append(
            PushRequest(
                at=self._clock(),
                method=fields.get(":method", ""),
                path=fields.get(":path", ""),
                headers={name: value for name, value in headers if not name.startswith(":")},
                body=body,
                certificate_topic=topic,
                verdict=verdict,
                connection=connection,
            )
        )
        magic = read_magic(body)
        if verdict.reason is None and token is not None and magic is not None and topic is not None:
            self._send_on(token, topic, magic, fields.get("apns-expiration"))
        return verdict

    def _decide(
        self,
        headers: Headers,
        body: bytes,
        topic: str | None,
        token: bytes | None,
        certificate_serial: int,
    ) -> Verdict:
        fault = self.levers.next_fault(token, certificate_serial)
        if fault is not None:
            return fault
        verdict = examine(headers, body, topic, push_type_required=self.levers.push_type_required)
        if verdict.reason is not None or token is None:
            return verdict
        known = self._topics.get(token)
        if known is None and self.levers.strict_tokens:
            return Verdict(status=HTTPStatus.BAD_REQUEST, reason="BadDeviceToken")
        if known is not None and known != topic:
            return Verdict(status=HTTPStatus.BAD_REQUEST, reason="DeviceTokenNotForTopic")
        return ACCEPTED

    def _send_on(self, token: bytes, topic: str, magic: str, expiration: str | None) -> None:
        if self.levers.silent:
            return
        listener = self._listeners.get(token)
        if listener is not None:
            self._background.start(_bring(listener.deliver, topic, magic))
            return
        expires_at = float("inf") if expiration is None else float(expiration)
        if expires_at > self._now():
            self._kept[token] = _Kept(topic=topic, magic=magic, expires_at=expires_at)

    def _now(self) -> float:
        return self._clock().timestamp()


async def _bring(deliver: Deliver, topic: str, magic: str) -> None:
    await deliver(topic, magic)
