"""The bounds of the listener, against real connections on loopback; times are injected and short."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ostiary.web.body import BodyBudget, BodyReader, announced_bytes, read_body
from ostiary.web.front import FrontDoor, Wing
from ostiary.web.problems import Door
from ostiary.web.server import BoundedProtocol, Bounds, Listener

KIB = 1024
Endpoint = Callable[[Request], Awaitable[Response]]


class House:
    """One listener with a few addresses, and the budget that they share."""

    def __init__(self, bounds: Bounds, budget_bytes: int) -> None:
        self.budget = BodyBudget(budget_bytes)
        self.release = asyncio.Event()
        self.entered = asyncio.Event()
        routes = [
            Route("/mdm", self.mdm, methods=["PUT"]),
            Route("/slow", self.slow, methods=["GET"]),
            Route("/big", self.big, methods=["GET"]),
            Route("/headers", self.headers, methods=["PUT"]),
            Route("/v1/push/{ids}", self.ids, methods=["GET"]),
            Route("/bug", self.bug, methods=["PUT"]),
        ]
        self.listener = Listener(FrontDoor([Wing(door=Door.DEVICE, routes=routes)]), bounds)
        self.port = 0

    async def mdm(self, request: Request) -> Response:
        length = request.headers.get("content-length")
        announced = None if length is None else announced_bytes(length.encode())
        with BodyReader(request.receive, self.budget, announced_bytes=announced) as body:
            whole = await body.rest(128 * KIB)
        return PlainTextResponse(str(len(whole)))

    async def slow(self, _request: Request) -> Response:
        self.entered.set()
        await self.release.wait()
        return PlainTextResponse("done")

    async def big(self, _request: Request) -> Response:
        return PlainTextResponse("x" * (8 * KIB * KIB))

    async def headers(self, request: Request) -> Response:
        await read_body(request, limit=KIB, budget=self.budget)
        return PlainTextResponse(request.headers.get("client-cert", "none"))

    async def ids(self, request: Request) -> Response:
        return PlainTextResponse(request.path_params["ids"])

    async def bug(self, request: Request) -> Response:
        await read_body(request, limit=KIB, budget=self.budget)
        raise ValueError("planted-secret")

    async def talk(self, *parts: bytes) -> bytes:
        """Send the parts, and read until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await asyncio.wait_for(reader.read(), timeout=20)
        except ConnectionError:
            return b""
        finally:
            writer.close()


@asynccontextmanager
async def a_house(
    bounds: Bounds | None = None, budget_bytes: int = 1024 * KIB
) -> AsyncIterator[House]:
    house = House(bounds or Bounds(sweep_seconds=0.05), budget_bytes)
    sock = socket.create_server(("127.0.0.1", 0))
    house.port = sock.getsockname()[1]
    await house.listener.open(sock)
    try:
        yield house
    finally:
        house.release.set()
        await house.listener.close(drain_seconds=2)


def request(line: str, *headers: str, body: bytes = b"", close: bool = True) -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: mdm", *headers, *(["Connection: close"] if close else [])]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the other side of a connection has come so far."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - uvicorn's state raises no event
            await asyncio.sleep(0.001)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def text(answer: bytes) -> str:
    return answer.partition(b"\r\n\r\n")[2].decode()


async def test_a_body_is_read_whole_and_the_budget_is_given_back() -> None:
    """check-in-and-commands.md 3.9."""
    async with a_house() as house:
        answer = await house.talk(request("PUT /mdm", body=b"x" * 100 * KIB))
        assert (status(answer), text(answer)) == (200, str(100 * KIB))
        assert house.budget.held_bytes == 0


async def test_an_announced_gibibyte_is_refused_before_it_is_sent() -> None:
    """users.md 5.4 case 15."""
    async with a_house() as house:
        head = request("PUT /mdm", f"Content-Length: {1024**3}")
        answer = await house.talk(head, b"x" * 64 * KIB)
        assert status(answer) == 413
        assert house.budget.held_bytes == 0


async def test_a_chunked_body_without_end_is_cut_off_at_the_bound() -> None:
    """users.md 5.4 case 15."""
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    async with a_house() as house:
        answer = await house.talk(request("PUT /mdm", "Transfer-Encoding: chunked"), *[chunk] * 200)
        assert status(answer) in {413, 0}  # 0: the connection was gone before we read
        assert house.budget.held_bytes == 0


