"""Carries notifications from the push service to devices in another process: JSON lines on loopback.

From a device's process: `{"listen": "<hex>", "topic": "…"}` and `{"forget": "<hex>"}`; to it:
`{"listening": "<hex>"}` as the answer to the first, and `{"token": "<hex>", "topic": "…", "mdm": "<magic>"}`.
"""

import asyncio
import contextlib
import json
from functools import partial
from types import TracebackType
from typing import Any, Self

from ostiary_sim.background import Background
from ostiary_sim.door import LINE_LIMIT_BYTES, Door
from ostiary_sim.push import Deliver, PushService


class CourierServer:
    """The end at the push service; an async context manager.

    Args:
        service: where notifications come from.
        host: address to listen on.
        port: 0 takes a free one.
    """

    def __init__(self, service: PushService, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._service = service
        self._door = Door(self._serve, host, port)

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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tokens: set[bytes] = set()
        try:
            while line := await reader.readline():
                await self._obey(json.loads(line), tokens, writer)
        except (ValueError, TypeError, KeyError):
            pass  # whoever talks so is no device
        finally:
            for token in tokens:
                await self._service.disconnect(token)

    async def _obey(
        self, line: dict[str, Any], tokens: set[bytes], writer: asyncio.StreamWriter
    ) -> None:
        if "listen" in line:
            token = bytes.fromhex(line["listen"])
            tokens.add(token)
            # Acknowledged first, so that a notification kept for this device cannot overtake it.
            await _write_line(writer, {"listening": line["listen"]})
            deliver = partial(_pass_on, writer, token)
            await self._service.connect(token, line["topic"], deliver)
        elif "forget" in line:
            token = bytes.fromhex(line["forget"])
            tokens.discard(token)
            await self._service.disconnect(token)


class CourierClient:
    """The end at the devices: a `PushService` that lives in another process; an async context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._listeners: dict[bytes, Deliver] = {}
        self._waiting: dict[bytes, asyncio.Future[None]] = {}
        self._background = Background()
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        reader, self._writer = await asyncio.open_connection(
            self._host, self._port, limit=LINE_LIMIT_BYTES
        )
        self._background.start(self._listen(reader))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._background.close()
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):  # Apple may have gone first
                await self._writer.wait_closed()

    @property
    def problems(self) -> list[BaseException]:
        """What went wrong on devices that acted upon a push."""
        return self._background.problems

    async def connect(self, token: bytes, topic: str, deliver: Deliver) -> None:
        """Deliver what is sent to `token` from now on, and the last notification that was kept."""
        self._listeners[token] = deliver
        listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[token] = listening
        await self._say({"listen": token.hex(), "topic": topic})
        await listening

    async def disconnect(self, token: bytes) -> None:
        """Stop delivering to `token`."""
        self._listeners.pop(token, None)
        if self._writer is not None and not self._writer.is_closing():
            with contextlib.suppress(ConnectionError):  # who is gone has forgotten already
                await _write_line(self._writer, {"forget": token.hex()})

    async def _say(self, line: dict[str, str]) -> None:
        if self._writer is None or self._writer.is_closing():
            raise ConnectionError("the courier is not connected")
        await _write_line(self._writer, line)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._hear(json.loads(line))
        except ConnectionError:
            pass  # Apple is gone; devices stay and poll by themselves where they may
        finally:
            for waiting in self._waiting.values():
                waiting.cancel()

    def _hear(self, line: dict[str, Any]) -> None:
        if "listening" in line:
            waiting = self._waiting.pop(bytes.fromhex(line["listening"]), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
            return
        deliver = self._listeners.get(bytes.fromhex(line["token"]))
        if deliver is not None:
            self._background.start(_act(deliver, line["topic"], line["mdm"]))


async def _act(deliver: Deliver, topic: str, magic: str) -> None:
    await deliver(topic, magic)


async def _pass_on(writer: asyncio.StreamWriter, token: bytes, topic: str, magic: str) -> None:
    if not writer.is_closing():
        await _write_line(writer, {"token": token.hex(), "topic": topic, "mdm": magic})


async def _write_line(writer: asyncio.StreamWriter, line: dict[str, str]) -> None:
    writer.write(json.dumps(line).encode() + b"\n")
    await writer.drain()
