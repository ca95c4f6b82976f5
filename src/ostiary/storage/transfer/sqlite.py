"""A SQLite file as either side of a transfer: read as it lies there, or built beside its place and moved there whole."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import apsw

from ostiary.storage.errors import DatabaseMissing, StoreIsOpen
from ostiary.storage.sqlite.connection import (
    StoreLock,
    address,
    connect,
    create_private,
    open_reader,
)
from ostiary.storage.sqlite.moved import read_mark, remove_mark, set_aside
from ostiary.storage.sqlite.schema import APPLIED_MIGRATIONS, migrate, shipped_migrations
from ostiary.storage.transfer.errors import ContentsDiffer, TargetNotEmpty, TransferFailed
from ostiary.storage.transfer.side import ROWS_AT_ONCE, Batches, Kind, Shape, Shapes, kind_of
from ostiary.storage.transfer.steps import demand_current

TABLES: Final = """
    SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite#_%' ESCAPE '#'
"""
COLUMNS: Final = "SELECT name, type, pk FROM pragma_table_info(?)"
REFERENCES: Final = 'SELECT DISTINCT "table" FROM pragma_foreign_key_list(?)'
LAST_NUMBER: Final = "SELECT max(seq) FROM sqlite_sequence WHERE name = ?"
FORGET_NUMBER: Final = "DELETE FROM sqlite_sequence WHERE name = ?"
SET_NUMBER: Final = "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)"
TRIGGERS: Final = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
ORPHANS: Final = "PRAGMA foreign_key_check"

_KINDS: Final = {"TEXT": Kind.TEXT, "BLOB": Kind.BYTES, "INTEGER": Kind.NUMBER}
# Nobody reads the file before it is whole and on disk, so until then speed is all that matters.
_BUILDING: Final = (
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA cache_size = -65536",
    "PRAGMA temp_store = MEMORY",
)
_NOBODY_HOLDS: Final = ":memory:"
_MAGIC: Final = b"SQLite format 3\0"


class SqliteSide:
    """One connection to a database file."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._shapes = {name: self._shape(name, sql) for name, sql in self._rows(TABLES)}

    @property
    def shapes(self) -> Shapes:
        return self._shapes

    async def count(self, table: str) -> int:
        ((number,),) = self._rows(f'SELECT count(*) FROM "{table}"')  # noqa: S608 - a name from the catalogue
        return int(number)

    async def batches(self, table: str, columns: tuple[str, ...]) -> Batches:
        cursor = self._connection.execute(f'SELECT {_listed(columns)} FROM "{table}"')  # noqa: S608 - names from the catalogue
        while rows := list(islice(cursor, ROWS_AT_ONCE)):
            yield rows

    async def last_number(self, table: str) -> int:
        ((number,),) = self._rows(LAST_NUMBER, table)
        return int(number or 0)

    async def confirm(self) -> None:
        """Nobody can come: the lock is ours."""

    def _shape(self, name: str, sql: str) -> Shape:
        columns = self._rows(COLUMNS, name)
        (key, *_) = [column for column, _, is_key in columns if is_key] or [None]
        return Shape(
            columns={column: kind_of(_KINDS, type_, name, column) for column, type_, _ in columns},
            refers_to=frozenset(table for (table,) in self._rows(REFERENCES, name)),
            counts=key if "AUTOINCREMENT" in sql else None,
        )

    def _rows(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, values).fetchall()


class SqliteTarget(SqliteSide):
    """A file that is built beside the place where it belongs."""

    def __init__(
        self, connection: apsw.Connection, *, place: Path | None = None, held: str | None = None
    ) -> None:
        super().__init__(connection)
        self._place = place
        self.held = held
        self.aside: Path | None = None

    @asynccontextmanager
    async def undisturbed(self) -> AsyncIterator[None]:
        triggers = self._rows(TRIGGERS)
        for name, _ in triggers:
            self._connection.execute(f'DROP TRIGGER "{name}"')
        yield
        for _, sql in triggers:
            self._connection.execute(sql)

    async def run(self, statement: str) -> None:
        self._connection.execute(statement)

    async def write(self, table: str, columns: tuple[str, ...], batches: Batches) -> None:
        marks = ", ".join("?" for _ in columns)
        statement = f'INSERT INTO "{table}" ({_listed(columns)}) VALUES ({marks})'  # noqa: S608 - names from the catalogue
        async for rows in batches:
            self._connection.executemany(statement, rows)

    async def count_on_from(self, table: str, number: int) -> None:
        if (highest := max(number, await self.last_number(table))) == 0:
            return
        self._connection.execute(FORGET_NUMBER, (table,))
        self._connection.execute(SET_NUMBER, (table, highest))

    async def commit(self) -> None:
        if orphans := self._rows(ORPHANS):
            raise ContentsDiffer(
                "A row refers to another one that is not there.", table=orphans[0][0]
            )
        self._connection.execute("COMMIT")
        self._connection.close()
        if self._place is not None:
            self.aside = _move_whole(_building(self._place), self._place)


