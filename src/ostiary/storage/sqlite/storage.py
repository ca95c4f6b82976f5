"""One open database file: the engine, and the families of decisions that share it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

from ostiary.ports.clock import Clock
from ostiary.ports.storage import StorageFailed
from ostiary.ports.trace import Trace, no_trace
from ostiary.storage.errors import DatabaseMissing, DatabaseMoved, SchemaAltered, SchemaTooNew
from ostiary.storage.sqlite.api_tokens import SqliteApiTokens
from ostiary.storage.sqlite.challenges import SqliteChallenges
from ostiary.storage.sqlite.connection import StoreLock, create_private, open_writer
from ostiary.storage.sqlite.engine import Engine, Transaction
from ostiary.storage.sqlite.enrollments import SqliteEnrollments
from ostiary.storage.sqlite.escrows import SqliteEscrows
from ostiary.storage.sqlite.fleet_secrets import SqliteFleetSecrets
from ostiary.storage.sqlite.moved import demand_not_moved
from ostiary.storage.sqlite.push_certificates import SqlitePushCertificates
from ostiary.storage.sqlite.readers import Readers
from ostiary.storage.sqlite.renewals import SqliteRenewals
from ostiary.storage.sqlite.reports import SqliteReports
from ostiary.storage.sqlite.retention import SqliteRetention
from ostiary.storage.sqlite.schema import Migration, migrate, shipped_migrations
from ostiary.storage.sqlite.sealed_values import SqliteSealedValues
from ostiary.storage.sqlite.settings import SqliteKeyEpochs, SqlitePolicies
from ostiary.storage.sqlite.wakes import SqliteWakes
from ostiary.storage.sqlite.watch import FileWatch


class SqliteStorage:
    """What one database file offers. Close it, or use it as an asynchronous context."""

    def __init__(
        self,
        engine: Engine,
        lock: StoreLock,
        readers: Readers,
        watch: FileWatch,
        *,
        clock: Clock,
        trace: Trace,
        seen_within_seconds: float,
    ) -> None:
        self._engine = engine
        self._lock = lock
        self._readers = readers
        self._watch = watch
        wake_written = asyncio.Event()
        self.enrollments = SqliteEnrollments(
            engine,
            trace=trace,
            wake_written=wake_written.set,
            seen_within_seconds=seen_within_seconds,
        )
        self.challenges = SqliteChallenges(engine)
        self.escrows = SqliteEscrows(engine, readers)
        self.wakes = SqliteWakes(engine, readers, wake_written)
        self.push_certificates = SqlitePushCertificates(engine, readers)
        self.api_tokens = SqliteApiTokens(engine)
        self.epochs = SqliteKeyEpochs(engine, clock)
        self.policies = SqlitePolicies(engine, clock)
        self.reports = SqliteReports(readers)
        self.fleet_secrets = SqliteFleetSecrets(readers)
        self.retention = SqliteRetention(engine, readers)
        self.renewals = SqliteRenewals(engine, readers)
        self.sealed_values = SqliteSealedValues(engine, readers)

    async def check(self) -> None:
        """Raise `StorageFailed` unless the writer lives, and its file is there and can be read."""
        if not self._engine.is_alive:
            raise StorageFailed("the writer is not running")
        self._watch.look()
        await self._engine.run(_read_one)

    async def close(self) -> None:
        """Write what is still to be written, and let others open the file."""
        await self._readers.close()
        try:
            await self._engine.close()
        finally:
            self._watch.close()
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
    create: bool = True,
) -> SqliteStorage:
    """Open the file, making it (if `create`) or bringing its schema up to date if need be.

    Raises:
        DatabaseMissing: it is missing or empty, and is not to be made.
        DatabaseMoved: its house was moved elsewhere.
        StoreIsOpen: another process has it.
        SchemaTooNew: a newer version has changed it.
        SchemaAltered: it went through a migration that is not ours.
        StorageFailed: the file cannot be opened or written.
    """
    if not create:
        _demand_contents(path)
    steps = shipped_migrations() if migrations is None else migrations
    watch = FileWatch(path)
    try:
        lock = StoreLock(path)
    except OSError as error:
        raise StorageFailed("the database cannot be opened", database=path) from error
    try:
        demand_not_moved(path)  # under the lock, which `ostiary migrate` holds until it is marked
        _prepare(path, clock, steps)
        engine = Engine(
            lambda: watch.opening(open_writer),
            trace=trace,
            longest_queue=longest_queue,
            largest_batch=largest_batch,
            inspect=watch.inspect,
        )
    except (OSError, apsw.Error) as error:
        lock.release()
        raise StorageFailed("the database cannot be opened", database=path) from error
    except (DatabaseMoved, SchemaTooNew, SchemaAltered):
        lock.release()
        raise
    return SqliteStorage(
        engine,
        lock,
        Readers(path),
        watch,
        clock=clock,
        trace=trace,
        seen_within_seconds=seen_within_seconds,
    )


def _demand_contents(path: Path) -> None:
    """Refuse what SQLite would take for a new database; before the lock, so that no file is left behind."""
    try:
        state = None if path.stat().st_size else "empty"
    except FileNotFoundError:
        state = "missing"
    except OSError as error:
        raise StorageFailed("the database cannot be opened", database=path) from error
    if state is not None:
        raise DatabaseMissing(f"The database {path} is {state}; this installation had one.")


def _prepare(path: Path, clock: Clock, migrations: Sequence[Migration]) -> None:
    create_private(path)
    connection = open_writer(path)
    try:
        migrate(connection, clock.now(), migrations)
    finally:
        connection.close()


def _read_one(transaction: Transaction) -> None:
    transaction.read("SELECT 1 FROM enrollment LIMIT 1").fetchone()
