"""A fixed number of connections and a bounded queue before them; both mend themselves when the database comes back."""

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import asyncpg

from ostiary.ports.storage import StorageBusy, StorageFailed
from ostiary.storage.postgres.address import PostgresAddress
from ostiary.storage.postgres.refusals import none_connected, not_connected, where
from ostiary.storage.postgres.session import NO_ANSWER, Overtaken, Row, Session

AnswerT = TypeVar("AnswerT")

APPLICATION: Final = "ostiary"
HOT: Final = {
    "application_name": APPLICATION,
    # Planning costs more than running what a device's message needs; the statements' plans do not depend on values.
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    # Every statement of the hot path has its index. A queue that was empty when its plan was made must not be walked
    # through now that it holds a hundred thousand rows; see PLANS_LAST_SECONDS too.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
    "synchronous_commit": "on",
    "statement_timeout": "10s",
    # Others of the same batch wait with whoever waits for a row.
    "lock_timeout": "1s",
    # A node that was stopped in the middle of a transaction holds its rows no longer than this; none of ours waits for
    # anything but the database between two statements.
    "idle_in_transaction_session_timeout": "10s",
    # A node that vanished without a word is noticed by the server, too, and gives back its connections.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15s",
    "timezone": "UTC",
}
REPORTS: Final = {
    **HOT,
    "plan_cache_mode": "force_custom_plan",
    "enable_seqscan": "on",
    "enable_bitmapscan": "on",
    "enable_mergejoin": "on",
    "enable_sort": "on",
    "statement_timeout": "60s",
    "default_transaction_isolation": "repeatable read",
    "default_transaction_read_only": "on",
}
PLANS_LAST_SECONDS: Final = 20.0
"""The server keeps a plan until a table is analysed anew, a minute after a burst at the earliest; so we ask for new
ones. On an empty table all plans cost the same, and any may have been chosen."""
_CONNECT_SECONDS: Final = 5.0
_SILENCE: Final = (
    (socket.TCP_KEEPIDLE, 5),
    (socket.TCP_KEEPINTVL, 2),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 10_000),
)
"""Seconds of quiet before a probe, between probes, how many; milliseconds that what we sent may go unheard. Linux."""
_MOST_ATTEMPTS: Final = 5


