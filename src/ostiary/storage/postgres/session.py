"""One connection: prepared statements, transactions, and what the driver raises, said in our words."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from ostiary.errors import OstiaryError
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.postgres.refusals import DatabaseUnreachable, refused
from ostiary.storage.postgres.text import escape_all

Row = Any
"""A row of the driver: it unpacks and slices like a tuple."""

MOST_STATEMENTS: Final = 400
"""Prepared on one connection; each costs the server some ten kilobytes. Ours are fewer."""
MISFIT: Final = "OS001"
"""Raised by ostiary_misfit(), in the first migration."""
_INTEGRITY: Final = "23"
NO_ANSWER: Final = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""The connection was lost; the last of them, when the server's farewell came in between two statements."""
_OVERTAKEN: Final = ("40001", "40P01", "55P03")
"""Serialization failure, deadlock, lock not available."""


class Overtaken(ChangeDoesNotFit):
    """Others wrote to the same rows at the same moment."""


class Session:
    """One connection to the database, used by one request at a time."""

    __slots__ = (
        "_connection", "_is_direct", "_is_spoilt", "_loop", "_place", "_planned_at", "_statements",
        "timeout_seconds",
    )  # fmt: skip

    def __init__(
        self,
        connection: "asyncpg.Connection[Any]",
        *,
        is_direct: bool,
        timeout_seconds: float,
        place: Mapping[str, object],
    ) -> None:
        self._connection = connection
        self._is_direct = is_direct
        self._is_spoilt = False
        self._loop = asyncio.get_running_loop()
        self._planned_at = self._loop.time()
        self._statements: dict[str, PreparedStatement[Any]] = {}
        self._place = place
        self.timeout_seconds = timeout_seconds

    @property
    def connection(self) -> "asyncpg.Connection[Any]":
        """The driver's own, for what statements cannot say: listening, scripts."""
        return self._connection

    @property
    def is_in_transaction(self) -> bool:
        return self._connection.is_in_transaction()

    @property
    def is_usable(self) -> bool:
        """Whether another request may have it."""
        return not (
            self._is_spoilt or self._connection.is_closed() or self._connection.is_in_transaction()
        )

    def plans_are_older_than(self, seconds: float) -> bool:
        return self._is_direct and self._loop.time() - self._planned_at > seconds

    async def forget_plans(self) -> None:
        """Let the server plan each statement anew when it is next used; they stay prepared."""
        await self.script("DISCARD PLANS")
        self._planned_at = self._loop.time()

    def end(self) -> None:
        """Drop the connection, whatever state it is in."""
        self._connection.terminate()

    async def rows(self, statement: str, *values: Any) -> list[Row]:
        """All rows that the statement gives."""
        escaped = escape_all(values)
        try:
            if not self._is_direct:
                return await self._connection.fetch(statement, *escaped)
            prepared = self._statements.get(statement) or await self._prepare(statement)
            return await prepared.fetch(*escaped, timeout=self.timeout_seconds)
        except BaseException as error:
            if (said := self._judge(error)) is None:
                raise
            raise said from error

    async def many(self, statement: str, values: Sequence[Sequence[Any]]) -> list[Row]:
        """All rows that the statement gives for each of several values: one way there and back, all or nothing."""
        if len(values) == 1:
            return await self.rows(statement, *values[0])
        escaped = [escape_all(some) for some in values]
        try:
            if not self._is_direct:
                return await self._connection.fetchmany(statement, escaped)
            prepared = self._statements.get(statement) or await self._prepare(statement)
            return await prepared.fetchmany(escaped, timeout=self.timeout_seconds)
        except BaseException as error:
            if (said := self._judge(error)) is None:
                raise
            raise said from error

    async def row(self, statement: str, *values: Any) -> Row | None:
        """The first row, or None."""
        rows = await self.rows(statement, *values)
        return rows[0] if rows else None

    async def run(self, statement: str, *values: Any) -> int:
        """How many rows the statement wrote."""
        escaped = escape_all(values)
        try:
            if not self._is_direct:
                return _count(await self._connection.execute(statement, *escaped))
            prepared = self._statements.get(statement) or await self._prepare(statement)
            await prepared.fetch(*escaped, timeout=self.timeout_seconds)
            return _count(prepared.get_statusmsg())
        except BaseException as error:
            if (said := self._judge(error)) is None:
                raise
            raise said from error

    async def script(self, text: str) -> None:
        """Run statements without values."""
        try:
            await self._connection.execute(text, timeout=self.timeout_seconds)
        except BaseException as error:
            if (said := self._judge(error)) is None:
                raise
            raise said from error

    @asynccontextmanager
    async def transaction(self, begin: str = "BEGIN") -> AsyncIterator[None]:
        """All or nothing of what is run inside."""
        await self.script(begin)
        try:
            yield
            await self.script("COMMIT")
        except BaseException:
            if not self._is_spoilt and not self._connection.is_closed():
                await self.script("ROLLBACK")
            raise

    async def _prepare(self, statement: str) -> "PreparedStatement[Any]":
        if len(self._statements) >= MOST_STATEMENTS:
            self._statements.clear()
        prepared = await self._connection.prepare(statement, timeout=self.timeout_seconds)
        self._statements[statement] = prepared
        return prepared

    def _judge(self, error: BaseException) -> OstiaryError | None:
        """What happened, in our words; a connection that was cut off in mid-sentence is not used again."""
        if not isinstance(error, asyncpg.PostgresError):
            self._is_spoilt = True
            known = isinstance(error, NO_ANSWER)
            return (
                DatabaseUnreachable("the database does not answer", **self._place)
                if known
                else None
            )
        state = error.sqlstate or ""
        if state in _OVERTAKEN:
            return Overtaken(sqlstate=state)
        if state.startswith(_INTEGRITY) or state == MISFIT:
            return ChangeDoesNotFit(str(error.args[0] if error.args else state))
        # What is wrong with a statement, or with the server, says nothing good about the connection.
        self._is_spoilt = True
        return refused(state, self._place)


def _count(status: str | None) -> int:
    """`UPDATE 3`, `INSERT 0 1`."""
    number = (status or "").rpartition(" ")[2]
    return int(number) if number.isdecimal() else 0