@asynccontextmanager
async def sqlite_source(path: Path, *, dry: bool = False) -> AsyncIterator[SqliteSide]:
    """The file for reading, and nobody else writes to it meanwhile, unless it is only looked at (`dry`).

    Raises:
        DatabaseMissing: there is none.
        StoreIsOpen: a server or a command has it.
        SchemaTooNew, SchemaAltered, SchemaBehind: its schema is not of this version.
        TransferFailed: it cannot be read.
    """
    if not _holds_anything(path):
        raise DatabaseMissing(f"There is no database at {path}.")
    with _reading(path, beside_others=dry) as connection:
        yield SqliteSide(connection)


@asynccontextmanager
async def sqlite_target(path: Path, now: datetime, *, dry: bool) -> AsyncIterator[SqliteTarget]:
    """A database to fill, that takes its place with `commit`; what lies there already is only shown. `dry` makes none.

    An old database that was moved from there, and carries the mark of it, is given another name at that moment.

    Raises:
        TargetNotEmpty: what lies there is no database of ours.
        StoreIsOpen: a server or a command has it.
        TransferFailed: none can be made there.
    """
    holds = _holds_anything(path)
    if holds:
        _demand_database(path)
    if holds and read_mark(path) is None:
        with _reading(path) as connection:
            yield SqliteTarget(connection, held=str(path))
        return
    beside = path.with_name(f"{path.name}-wal")
    if not holds and _holds_anything(beside):
        # SQLite would take what is in it for changes to the new database.
        raise TargetNotEmpty("What is left of another database lies in the way.", file=beside)
    if dry:
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise TransferFailed("no file can be made in this directory", directory=path.parent)
        with _building_in(_NOBODY_HOLDS, now) as connection:
            yield SqliteTarget(connection)
        return
    with _locked(path), _part_file(path) as part, _building_in(str(part), now) as connection:
        yield SqliteTarget(connection, place=path)


@contextmanager
def _reading(path: Path, *, beside_others: bool = False) -> Iterator[apsw.Connection]:
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(path))
            is_ours = True
        except StoreIsOpen:
            if not beside_others:
                raise
            is_ours = False
        stack.enter_context(_said(path))
        connection = _open_as_it_is(path) if is_ours else open_reader(path)
        try:
            applied = dict(connection.execute(APPLIED_MIGRATIONS))
            demand_current(applied, {step.name: step.checksum for step in shipped_migrations()})
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.close()


def _open_as_it_is(path: Path) -> apsw.Connection:
    """A connection that leaves not even an empty log behind; what a killed server left in one is read too."""
    if _holds_anything(path.with_name(f"{path.name}-wal")):
        return open_reader(path)
    # Nobody writes while the lock is ours.
    return connect(f"{address(path)}?immutable=1", apsw.SQLITE_OPEN_READONLY)


def _demand_database(path: Path) -> None:
    try:
        with path.open("rb") as file:
            is_database = file.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise TransferFailed("the database cannot be opened", database=path) from error
    if not is_database:
        raise TargetNotEmpty(file=path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        lock = StoreLock(path)
    except OSError as error:
        raise TransferFailed("the database cannot be opened", database=path) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _said(database: str | Path) -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise TransferFailed("the database cannot be read or written", database=database) from error


@contextmanager
def _part_file(path: Path) -> Iterator[Path]:
    """An empty file beside the place; what an attempt left that was killed is done away with, ours in the end too."""
    part = _building(path)
    try:
        part.unlink(missing_ok=True)
        create_private(part)
    except OSError as error:
        raise TransferFailed("no database can be made there", database=path) from error
    try:
        yield part
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def _building_in(database: str, now: datetime) -> Iterator[apsw.Connection]:
    """A new database with our schema, in a transaction."""
    with _said(database):
        connection = connect(database)
        try:
            for pragma in _BUILDING:
                connection.execute(pragma)
            migrate(connection, now, shipped_migrations())
            connection.execute("BEGIN IMMEDIATE")
            yield connection
        finally:
            connection.close()


def _building(path: Path) -> Path:
    return path.with_name(f"{path.name}.migrating")


def _move_whole(part: Path, place: Path) -> Path | None:
    """The file is on disk before it has its name, and its name before this returns; what a moved one is called now."""
    aside = None
    try:
        _flush(part)
        if read_mark(place) is not None:
            if _holds_anything(place):
                aside = set_aside(place)
            remove_mark(place)
        part.rename(place)
        _flush(place.parent)
    except OSError as error:
        raise TransferFailed(
            "the new database cannot be put in its place", database=place
        ) from error
    return aside


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _holds_anything(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError as error:
        raise TransferFailed("the database cannot be opened", database=path) from error


def _listed(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
