"""A TCP server that leaves no conversation behind when it closes. Used by the push service, courier and levers."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Talks with one client until it leaves; what breaks the connection is no error here."""

LINE_LIMIT_BYTES: Final = 65536


class Door:
    """Listens at one address.

    Args:
        converse: called for each client.
        host: address to listen on.
        port: 0 takes a free one; `port` says which after `open`.
    """

    def __init__(self, converse: Converse, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._converse = converse
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._conversations: set[asyncio.Task[Any]] = set()

    async def open(self, tls: ssl.SSLContext | None = None) -> None:
        """Let clients in."""
        self._server = await asyncio.start_server(
            self._serve, self.host, self.port, ssl=tls, limit=LINE_LIMIT_BYTES
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Let nobody in, break off every conversation, and wait for its end."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()
        while self._conversations:
            await asyncio.wait(set(self._conversations))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._conversations.add(task)
            task.add_done_callback(self._conversations.discard)
        self._writers.add(writer)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass  # the client left in its own way
        finally:
            self._writers.discard(writer)
            writer.close()
