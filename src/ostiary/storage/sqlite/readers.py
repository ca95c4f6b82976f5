"""Connections that only read, in threads of their own: long lists never stand on the event loop."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from ostiary.ports.storage import StorageFailed
from ostiary.storage.sqlite.connection import open_reader

AnswerT = TypeVar("AnswerT")
Read = Callable[[str, tuple[Any, ...]], sqlite3.Cursor]

_READERS: Final = 2


class Readers:
    """A few read-only connections, opened when first needed; each sees the last commit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="ostiary-reports")
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()

    async def run(self, work: Callable[[Read], AnswerT]) -> AnswerT:
        """Do the work in a thread. Raises `StorageFailed` if the file cannot be read."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._run, work)
        except sqlite3.Error as error:
            raise StorageFailed("the database cannot be read") from error

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
