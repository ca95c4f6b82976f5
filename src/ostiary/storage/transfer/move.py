"""The transfer itself: table by table, read back and compared, and only then there for anybody to see."""

import os
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from ostiary.ports.clock import Clock
from ostiary.ports.trace import Trace, no_trace
from ostiary.storage.errors import UnusableDatabaseUrl
from ostiary.storage.postgres.address import SCHEMES
from ostiary.storage.transfer.digest import TableDigest
from ostiary.storage.transfer.errors import ContentsDiffer, SameDatabase, TargetNotEmpty
from ostiary.storage.transfer.plan import COUNTED, Table, plan
from ostiary.storage.transfer.postgres import postgres_source, postgres_target
from ostiary.storage.transfer.side import Batches, Side, Source, Target
from ostiary.storage.transfer.sqlite import sqlite_source, sqlite_target

_SQLITE: Final = "sqlite:///"
_KEY_BYTES: Final = 32


class Progress(Protocol):
    """Hears how far a transfer has come."""

    def begin(self, rows: int) -> None:
        """So many are to be read, all in all: each from the source, and once more from the target."""

    def advance(self, rows: int) -> None:
        """So many more were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What became of a transfer."""

    rows: dict[str, int]
    """By table."""
    was_there: bool = False
    """The target held all of it already: an earlier transfer was cut off after its commit."""


async def move(
    source_url: str,
    target_url: str,
    *,
    clock: Clock,
    progress: Progress,
    dry: bool = False,
    trace: Trace = no_trace,
) -> Moved:
    """Copy everything that the source holds into an empty target: all of it, or nothing. `dry` leaves it at nothing.

    The source is never written. A target that holds the very same content already is left alone.

    Raises:
        SameDatabase, TargetNotEmpty: there is no empty target.
        NodesAreConnected, StoreIsOpen: somebody uses one of the two.
        SchemaBehind, SchemaTooNew, SchemaAltered, SchemasDiffer: they are not both of this version.
        ContentsDiffer: what was read back is not what was written.
        DatabaseMissing, StorageFailed, TransferFailed, UnusableDatabaseUrl: there is no getting at one of them.
    """
    if _identity(source_url) == _identity(target_url):
        raise SameDatabase
    async with AsyncExitStack() as stack:
        source: Source = await stack.enter_async_context(_source(source_url))
        trace("source-locked")
        target: Target = await stack.enter_async_context(_target(target_url, clock, dry=dry))
        trace("target-locked")
        tables = plan(source.shapes, target.shapes)
        rows = {table.name: await source.count(table.name) for table in tables}
        progress.begin(2 * sum(rows.values()))
        transfer = _Transfer(source, target, tables, progress, trace)
        if target.held is not None:
            await transfer.demand_same(rows)
            return Moved(rows=rows, was_there=True)
        if not dry:
            await transfer.copy()
            await source.confirm()
            trace("committing")
            await target.commit()
            trace("committed")
        return Moved(rows=rows)


def describe(database_url: str) -> str:
    """The database in words that hold no password."""
    if database_url.startswith(_SQLITE):
        return database_url.removeprefix(_SQLITE)
    parts = urlsplit(database_url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


@dataclass(frozen=True, slots=True)
class _Transfer:
    source: Source
    target: Target
    tables: tuple[Table, ...]
    progress: Progress
    trace: Trace

    async def copy(self) -> None:
        async with self.target.undisturbed():
            for table in self.tables:
                await self._copy_one(table)
            for statement in COUNTED.values():
                await self.target.run(statement)

    async def _copy_one(self, table: Table) -> None:
        key = os.urandom(_KEY_BYTES)
        taken = TableDigest(key)
        batches = self._read(self.source, table, taken)
        await self.target.write(table.name, table.columns, batches)
        self.trace(f"written-{table.name}")
        if taken.value != await self._digest(self.target, table, key):
            raise ContentsDiffer(table=table.name)
        if self._counts(self.target, table):
            await self.target.count_on_from(table.name, await self._last_number(table))
        self.trace(f"compared-{table.name}")

    async def demand_same(self, rows: dict[str, int]) -> None:
        """Raises TargetNotEmpty unless the target holds what the source holds."""
        for table in self.tables:
            if await self.target.count(table.name) != rows[table.name]:
                raise TargetNotEmpty(at=self.target.held)
            if self._counts(self.target, table):
                last = await self.target.last_number(table.name)
                if last < await self._last_number(table):
                    raise TargetNotEmpty(at=self.target.held)
        for table in self.tables:
            key = os.urandom(_KEY_BYTES)
            ours = await self._digest(self.source, table, key)
            if ours != await self._digest(self.target, table, key):
                raise TargetNotEmpty(at=self.target.held)

    async def _last_number(self, table: Table) -> int:
        """The highest that the source ever gave, as far as it remembers."""
        return await self.source.last_number(table.name) if self._counts(self.source, table) else 0

    def _counts(self, side: Side, table: Table) -> bool:
        return side.shapes[table.name].counts is not None

    async def _digest(self, side: Side, table: Table, key: bytes) -> tuple[int, int]:
        digest = TableDigest(key)
        async for _ in self._read(side, table, digest):
            pass
        return digest.value

    async def _read(self, side: Side, table: Table, digest: TableDigest) -> Batches:
        async for rows in side.batches(table.name, table.columns):
            digest.add(rows)
            self.progress.advance(len(rows))
            yield rows


def _source(url: str) -> AbstractAsyncContextManager[Source]:
    return postgres_source(url) if is_postgres(url) else sqlite_source(_path(url))


def _target(url: str, clock: Clock, *, dry: bool) -> AbstractAsyncContextManager[Target]:
    if is_postgres(url):
        return postgres_target(url, clock.now())
    return sqlite_target(_path(url), clock.now(), dry=dry)


def _identity(url: str) -> str | Path:
    return url if is_postgres(url) else _path(url).resolve()


def is_postgres(url: str) -> bool:
    """Whether the URL is PostgreSQL's."""
    return url.partition(":")[0] in SCHEMES


def _path(url: str) -> Path:
    path = url.removeprefix(_SQLITE)
    if path in (url, ""):
        raise UnusableDatabaseUrl
    return Path(path)
