"""The load generator checks what it is told, so that a fast wrong answer is not taken for a fast answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.wire import Exchange, WrongAnswer, connect, fault, render_request

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[int]:
    """A server that gives these answers, one a request, each in two pieces; its port."""
    left = list(answers)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            await reader.readuntil(b"\r\n\r\n")
            answer = left.pop(0)
            writer.write(answer[:5])
            await writer.drain()
            writer.write(answer[5:])
        await reader.read()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def exchange(holds: bytes = b"") -> Exchange:
    return Exchange(render_request("PUT", "/mdm", b"", {}), holds, "Idle")


async def test_each_right_answer_is_timed_and_followed_by_the_next_request() -> None:
    async with answering(_OK % 0, _OK % 3 + b"abc") as port:
        load = await connect(port, [[exchange(), exchange(b"b")]])
        timings = await load.run()
    assert len(timings.by_kind["Idle"]) == 2
    assert len(timings.all) == 2


async def test_a_wrong_answer_ends_the_run() -> None:
    async with answering(_OK % 3 + b"abc") as port:
        load = await connect(port, [[exchange()]])
        with pytest.raises(WrongAnswer, match="3 bytes where none belongs"):
            await load.run()


@pytest.mark.parametrize(
    ("head", "body", "holds"),
    [
        (b"HTTP/1.1 503 Service Unavailable", b"", b""),
        (b"HTTP/1.1 200 OK", b"something", b""),
        (b"HTTP/1.1 200 OK", b"another command", b"the command"),
        (b"HTTP/1.1 200 OK", b"", b"the command"),
    ],
)
def test_an_answer_of_another_shape_is_a_fault(head: bytes, body: bytes, holds: bytes) -> None:
    assert fault(exchange(holds), head, body) is not None