async def test_bodies_of_all_senders_together_stay_within_the_budget() -> None:
    """check-in-and-commands.md 3.9: a global budget for body bytes in flight."""
    async with a_house(budget_bytes=100 * KIB) as house:
        held_reader, held = await asyncio.open_connection("127.0.0.1", house.port)
        held.write(request("PUT /mdm", f"Content-Length: {100 * KIB}") + b"x" * 90 * KIB)
        await held.drain()
        await until(lambda: house.budget.held_bytes >= 90 * KIB)
        answer = await house.talk(request("PUT /mdm", body=b"x" * 20 * KIB))
        assert status(answer) == 503
        assert b"retry-after" in answer.lower()
        held.write(b"x" * 10 * KIB)
        assert status(await held_reader.read()) == 200
        held.close()
        assert house.budget.held_bytes == 0


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(request("PUT /mdm", "X: " + "a" * 33 * KIB), id="one long value"),
        pytest.param(request("PUT /mdm", *["X: " + "a" * 90] * 400), id="many headers"),
        pytest.param(request("PUT /" + "a" * 33 * KIB), id="a long address"),
    ],
)
async def test_a_header_block_over_its_bound_is_refused(head: bytes) -> None:
    """check-in-and-commands.md 3.9: header block 32 KiB."""
    async with a_house() as house:
        assert status(await house.talk(head)) == 431


async def test_a_header_without_end_is_refused_while_it_arrives() -> None:
    """users.md 5.4 case 15: what the parser holds back is bounded too."""
    async with a_house() as house:
        parts = [b"PUT /mdm HTTP/1.1\r\nHost: mdm\r\nX: ", *[b"a" * 8 * KIB] * 64]
        assert status(await house.talk(*parts)) in {431, 0}
        assert not house.listener.state.connections


async def test_a_header_block_within_its_bound_is_heard() -> None:
    """A signature of 4 kB and more must pass. (check-in-and-commands.md 3.9)"""
    async with a_house() as house:
        head = request("PUT /mdm", "Mdm-Signature: " + "a" * 16 * KIB, body=b"x")
        assert status(await house.talk(head)) == 200


async def test_a_sender_that_never_ends_its_headers_is_told_and_closed() -> None:
    """users.md 5.4 case 15: slow client."""
    bounds = Bounds(sweep_seconds=0.02, header_timeout_seconds=0.05)
    async with a_house(bounds) as house:
        assert status(await house.talk(b"PUT /mdm HTTP/1.1\r\nHo")) == 408
        assert status(await house.talk()) == 408  # and one that never speaks at all


async def test_whoever_spoke_while_the_server_slept_is_not_late() -> None:
    """A machine that stood still finds every time over before it has read what came meanwhile."""
    bounds = Bounds(sweep_seconds=0.02, header_timeout_seconds=0.05)
    loop = asyncio.get_running_loop()
    async with a_house(bounds) as house:
        house.listener._wary_until = loop.time() + 3600
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(b"PUT /mdm HTTP/1.1\r\nHo")
        await until(lambda: bool(house.listener.state.connections))
        (connection,) = house.listener.state.connections
        assert isinstance(connection, BoundedProtocol)
        await until(lambda: connection.is_late(loop.time()))
        swept_at = house.listener._swept_at
        await until(lambda: house.listener._swept_at != swept_at)
        assert connection in house.listener.state.connections
        house.listener._wary_until = 0.0
        assert status(await reader.read()) == 408
        writer.close()


async def test_a_sender_that_falls_silent_within_its_body_is_closed() -> None:
    """users.md 5.4 case 15: slow client."""
    bounds = Bounds(sweep_seconds=0.02, body_idle_seconds=0.05)
    async with a_house(bounds) as house:
        answer = await house.talk(request("PUT /mdm", "Content-Length: 10") + b"x")
        assert status(answer) == 408
        assert house.budget.held_bytes == 0


async def test_a_body_slower_than_the_least_rate_is_closed() -> None:
    """users.md 5.4 case 15: one byte at a time is never silent, and still too slow."""
    bounds = Bounds(sweep_seconds=0.02, body_grace_seconds=0.05, body_bytes_per_second=10_000)
    async with a_house(bounds) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(request("PUT /mdm", "Content-Length: 100000"))

        async def drip() -> None:
            while not reader.at_eof():
                writer.write(b"x")
                await asyncio.sleep(0.005)

        dripping = asyncio.ensure_future(drip())
        try:
            answer = await asyncio.wait_for(reader.read(), timeout=20)
        except ConnectionResetError:
            answer = b""  # a byte that crossed the close resets the connection, the answer with it
        dripping.cancel()
        writer.close()
        assert not answer or status(answer) == 408
        await until(lambda: not house.listener.state.connections)


async def test_a_receiver_that_does_not_read_its_answer_is_cut_off() -> None:
    """A connection that we wait for is bounded as well."""
    bounds = Bounds(sweep_seconds=0.02, write_timeout_seconds=0.05)
    async with a_house(bounds) as house:
        sock = socket.create_connection(("127.0.0.1", house.port))
        sock.sendall(request("GET /big"))
        await until(lambda: bool(house.listener.state.connections))
        await until(lambda: not house.listener.state.connections)
        sock.close()


