"""One open database file: the engine, and the families of decisions that share it."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ostiary.ports.clock import Clock
from ostiary.ports.storage import StorageFailed
from ostiary.ports.trace import Trace, no_trace
from ostiary.storage.errors import SchemaAltered, SchemaTooNew
from ostiary.storage.sqlite.connection import StoreLock, create_private, open_writer
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.enrollments import SqliteEnrollments
from ostiary.storage.sqlite.schema import Migration, migrate, shipped_migrations


class SqliteStorage:
    """What one database file offers. Close it, or use it as an asynchronous context."""

    def __init__(
        self,
        engine: Engine,
        lock: StoreLock,
        path: Path,
        *,
        clock: Clock,
        trace: Trace,
        seen_within_seconds: float,
    ) -> None:
        self.engine = engine
        self._lock = lock
        self.enrollments = SqliteEnrollments(
            engine,
            trace=trace,
            wake_written=lambda: None,
            seen_within_seconds=seen_within_seconds,
        )

    async def close(self) -> None:
        """Write what is still to be written, and let others open the file."""
        await self.engine.close()
        self._lock.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def open_sqlite(
    path: Path,
    *,
    clock: Clock,
    trace: Trace = no_trace,
    longest_queue: int = 2048,
    largest_batch: int = 256,
    seen_within_seconds: float = 30.0,
    migrations: Sequence[Migration] | None = None,
) -> SqliteStorage:
    """Open the file, making it or bringing its schema up to date if need be.

    Raises:
        StoreIsOpen: another process has it.
        SchemaTooNew, SchemaAltered: this version must not touch it.
        StorageFailed: the file cannot be opened or written.
    """
    steps = shipped_migrations() if migrations is None else migrations
    lock = StoreLock(path)
    try:
        create_private(path)
        connection = open_writer(path)
        try:
            migrate(connection, clock.now(), steps)
        finally:
            connection.close()
        engine = Engine(
            lambda: open_writer(path),
            trace=trace,
            longest_queue=longest_queue,
            largest_batch=largest_batch,
        )
    except (OSError, sqlite3.Error) as error:
        lock.release()
        raise StorageFailed(database=path) from error
    except (SchemaTooNew, SchemaAltered):
        lock.release()
        raise
    return SqliteStorage(
        engine, lock, path, clock=clock, trace=trace, seen_within_seconds=seen_within_seconds
    )
