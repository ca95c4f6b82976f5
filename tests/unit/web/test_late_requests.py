"""A process that slept: what senders have given up on meanwhile is not done any more."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ostiary.web.front import FrontDoor, Wing
from ostiary.web.problems import Door
from ostiary.web.server import SLEPT_SECONDS, Bounds, Listener

ASK = b"GET / HTTP/1.1\r\nHost: mdm\r\n\r\n"


class Napper:
    """A listener with one address, where each request waits until it is let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.done = 0
        route = Route("/", self.answer, methods=["GET"])
        self.listener = Listener(
            FrontDoor([Wing(door=Door.DEVICE, routes=[route])]), Bounds(sweep_seconds=600)
        )

    async def answer(self, _request: Request) -> Response:
        self.entered.set()
        await self.release.wait()
        self.done += 1
        return PlainTextResponse("done")

    @property
    def address(self) -> tuple[str, int]:
        assert self.listener._server is not None
        host, port = self.listener._server.sockets[0].getsockname()
        return host, port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    def sleep(self) -> None:
        """As if the loop had not turned for longer than a healthy one ever does."""
        swept_at = self.listener._swept_at
        assert swept_at is not None
        self.listener._swept_at = swept_at - SLEPT_SECONDS - 1


@pytest.fixture
async def napper() -> AsyncIterator[Napper]:
    made = Napper()
    await made.listener.open(socket.create_server(("127.0.0.1", 0)))
    yield made
    await made.listener.close(drain_seconds=1)


async def gone(writer: asyncio.StreamWriter) -> None:
    """Close, and know that the other side's kernel has heard it."""
    writer.close()
    await writer.wait_closed()


async def test_what_was_under_way_ends_for_senders_that_are_gone(napper: Napper) -> None:
    """Made again on what was said since, it would undo that."""
    _, leaving = await napper.connect()
    leaving.write(ASK)
    await napper.entered.wait()
    napper.entered.clear()
    staying_reader, staying = await napper.connect()
    staying.write(ASK)
    await napper.entered.wait()
    await gone(leaving)
    napper.sleep()
    with structlog.testing.capture_logs() as told:
        napper.listener._sweep()
        napper.release.set()
        answer = await staying_reader.readuntil(b"done")
    assert answer.startswith(b"HTTP/1.1 200")
    assert napper.done == 1
    assert [line["event"] for line in told].count("late_request_dropped") == 1
    await gone(staying)


async def test_what_stood_in_line_is_not_begun_for_senders_that_are_gone(napper: Napper) -> None:
    """The kernel took connection, request and farewell while nobody was awake."""
    napper.release.set()
    napper.sleep()
    with socket.create_connection(napper.address) as leaving:
        leaving.sendall(ASK)  # the loop does not turn until it is gone
    with structlog.testing.capture_logs() as told:
        reader, staying = await napper.connect()
        staying.write(ASK)
        assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200")
    assert napper.done == 1
    assert [line["event"] for line in told].count("late_request_dropped") == 1
    await gone(staying)


async def test_a_process_that_was_awake_looks_at_nobody_twice(napper: Napper) -> None:
    """Whoever closes early is served as ever: nothing is cancelled in the middle of its work."""
    _, leaving = await napper.connect()
    leaving.write(ASK)
    await napper.entered.wait()
    await gone(leaving)
    napper.listener._sweep()
    napper.release.set()
    while napper.listener.state.tasks:  # noqa: ASYNC110 - the listener's own tasks set no event
        await asyncio.sleep(0)
    assert napper.done == 1
