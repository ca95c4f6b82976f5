"""Levers of the push service for other processes: plain HTTP with JSON, on loopback alone.

`GET /` lists them, from the table LEVERS. Tokens are hex, timestamps ISO 8601, serials decimal.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

from ostiary_sim.apns.levers import Break
from ostiary_sim.apns.server import SimulatedApns
from ostiary_sim.door import Door

_BODY_LIMIT_BYTES: Final = 65536
_LOOPBACK: Final = "127.0.0.1"

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Lever:
    """One request that this server understands, as it is told to people."""

    method: str
    path: str
    body: str
    """Names of the JSON object's fields; `?` marks those that may be left out."""
    does: str


LEVERS: Final = (
    Lever("GET", "/", "", "This list."),
    Lever("GET", "/requests", "", "Every push request so far, with its verdict; no push magic."),
    Lever("GET", "/tokens", "", "Tokens on which a device listens, with their topics."),
    Lever(
        "POST",
        "/fail-next",
        "status, reason, count?, token?, timestamp?",
        "The next requests, or the next to one token, are answered with this error.",
    ),
    Lever(
        "POST", "/kill", "token, timestamp, reason?", "410 for this token, dead since timestamp."
    ),
    Lever("POST", "/revive", "token", "Undo /kill."),
    Lever("POST", "/throttle", "count?, token?", "429 TooManyRequests for the next requests."),
    Lever("POST", "/goaway", "count?", "GOAWAY instead of an answer, for the next requests."),
    Lever("POST", "/reset", "count?", "A broken connection instead of an answer."),
    Lever("POST", "/hold", "", "Take requests in and answer none."),
    Lever("POST", "/release", "", "Answer all that are held, and hold no more."),
    Lever(
        "POST",
        "/leave-amid",
        "answered, reset?",
        "On every connection: answer so many of those held, then GOAWAY, or a broken connection.",
    ),
    Lever("POST", "/goaway-now", "", "GOAWAY on every open connection."),
    Lever(
        "POST", "/distrust", "serial", "403 BadCertificate for this push certificate from now on."
    ),
    Lever("POST", "/silent", "on", "true: accept every push and deliver nothing."),
    Lever("POST", "/strict", "on", "true: refuse tokens on which nobody ever listened."),
    Lever("POST", "/heal", "", "Forget all faults that were ordered."),
)