async def test_hundreds_of_idle_connections_do_not_keep_a_device_out() -> None:
    """users.md 5.4 case 15, scaled: over the cap the longest idle connection makes room."""
    bounds = Bounds(sweep_seconds=0.05, connections=50)
    async with a_house(bounds) as house:
        idle = [await asyncio.open_connection("127.0.0.1", house.port) for _ in range(300)]
        assert status(await house.talk(request("PUT /mdm", body=b"x"))) == 200
        assert len(house.listener.state.connections) <= 50
        for _, writer in idle:
            writer.close()


async def test_with_every_connection_at_work_a_new_one_is_told_to_wait() -> None:
    """Work under way is never cut off to make room."""
    bounds = Bounds(sweep_seconds=0.05, connections=2)
    async with a_house(bounds) as house:
        busy = [asyncio.ensure_future(house.talk(request("GET /slow"))) for _ in range(2)]
        await house.entered.wait()
        await until(lambda: not house.listener.idle and len(house.listener.state.tasks) == 2)
        assert status(await house.talk()) == 503
        house.release.set()
        assert [status(answer) for answer in await asyncio.gather(*busy)] == [200, 200]


async def test_closing_lets_a_request_under_way_end() -> None:
    """users.md 3.7: graceful stop that drains check-ins."""
    async with a_house() as house:
        waiting = asyncio.ensure_future(house.talk(request("GET /slow", close=False)))
        await house.entered.wait()
        closing = asyncio.ensure_future(house.listener.close(drain_seconds=5))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", house.port)
        house.release.set()
        await closing
        assert status(await waiting) == 200


async def test_a_trailer_is_no_header() -> None:
    """A proxy strips a forged certificate header from the head of a request, not from its trailer."""
    body = b"1\r\nx\r\n0\r\nClient-Cert: :forged:\r\n\r\n"
    async with a_house() as house:
        answer = await house.talk(request("PUT /headers", "Transfer-Encoding: chunked") + body)
        assert text(answer) == "none"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"PUT /mdm HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(b"PUT /mdm HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
        pytest.param(
            b"PUT /mdm HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="two lengths of different kinds",
        ),
        pytest.param(
            b"PUT /mdm HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            id="two lengths",
        ),
        pytest.param(b"PUT /mdm HTTP/1.1\r\nHost : a\r\n\r\n", id="space before colon"),
        pytest.param(b"PUT /mdm\xff HTTP/1.1\r\nHost: a\r\n\r\n", id="address not ASCII"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="TLS to a plain port"),
    ],
)
async def test_a_request_that_two_readers_would_read_differently_is_refused(head: bytes) -> None:
    """users.md 5.4 case 48: request smuggling."""
    async with a_house() as house:
        assert status(await house.talk(head)) == 400


@pytest.mark.parametrize(
    "path",
    [
        *(
            "//mdm",
            "/./mdm",
            "/mdm/",
            "/MDM",
            "/mdm;x",
            "/mdm%00",
            "/%6ddm",
            "/mdm/../mdm",
            "/mdm.",
        ),
        *(
            "/v1//push/a",
            "/v1/./push/a",
            "/v1%2fpush/a",
            "/v1/push%2fa",
            "/v1/push/a/b",
            "/v1/push/",
        ),
        *("/v1/push/a%2fb", "/v1/push/..", "/v1/push/%2e%2e", "/v1/push/a%00", "/v1/push/%ff"),
        *("/v1/..;/v1/push/a", "/", "/admin", "*"),
    ],
)
async def test_another_spelling_of_an_address_leads_nowhere(path: str) -> None:
    """users.md 5.4 case 48: deny by default."""
    async with a_house() as house:
        for method in ("PUT", "GET"):
            answer = await house.talk(request(f"{method} {path}"))
            assert status(answer) in {404, 400}
            assert text(answer) in {"Not Found\n", "Bad Request"}


async def test_old_and_absolute_forms_reach_the_same_address_and_no_other() -> None:
    """users.md 5.4 case 48: HTTP/1.0 without Host, absolute-form, method override."""
    async with a_house() as house:
        old = b"PUT /mdm HTTP/1.0\r\nContent-Length: 1\r\n\r\nx"
        assert text(await house.talk(old)) == "1"
        assert status(await house.talk(request("PUT http://evil/none"))) == 404
        override = request("GET /mdm", "X-HTTP-Method-Override: PUT")
        assert status(await house.talk(override)) == 405


async def test_a_parameter_is_decoded_once() -> None:
    """Ids hold colons; programs may write them encoded."""
    async with a_house() as house:
        assert text(await house.talk(request("GET /v1/push/A%3Ab,C"))) == "A:b,C"


async def test_a_bug_shows_nothing_to_the_sender() -> None:
    """style.md 7: 500, no detail."""
    async with a_house() as house:
        answer = await house.talk(request("PUT /bug", body=b"x"))
        assert status(answer) == 500
        assert b"planted-secret" not in answer
