"""The front door: exact addresses, one answer for each error, one log line for each request."""

import inspect
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final
from urllib.parse import unquote

import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ostiary.web.journal import about_request
from ostiary.web.problems import Door, log_problem, render_problem

_BAD_IN_SEGMENT: Final = frozenset("/\\\x7f") | {chr(c) for c in range(32)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wing:
    """Routes whose senders are told of errors in the same way."""

    door: Door
    routes: Sequence[Route]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a request is led: by method, to an ASGI application."""

    path: str
    door: Door
    parameter: str | None
    by_method: dict[str, ASGIApp] = field(default_factory=dict)


class FrontDoor:
    """An ASGI application that leads only exact addresses to their routes; everything else does not exist.

    The address is compared as it came, before percent-decoding: `//v1`, `/./`, `%2f`, `;x` and other
    spellings that a proxy may read differently reach nothing. A route may end in one `{parameter}`,
    which is decoded. (users.md 5.4 case 48)
    """

    def __init__(self, wings: Sequence[Wing]) -> None:
        self._exact: dict[bytes, _Place] = {}
        self._under: dict[bytes, _Place] = {}
        # Bound once: a lazy logger is bound anew for each line.
        self._log = structlog.get_logger().bind()
        # Told apart from other processes' by where they begin; nobody need be unable to guess them.
        self._request_numbers = count(secrets.randbits(60))
        for wing in wings:
            for route in wing.routes:
                self._add(route, wing.door)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address that leads somewhere."""
        return tuple(place.path for place in (*self._exact.values(), *self._under.values()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request_id = f"{next(self._request_numbers):016x}"
        with about_request(request_id):
            await self._answer(request_id, scope, receive, send)

    async def _answer(self, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        answer = _Answer(send)
        place = self._find(scope)
        try:
            await self._lead(place, scope, receive, answer)
        except Exception as error:
            log_problem(error)
            if answer.status == 0:
                door = place.door if place else Door.DEVICE
                await render_problem(error, door, request_id=request_id)(scope, receive, answer)
            else:
                raise  # half an answer is out: nothing honest can follow, so the connection ends
        finally:
            self._log.info(
                "request_answered",
                method=scope["method"],
                route=place.path if place else None,
                status=answer.status,
                dur_ms=round((time.perf_counter() - started) * 1000, 2),
            )

    async def _lead(self, place: _Place | None, scope: Scope, receive: Receive, send: Send) -> None:
        if place is None:
            await PlainTextResponse("Not Found\n", 404)(scope, receive, send)
            return
        if (app := place.by_method.get(scope["method"])) is None:
            allowed = {"Allow": ", ".join(sorted(place.by_method))}
            await PlainTextResponse("Method Not Allowed\n", 405, allowed)(scope, receive, send)
            return
        await app(scope, receive, send)

    def _find(self, scope: Scope) -> _Place | None:
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        if (place := self._exact.get(raw)) is not None:
            return place
        start, slash, last = raw.rpartition(b"/")
        if not last or (place := self._under.get(start + slash)) is None:
            return None
        value = unquote(last.decode("latin-1"), errors="replace")
        if value in {".", ".."} or "\ufffd" in value or not _BAD_IN_SEGMENT.isdisjoint(value):
            return None
        scope["path_params"] = {place.parameter: value}
        return place

    def _add(self, route: Route, door: Door) -> None:
        start, slash, last = route.path.rpartition("/")
        is_parameter = last.startswith("{")
        parameter = last.strip("{}").partition(":")[0] if is_parameter else None
        table, key = (self._under, start + slash) if is_parameter else (self._exact, route.path)
        place = table.setdefault(key.encode(), _Place(route.path, door, parameter))
        for method in route.methods or ():
            if method in place.by_method:
                raise ValueError(f"two routes for {method} {route.path}")
            place.by_method[method] = _application(route)


class _Answer:
    """Sends an answer on, and remembers its status; 0 as long as nothing was sent."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
        await self._send(message)


def _application(route: Route) -> ASGIApp:
    """The route as ASGI; a plain `async def endpoint(request) -> Response` is called without a detour."""
    endpoint: Callable[[Request], Awaitable[Response]] = route.endpoint
    if not inspect.iscoroutinefunction(endpoint):
        return route.app

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    return answer
