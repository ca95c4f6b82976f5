"""Connections that only read, in threads of their own: long lists never stand on the event loop."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

import apsw

from ostiary.ports.storage import StorageFailed
from ostiary.storage.sqlite.connection import open_reader

AnswerT = TypeVar("AnswerT")

DAMAGED_TEXT: Final = "a text in the database is damaged"
_READERS: Final = 2


class Rows(Protocol):
    """What a statement finds: an `apsw.Cursor`, as those see it who know what each column holds."""

    def __iter__(self) -> Iterator[Any]: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[tuple[Any, ...]]: ...


class Read(Protocol):
    """Runs a statement that only reads."""

    def __call__(self, statement: str, parameters: tuple[Any, ...] = (), /) -> Rows: ...


class Readers:
    """A few read-only connections, opened when first needed; each sees the last commit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="ostiary-reports")
        self._idle: SimpleQueue[apsw.Connection] = SimpleQueue()

    async def run(self, work: Callable[[Read], AnswerT]) -> AnswerT:
        """Do the work in a thread. Raises `StorageFailed` if the file cannot be read."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._run, work)
        except apsw.Error as error:
            raise StorageFailed("the database cannot be read") from error
        except UnicodeDecodeError:
            raise StorageFailed(DAMAGED_TEXT) from None  # its own words show the text

    async def close(self) -> None:
        """Wait for what is being read, and close the connections."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._threads.shutdown)
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def _run(self, work: Callable[[Read], AnswerT]) -> AnswerT:
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = open_reader(self._path)
        try:
            # One transaction, so that the parts of a report belong to the same moment.
            connection.execute("BEGIN")
            answer = work(connection.execute)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)
        return answer
