"""The transfer itself: table by table, read back and compared, and only then there for anybody to see."""

import os
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from ostiary.ports.clock import Clock
from ostiary.ports.trace import Trace, no_trace
from ostiary.storage.errors import UnusableDatabaseUrl
from ostiary.storage.sqlite.moved import demand_not_moved, read_mark, remove_mark, write_mark
from ostiary.storage.transfer.digest import TableDigest
from ostiary.storage.transfer.errors import (
    ContentsDiffer,
    NodeCame,
    NodesAreConnected,
    SameDatabase,
    TargetNotEmpty,
    TransferFailed,
)
from ostiary.storage.transfer.plan import COUNTED, Table, plan
from ostiary.storage.transfer.postgres import postgres_source, postgres_target
from ostiary.storage.transfer.side import Batches, Side, Source, Target
from ostiary.storage.transfer.sqlite import sqlite_source, sqlite_target
from ostiary.storage.transfer.words import describe, is_postgres

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
    aside: Path | None = None
    """Where the old database is now that was moved from the target's place once."""


async def move(
    source_url: str,
    target_url: str,
    *,
    clock: Clock,
    progress: Progress,
    dry: bool = False,
    trace: Trace = no_trace,
    settle: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Moved:
    """Copy everything that the source holds into an empty target: all of it, or nothing. `dry` leaves it at nothing.

    The source is never written. A target that holds the very same content already is left alone. `settle` makes the
    target the one to serve, while the source is still kept from others; it takes that back if its body raises.

    Raises:
        SameDatabase, TargetNotEmpty: there is no empty target.
        NodesAreConnected, TargetIsUsed, StoreIsOpen: somebody uses one of the two.
        NodeCame: somebody came to the source after the last look; `settle` was taken back.
        DatabaseMoved: the source was moved before, to another place.
        SchemaBehind, SchemaTooNew, SchemaAltered, SchemasDiffer: they are not both of this version.
        ContentsDiffer: what was read back is not what was written.
        DatabaseMissing, StorageFailed, TransferFailed, UnusableDatabaseUrl: there is no getting at one of them.
    """
    if _identity(source_url) == _identity(target_url):
        raise SameDatabase
    async with AsyncExitStack() as stack:
        source: Source = await stack.enter_async_context(_source(source_url, dry=dry))
        if not is_postgres(source_url):
            demand_not_moved(_path(source_url), unless_to=describe(target_url))
        trace("source-locked")
        target: Target = await stack.enter_async_context(_target(target_url, clock, dry=dry))
        trace("target-locked")
        tables = plan(source.shapes, target.shapes)
        rows = {table.name: await source.count(table.name) for table in tables}
        progress.begin(2 * sum(rows.values()))
        transfer = _Transfer(source, target, tables, progress, trace)
        if target.held is not None:
            await transfer.demand_same(rows)
        elif not dry:
            await transfer.copy()
            await source.confirm()
            trace("committing")
            await target.commit()
            trace("committed")
        if not dry:
            await _settle(source, target_url, settle)
        return Moved(rows=rows, was_there=target.held is not None, aside=target.aside)


async def _settle(
    source: Source, target_url: str, settle: Callable[[], AbstractContextManager[None]]
) -> None:
    """The second look sees who had read the old settings; who reads them later reads the new ones."""
    try:
        await source.confirm()
        with settle():
            await source.confirm()
    except NodesAreConnected as error:
        raise NodeCame(new=describe(target_url), **error.facts) from None


@contextmanager
def marked(source_url: str, target_url: str, clock: Clock) -> Iterator[None]:
    """Leave a mark beside a SQLite source that says where it went, so that it is not served; none if the body raises.

    Raises:
        TransferFailed: no file can be written there.
    """
    if is_postgres(source_url):
        yield
        return
    path = _path(source_url)
    had_one = read_mark(path) is not None
    try:
        write_mark(path, describe(target_url), clock.now())
    except OSError as error:
        raise TransferFailed(
            "no mark can be left beside the old database", database=path
        ) from error
    try:
        yield
    except BaseException:
        if not had_one:
            with suppress(OSError):
                remove_mark(path)
        raise


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


def _source(url: str, *, dry: bool) -> AbstractAsyncContextManager[Source]:
    if is_postgres(url):
        return postgres_source(url, dry=dry)
    return sqlite_source(_path(url), dry=dry)


def _target(url: str, clock: Clock, *, dry: bool) -> AbstractAsyncContextManager[Target]:
    if is_postgres(url):
        return postgres_target(url, clock.now())
    return sqlite_target(_path(url), clock.now(), dry=dry)


def _identity(url: str) -> str | Path:
    return url if is_postgres(url) else _path(url).resolve()


def _path(url: str) -> Path:
    path = url.removeprefix(_SQLITE)
    if path in (url, ""):
        raise UnusableDatabaseUrl
    return Path(path)
