"""A TCP server that leaves no conversation behind when it closes. Used by the push service, courier and levers."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Talks with one client until it leaves; what breaks the connection is no error here."""

LINE_LIMIT_BYTES: Final = 65536
_PAUSE_SECONDS: Final = 0.1


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
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._greetings: set[asyncio.Task[Any]] = set()
        """Clients that have not ended their handshake. asyncio's own server knows nothing of them when it closes."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._conversations: set[asyncio.Task[Any]] = set()

    async def open(self, tls: ssl.SSLContext | None = None) -> None:
        """Let clients in."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listener = socket.create_server((self.host, self.port), family=family)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._accepting = loop.create_task(self._accept(self._listener, tls))

    async def close(self) -> None:
        """Let nobody in, break off every conversation, and wait for its end."""
        if self._listener is None or self._accepting is None:
            return
        for task in (self._accepting, *self._greetings):
            task.cancel()
        await asyncio.wait({self._accepting, *self._greetings})
        self._listener.close()
        self._listener = None
        for writer in list(self._writers):
            writer.transport.abort()
        while self._conversations:
            await asyncio.wait(set(self._conversations))

    async def _accept(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _address = await loop.sock_accept(listener)
            except OSError:  # it is gone already, or too many files are open: somebody will leave
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            greeting = loop.create_task(self._greet(client, tls))
            self._greetings.add(greeting)
            greeting.add_done_callback(self._greetings.discard)

    async def _greet(self, client: socket.socket, tls: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, client, ssl=tls)
        except (OSError, TimeoutError):
            return  # it left, or wants another certificate
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._writers.add(writer)
        conversation = loop.create_task(self._serve(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass  # the client left in its own way
        finally:
            self._writers.discard(writer)
            writer.close()