class Pool:
    """Connections to one database, opened as they are needed and never more than `size`."""

    def __init__(
        self,
        address: PostgresAddress,
        *,
        size: int,
        settings: dict[str, str],
        timeout_seconds: float = 15.0,
        longest_queue: int = 2048,
        wait_seconds: float = 10.0,
        prepare: Callable[[Session], Awaitable[None]] | None = None,
    ) -> None:
        self._address = address
        self._size = size
        self._settings = settings
        self._timeout_seconds = timeout_seconds
        self._longest_queue = longest_queue
        self._wait_seconds = wait_seconds
        self._prepare = prepare
        self._preparing = asyncio.Lock()
        self._idle: list[Session] = []
        self._open = 0
        self._waiting: deque[asyncio.Future[Session | None]] = deque()
        self._is_closed = False
        self._emptied = asyncio.Event()

    @property
    def size(self) -> int:
        """How many connections there may be."""
        return self._size

    async def run(self, work: Callable[[Session], Awaitable[AnswerT]]) -> AnswerT:
        """Do the work on a connection of its own.

        Raises:
            StorageBusy: too many wait already, or this one waited too long.
            StorageFailed: the database cannot be reached, or broke off.
        """
        session = await self._take()
        try:
            if session.plans_are_older_than(PLANS_LAST_SECONDS):
                await session.forget_plans()
            return await work(session)
        finally:
            self._give_back(session)

    async def row(self, statement: str, *values: Any) -> Row | None:
        """The first row that one statement gives, by itself."""
        return await self.run(lambda session: session.row(statement, *values))

    async def rows(self, statement: str, *values: Any) -> list[Row]:
        """All rows that one statement gives, by itself."""
        return await self.run(lambda session: session.rows(statement, *values))

    async def write(self, statement: str, *values: Any) -> int:
        """How many rows one statement wrote, by itself."""
        return await self.run(lambda session: session.run(statement, *values))

    async def transact(self, work: Callable[[Session], Awaitable[AnswerT]]) -> AnswerT:
        """Do the work in a transaction, and once more from the start if others were at the same rows.

        Raises:
            ChangeDoesNotFit, StorageBusy, StorageFailed: nothing of it is stored.
        """

        async def transact(session: Session) -> AnswerT:
            for _ in range(_MOST_ATTEMPTS - 1):
                try:
                    async with session.transaction():
                        return await work(session)
                except Overtaken:
                    continue
            async with session.transaction():
                return await work(session)

        return await self.run(transact)

    async def close(self) -> None:
        """Take nothing new, wait for what is under way, and close every connection."""
        self._is_closed = True
        while self._waiting:
            _fail(self._waiting.popleft(), StorageFailed("the database is closed"))
        for session in self._idle:
            await _close(session)
            self._open -= 1
        self._idle.clear()
        if self._open:
            await self._emptied.wait()

    async def _take(self) -> Session:
        if self._is_closed:
            raise StorageFailed("the database is closed")
        while self._idle:
            session = self._idle.pop()
            if session.is_usable:
                return session
            self._drop(session)
        if self._open < self._size:
            self._open += 1
            return await self._connect()
        return await self._wait() or await self._connect()

    async def _wait(self) -> Session | None:
        """A connection that somebody gave back, or None for the room to open another."""
        if len(self._waiting) >= self._longest_queue:
            raise StorageBusy(waiting=len(self._waiting))
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Session | None] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(self._wait_seconds, _fail, turn, StorageBusy("waited too long"))
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on(turn.result())
            raise
        finally:
            timer.cancel()

    async def _connect(self) -> Session:
        """Open one more; its room is taken already."""
        try:
            session = await open_session(
                self._address, self._settings, timeout_seconds=self._timeout_seconds
            )
            if self._prepare is not None:
                await self._prepare_once(session)
        except BaseException:
            self._make_room()
            raise
        return session

    async def _prepare_once(self, session: Session) -> None:
        try:
            async with self._preparing:
                if self._prepare is not None:
                    await self._prepare(session)
                    self._prepare = None
        except BaseException:
            session.end()
            raise

    def _give_back(self, session: Session) -> None:
        if not session.is_usable or self._is_closed:
            self._drop(session)
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(session)
                return
        self._idle.append(session)

    def _drop(self, session: Session) -> None:
        session.end()
        self._make_room()

    def _make_room(self) -> None:
        """One connection fewer: somebody who waits may open one of their own."""
        self._open -= 1
        if self._is_closed and not self._open:
            self._emptied.set()
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._open += 1
                turn.set_result(None)
                return

    def _pass_on(self, session: Session | None) -> None:
        """What was given to somebody who went away in that moment."""
        if session is None:
            self._make_room()
        else:
            self._give_back(session)


async def open_session(
    address: PostgresAddress, settings: dict[str, str], *, timeout_seconds: float
) -> Session:
    """A fresh connection to the first server that fits. Raises `StorageFailed` if there is none to be had."""
    troubles: list[StorageFailed] = []
    for url in address.urls:
        try:
            connection = await _connect(url, address, settings, timeout_seconds)
        except (asyncpg.PostgresError, *NO_ANSWER) as error:
            # What the driver says may quote the URL, so it does not even hang on what we raise.
            troubles.append(not_connected(url, error))
            continue
        address.note_answer(url)
        _notice_silence(connection)
        return Session(
            connection,
            is_direct=address.is_direct,
            timeout_seconds=timeout_seconds,
            place=where(url),
        )
    raise none_connected(troubles)


async def _connect(
    url: str, address: PostgresAddress, settings: dict[str, str], timeout_seconds: float
) -> "asyncpg.Connection[Any]":
    # A cache of any size is what makes the driver name a statement, so that the server keeps it.
    how: dict[str, Any] = (
        {"server_settings": settings, "statement_cache_size": 100}
        if address.is_direct
        else {"statement_cache_size": 0}
    )
    connection: asyncpg.Connection[Any] = await asyncpg.connect(
        url,
        timeout=min(_CONNECT_SECONDS, timeout_seconds),
        command_timeout=timeout_seconds,
        target_session_attrs=address.role,
        **how,
    )
    return connection


def _notice_silence(connection: "asyncpg.Connection[Any]") -> None:
    """Let the kernel end the connection once the other side says nothing any more, not even that it heard us.

    Packets that are dropped, by a firewall or with a machine that lost its power, end no connection by themselves;
    one that only listens would wait for hours.
    """
    transport = connection._transport  # type: ignore[attr-defined]  # the driver offers no other way to its socket
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _SILENCE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def _close(session: Session) -> None:
    try:
        await session.connection.close(timeout=_CONNECT_SECONDS)
    except (asyncpg.PostgresError, *NO_ANSWER):
        session.end()


def _fail(turn: asyncio.Future[Session | None], error: Exception) -> None:
    if not turn.done():
        turn.set_exception(error)
