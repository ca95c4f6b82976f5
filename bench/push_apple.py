"""An APNs that costs next to nothing, for measuring what stands before it: HTTP/2 over TLS, and yes to every push.

Frames are read by hand, since a library for HTTP/2 would take longer over a push than the client under measurement;
headers are not decoded at all. What a push says is the business of tests (ostiary_sim.apns); here it is counted.

python -m bench.push_apple SERVER.pem CA.pem [ANSWER_DELAY_SECONDS]: prints its port, and once its standard input ends,
how many pushes it answered.
"""

import asyncio
import ssl
import sys
from typing import Protocol, cast

import uvloop
from typing_extensions import override

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING = 0x0, 0x1, 0x4, 0x6
_ACK, _END_STREAM, _END_HEADERS = 0x1, 0x1, 0x4
_FRAME_HEAD = 9
_MAX_CONCURRENT_STREAMS = b"\x00\x03" + (1000).to_bytes(4)  # as Apple's own
_WIDEN = (2**31 - 1 - 65_535).to_bytes(4)  # the connection's window: enough for any run
# `:status: 200` stands in HPACK's static table; the other is a literal that nobody is to remember.
_ACCEPTED = b"\x88\x00\x07apns-id\x2400000000-0000-4000-8000-000000000000"


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


_HELLO = _frame(_SETTINGS, 0, 0, _MAX_CONCURRENT_STREAMS) + _frame(0x8, 0, 0, _WIDEN)
_YES_HEAD = len(_ACCEPTED).to_bytes(3) + bytes((_HEADERS, _END_STREAM | _END_HEADERS))


class Apple:
    """How many pushes were answered, and after how long each is."""

    def __init__(self, answer_delay_seconds: float) -> None:
        self.answer_delay_seconds = answer_delay_seconds
        self.answered = 0


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, apple: Apple) -> None:
        self._apple = apple
        self._unread = b""
        self._has_preface = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.begin(cast("asyncio.Transport", transport))

    def begin(self, transport: "Transport") -> None:
        """Say hello, as both sides of HTTP/2 do."""
        self._transport = transport
        transport.write(_HELLO)

    @override
    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        at = 0
        if not self._has_preface:
            if len(data) < len(_PREFACE):
                self._unread = data
                return
            self._has_preface, at = True, len(_PREFACE)
        answers: list[bytes] = []
        while len(data) - at >= _FRAME_HEAD:
            end = at + _FRAME_HEAD + int.from_bytes(data[at : at + 3])
            if end > len(data):
                break
            self._take(data[at + 3], data[at + 4], data[at + 5 : at + _FRAME_HEAD], answers)
            if data[at + 3] == _PING and not data[at + 4] & _ACK:
                answers.append(_frame(_PING, _ACK, 0, data[at + _FRAME_HEAD : end]))
            at = end
        self._unread = data[at:]
        if answers:
            self._answer(b"".join(answers))

    def _take(self, kind: int, flags: int, stream: bytes, answers: list[bytes]) -> None:
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            self._apple.answered += 1
            answers += (_YES_HEAD, stream, _ACCEPTED)
        elif kind == _SETTINGS and not flags & _ACK:
            answers.append(_frame(_SETTINGS, _ACK, 0))

    def _answer(self, frames: bytes) -> None:
        if not self._apple.answer_delay_seconds:
            self._transport.write(frames)
            return
        loop = asyncio.get_running_loop()
        loop.call_later(self._apple.answer_delay_seconds, self._transport.write, frames)


class Transport(Protocol):
    """What a connection needs of its transport."""

    def write(self, data: bytes) -> object: ...


def connection_of(apple: Apple, transport: Transport) -> "_Connection":
    """A connection that writes to `transport`, for whoever has no socket."""
    connection = _Connection(apple)
    connection.begin(transport)
    return connection


async def serve(identity: str, authority: str, answer_delay_seconds: float) -> None:
    """Answer until standard input ends."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(identity)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    apple = Apple(answer_delay_seconds)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(apple), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(apple.answered, flush=True)
    server.close()


if __name__ == "__main__":
    given = [*sys.argv[1:], "0"]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(given[0], given[1], float(given[2])))