class ControlServer:
    """Listens for levers pulled from outside; an async context manager.

    Args:
        apns: whose levers.
        port: 0 takes a free one.
    """

    def __init__(self, apns: SimulatedApns, *, port: int = 0) -> None:
        self._apns = apns
        self._door = Door(self._serve, _LOOPBACK, port)
        self._routes: Mapping[tuple[str, str], Callable[[Fields], Awaitable[object]]] = {
            ("GET", "/"): self._levers,
            ("GET", "/requests"): self._requests,
            ("GET", "/tokens"): self._tokens,
            ("POST", "/fail-next"): self._fail_next,
            ("POST", "/kill"): self._kill,
            ("POST", "/revive"): self._revive,
            ("POST", "/throttle"): self._throttle,
            ("POST", "/goaway"): self._goaway,
            ("POST", "/reset"): self._reset,
            ("POST", "/hold"): self._hold,
            ("POST", "/release"): self._release,
            ("POST", "/leave-amid"): self._leave_amid,
            ("POST", "/goaway-now"): self._goaway_now,
            ("POST", "/distrust"): self._distrust,
            ("POST", "/silent"): self._silent,
            ("POST", "/strict"): self._strict,
            ("POST", "/heal"): self._heal,
        }

    async def __aenter__(self) -> Self:
        await self._door.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._door.close()

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
        """Where the levers are."""
        return f"http://{self.host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request per connection is enough for levers."""
        status, answer = await self._answer(reader)
        body = json.dumps(answer).encode()
        head = (
            f"HTTP/1.1 {int(status)} {status.phrase}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[HTTPStatus, object]:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            fields = await _read_body(head[1:], reader)
            route = self._routes.get((method, path))
            if route is None:
                return HTTPStatus.NOT_FOUND, {"problem": "no such lever; GET / lists them"}
            return HTTPStatus.OK, await route(fields)
        except (ValueError, KeyError, TypeError, asyncio.LimitOverrunError) as problem:
            return HTTPStatus.BAD_REQUEST, {"problem": str(problem)}

    async def _levers(self, _fields: Fields) -> object:
        return [asdict(lever) for lever in LEVERS]

    async def _requests(self, _fields: Fields) -> object:
        return [
            {
                "at": each.at.isoformat(),
                "token": each.token.hex() if each.token is not None else None,
                "topic": each.topic,
                "headers": dict(each.headers),
                "status": int(each.verdict.status),
                "reason": each.verdict.reason,
                "connection": each.connection,
            }
            for each in self._apns.requests
        ]

    async def _tokens(self, _fields: Fields) -> object:
        return {token.hex(): topic for token, topic in self._apns.listening().items()}

    async def _fail_next(self, fields: Fields) -> object:
        self._apns.levers.fail_next(
            int(fields["status"]),
            str(fields["reason"]),
            count=int(fields.get("count", 1)),
            token=_token(fields),
            timestamp=_moment(fields),
        )
        return {}

    async def _kill(self, fields: Fields) -> object:
        reason = str(fields.get("reason", "Unregistered"))
        at = datetime.fromisoformat(fields["timestamp"])
        self._apns.levers.kill(bytes.fromhex(fields["token"]), at, reason)
        return {}

    async def _revive(self, fields: Fields) -> object:
        self._apns.levers.revive(bytes.fromhex(fields["token"]))
        return {}

    async def _throttle(self, fields: Fields) -> object:
        self._apns.levers.throttle(count=int(fields.get("count", 1)), token=_token(fields))
        return {}

    async def _goaway(self, fields: Fields) -> object:
        self._apns.levers.break_next(Break.GOAWAY, count=int(fields.get("count", 1)))
        return {}

    async def _reset(self, fields: Fields) -> object:
        self._apns.levers.break_next(Break.RESET, count=int(fields.get("count", 1)))
        return {}

    async def _hold(self, _fields: Fields) -> object:
        self._apns.levers.holding = True
        return {}

    async def _release(self, _fields: Fields) -> object:
        await self._apns.release()
        return {}

    async def _leave_amid(self, fields: Fields) -> object:
        how = Break.RESET if fields.get("reset") else Break.GOAWAY
        await self._apns.leave_amid(int(fields["answered"]), how=how)
        return {}

    async def _goaway_now(self, _fields: Fields) -> object:
        await self._apns.close_connections()
        return {}

    async def _distrust(self, fields: Fields) -> object:
        self._apns.levers.distrust(int(fields["serial"]))
        return {}

    async def _silent(self, fields: Fields) -> object:
        self._apns.levers.silent = bool(fields["on"])
        return {}

    async def _strict(self, fields: Fields) -> object:
        self._apns.levers.strict_tokens = bool(fields["on"])
        return {}

    async def _heal(self, _fields: Fields) -> object:
        self._apns.levers.heal()
        return {}


async def _read_body(headers: list[str], reader: asyncio.StreamReader) -> Fields:
    length = 0
    for line in headers:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length":
            length = int(value)
    if length > _BODY_LIMIT_BYTES:
        raise ValueError("too long")
    if length == 0:
        return {}
    fields = json.loads(await reader.readexactly(length))
    if not isinstance(fields, dict):
        raise TypeError("the body must be a JSON object")
    return fields


def _token(fields: Fields) -> bytes | None:
    return bytes.fromhex(fields["token"]) if "token" in fields else None


def _moment(fields: Fields) -> datetime | None:
    return datetime.fromisoformat(fields["timestamp"]) if "timestamp" in fields else None
