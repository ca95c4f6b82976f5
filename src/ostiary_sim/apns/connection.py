"""One HTTP/2 connection of a push client: frames in, verdicts out.

Source: check-in-and-commands.md 5.1, 5.3.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from cryptography import x509
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame, SettingsFrame

from ostiary_sim.apns.levers import Break
from ostiary_sim.apns.requests import Verdict

_READ_BYTES: Final = 65536
_BODY_LIMIT_BYTES: Final = 65536

Headers = list[tuple[str, str]]
Judge = Callable[[Headers, bytes, x509.Certificate, int], Verdict | Break]
"""Takes headers, body, the client's certificate and the connection's number."""


@dataclass(slots=True)
class _Stream:
    headers: Headers
    body: bytearray = field(default_factory=bytearray)


class PushConnection:
    """Serves one client until it leaves or a lever ends the connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        judge: Judge,
        number: int,
        max_streams: int,
        goaway_reason: Callable[[], str],
        holds: Callable[[], bool],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._judge = judge
        self._number = number
        self._goaway_reason = goaway_reason
        self._holds = holds
        self._held: list[int] = []
        """Streams whose request is there and whose answer is held back, in order of arrival."""
        self._certificate: x509.Certificate | None = None
        self._streams: dict[int, _Stream] = {}
        self._http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._max_streams = max_streams
        # A stream too many is refused, as HTTP/2 has it; the library would end the whole connection. (RFC 9113 5.1.2)
        self._http.local_settings = Settings(
            client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: 2**31 - 1}
        )

    async def serve(self) -> None:
        """Answer until the connection ends."""
        tls = self._writer.get_extra_info("ssl_object")
        shown = tls.getpeercert(binary_form=True)
        if shown is None or tls.selected_alpn_protocol() != "h2":
            return
        self._certificate = certificate = x509.load_der_x509_certificate(shown)
        self._http.initiate_connection()
        await self._flush()
        limit = SettingsFrame(settings={SettingsFrame.MAX_CONCURRENT_STREAMS: self._max_streams})
        self._writer.write(limit.serialize())
        while received := await self._reader.read(_READ_BYTES):
            try:
                happened = self._http.receive_data(received)
            except ProtocolError:
                await self._flush()
                return
            for event in happened:
                if not self._take(event, certificate):
                    await self._flush()
                    return
            await self._flush()

    @property
    def held(self) -> int:
        """How many requests wait for their answer."""
        return len(self._held)

    async def release(self, count: int | None = None) -> None:
        """Answer the first requests that wait, or all of them."""
        answered, self._held = self._held[:count], self._held[len(self._held[:count]) :]
        if self._certificate is not None:
            for number in answered:
                self._answer(number, self._certificate)
        await self._flush()

    async def leave_amid(self, answered: int, *, how: Break) -> None:
        """Answer the first of the requests that wait, say which was the last, and be gone; the others never were.

        With `Break.RESET` nothing is said, so a client cannot know what became of those without an answer.
        """
        if how is Break.GOAWAY:
            last = self._held[answered - 1] if answered else 0
            reason = json.dumps({"reason": self._goaway_reason()}).encode()
            await self._flush()
            # By hand: the library takes a GOAWAY for the end of the connection, and would answer nobody after it.
            farewell = GoAwayFrame(last_stream_id=last, additional_data=reason)
            self._writer.write(farewell.serialize())
        await self.release(answered)
        self._held.clear()
        self._streams.clear()
        if how is Break.RESET:
            self._writer.transport.abort()
        else:
            self._writer.close()

    async def say_goodbye(self) -> None:
        """Close in good order: GOAWAY, then the end."""
        self._goaway(None)
        await self._flush()
        self._writer.close()

    def _take(self, event: events.Event, certificate: x509.Certificate) -> bool:
        match event:
            case events.RequestReceived(stream_id=int(number)) if (
                len(self._streams) >= self._max_streams
            ):
                self._http.reset_stream(number, ErrorCodes.REFUSED_STREAM)
            case events.RequestReceived(stream_id=int(number), headers=headers) if headers:
                self._streams[number] = _Stream([(str(k), str(v)) for k, v in headers])
            case events.DataReceived(stream_id=int(number), data=chunk) if chunk is not None:
                self._http.acknowledge_received_data(event.flow_controlled_length or 0, number)
                stream = self._streams.get(number)
                if stream is not None and len(stream.body) <= _BODY_LIMIT_BYTES:
                    stream.body += chunk
            case events.StreamEnded(stream_id=int(number)) if (
                number in self._streams and self._holds()
            ):
                self._held.append(number)
            case events.StreamEnded(stream_id=int(number)):
                return self._answer(number, certificate)
            case events.StreamReset(stream_id=int(number)):
                self._streams.pop(number, None)
                if number in self._held:
                    self._held.remove(number)
            case events.ConnectionTerminated():
                return False
            case _:
                pass  # settings, pings and window updates: h2 has answered them
        return True

    def _answer(self, number: int, certificate: x509.Certificate) -> bool:
        stream = self._streams.pop(number, None)
        if stream is None:
            return True
        verdict = self._judge(stream.headers, bytes(stream.body), certificate, self._number)
        if verdict is Break.RESET:
            self._writer.transport.abort()
            return False
        if verdict is Break.GOAWAY:
            self._goaway(number)
            return False
        if isinstance(verdict, Verdict):
            self._respond(number, stream, verdict)
        return True

    def _respond(self, number: int, stream: _Stream, verdict: Verdict) -> None:
        apns_id = dict(stream.headers).get("apns-id", str(uuid4()))
        headers = [(":status", str(int(verdict.status))), ("apns-id", apns_id)]
        if verdict.body:
            headers.append(("content-type", "application/json"))
        self._http.send_headers(number, headers, end_stream=not verdict.body)
        if verdict.body:
            self._http.send_data(number, verdict.body, end_stream=True)

    def _goaway(self, unanswered: int | None) -> None:
        # Streams above the last one named were not processed, so a client may repeat them elsewhere.
        last = None if unanswered is None else max(0, unanswered - 2)
        reason = json.dumps({"reason": self._goaway_reason()}).encode()
        self._http.close_connection(ErrorCodes.NO_ERROR, reason, last)

    async def _flush(self) -> None:
        pending = self._http.data_to_send()
        if pending and not self._writer.is_closing():
            self._writer.write(pending)
            await self._writer.drain()
