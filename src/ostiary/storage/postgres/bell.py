"""Tells the other nodes that wakes were written, and hears it from them: by LISTEN and NOTIFY, on a connection of its own.

Outside of every request's transaction, and coalesced: a thousand wakes in a moment are one notification.
"""

import asyncio
from typing import Any, Final

import asyncpg
import structlog

from ostiary.ports.storage import StorageFailed
from ostiary.storage.postgres.address import PostgresAddress
from ostiary.storage.postgres.pool import HOT, open_session
from ostiary.storage.postgres.session import NO_ANSWER, Session

_log = structlog.get_logger()

CHANNEL: Final = "ostiary_wake"
RING: Final = f"NOTIFY {CHANNEL}"
LONGEST_DEAFNESS_SECONDS: Final = 5.0
"""Who cannot listen looks by themselves this often."""
_COALESCE_SECONDS: Final = 0.05


class Bell:
    """Rings on all nodes when a wake was written on one."""

    def __init__(self, address: PostgresAddress) -> None:
        self._address = address
        self._rung = asyncio.Event()
        self._session: Session | None = None
        self._using = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._ringing: asyncio.Future[None] | None = None
        self._is_closed = False

    def ring(self) -> None:
        """Here at once, on the other nodes in a moment."""
        self._rung.set()
        if self._timer is None and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_COALESCE_SECONDS, self._ring_others)

    async def wait(self, timeout_seconds: float) -> None:
        """Return when it rang since the last wait, or when the time is over."""
        if not self._rung.is_set() and timeout_seconds > 0:
            if not await self._listen():
                timeout_seconds = min(timeout_seconds, LONGEST_DEAFNESS_SECONDS)
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._rung.wait()
            except TimeoutError:
                return
        self._rung.clear()

    async def close(self) -> None:
        """Tell what is still to be told, and hang up."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._ring_others()
        if self._ringing is not None:
            await asyncio.wait([self._ringing])
        if self._session is not None:
            self._session.end()

    def _ring_others(self) -> None:
        self._timer = None
        self._ringing = asyncio.ensure_future(self._notify())

    async def _notify(self) -> None:
        try:
            async with self._using:
                session = await self._connect()
                await session.script(RING)
        except StorageFailed:
            # The wakes are stored; who is not told of them looks by themselves.
            _log.warning("wakes_not_announced")

    async def _listen(self) -> bool:
        if not self._address.is_direct:
            return False
        try:
            async with self._using:
                await self._connect()
        except StorageFailed:
            return False
        return True

    async def _connect(self) -> Session:
        if self._session is not None and self._session.is_usable:
            return self._session
        if self._session is not None:
            self._session.end()
        session = await open_session(self._address, HOT, timeout_seconds=LONGEST_DEAFNESS_SECONDS)
        if self._address.is_direct:
            try:
                await session.connection.add_listener(CHANNEL, self._hear)
                session.connection.add_termination_listener(self._lose)
            except (asyncpg.PostgresError, *NO_ANSWER) as error:
                session.end()
                raise StorageFailed("the database does not answer") from error
        self._session = session
        return session

    def _hear(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        """Called by the driver; our own notifications come back to us as well."""
        del channel, payload
        if pid != connection.get_server_pid():
            self._rung.set()

    def _lose(self, connection: Any) -> None:
        """Called by the driver: who waits must not wait deaf; the next wait listens anew."""
        del connection
        self._rung.set()
