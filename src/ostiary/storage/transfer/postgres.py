"""A PostgreSQL database as either side of a transfer: one transaction, so that there is all of it or nothing.

The driver itself turns rows into those of `side.py` and back, by COPY and by codecs of our own.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg

from ostiary.storage.errors import DatabaseMissing
from ostiary.storage.postgres.address import decode_address
from ostiary.storage.postgres.pool import APPLICATION, open_session
from ostiary.storage.postgres.schema import (
    APPLIED_MIGRATIONS,
    HAS_MIGRATIONS,
    OTHER_NODES,
    migrate_within,
    shipped_migrations,
)
from ostiary.storage.postgres.session import NO_ANSWER, Session
from ostiary.storage.postgres.text import escape, unescape
from ostiary.storage.transfer.errors import (
    NodesAreConnected,
    TargetIsUsed,
    TargetNotEmpty,
    TransferFailed,
)
from ostiary.storage.transfer.side import ROWS_AT_ONCE, Batches, Kind, Row, Shape, Shapes, kind_of
from ostiary.storage.transfer.steps import demand_current

# Also behind a pooler, which takes no settings of a session: these end with the transaction.
BEGIN: Final = f"""
    BEGIN;
    SET LOCAL application_name = '{APPLICATION}';
    SET LOCAL statement_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = 0;
"""
LOOK_AGAIN: Final = "SELECT pg_stat_clear_snapshot()"
LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '10s'"
COLUMNS: Final = """
    SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL), a.attidentity <> ''
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE c.relkind IN ('r', 'p') AND n.nspname = current_schema()
     ORDER BY c.relname, a.attnum
"""
REFERENCES: Final = """
    SELECT c.relname::text, r.relname::text
      FROM pg_constraint k
      JOIN pg_class c ON c.oid = k.conrelid
      JOIN pg_class r ON r.oid = k.confrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.contype = 'f' AND n.nspname = current_schema()
"""
SEQUENCE: Final = "SELECT pg_get_serial_sequence(quote_ident($1), $2)"
CONTINUE: Final = "SELECT setval($1::text::regclass, $2, $3)"

_KINDS: Final = {
    "text": Kind.TEXT,
    "bytea": Kind.BYTES,
    "timestamp with time zone": Kind.NUMBER,
    "boolean": Kind.NUMBER,
    "integer": Kind.NUMBER,
    "bigint": Kind.NUMBER,
}
LOOKS: Final = 50
"""How often it is looked whether others are connected, before that is believed."""
_BETWEEN_LOOKS_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = timedelta(days=7).total_seconds()
_ITS_EPOCH: Final = (
    datetime(2000, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
) // timedelta(microseconds=1)
"""PostgreSQL counts microseconds too, from the year 2000 on."""


class PostgresSide:
    """One transaction of one connection."""

    def __init__(self, session: Session, shapes: Shapes) -> None:
        self._session = session
        self._connection = session.connection
        self._shapes = shapes

    @property
    def shapes(self) -> Shapes:
        return self._shapes

    async def count(self, table: str) -> int:
        number = await self._connection.fetchval(f'SELECT count(*) FROM "{table}"')  # noqa: S608 - a name from the catalogue
        return int(number)

    async def batches(self, table: str, columns: tuple[str, ...]) -> Batches:
        listed = ", ".join(f'"{column}"' for column in columns)
        rows: list[Row] = []
        # To its end, the cursor closes itself: one that is left open holds its table against triggers.
        async for row in self._connection.cursor(
            f'SELECT {listed} FROM "{table}"',  # noqa: S608 - names from the catalogue
            prefetch=ROWS_AT_ONCE,
        ):
            rows.append(tuple(row))
            if len(rows) == ROWS_AT_ONCE:
                yield rows
                rows = []
        if rows:
            yield rows

    async def last_number(self, table: str) -> int:
        sequence = await self._sequence(table)
        ((last, was_given),) = await self._connection.fetch(
            f"SELECT last_value, is_called::int FROM {sequence}"  # noqa: S608 - a name from the catalogue
        )
        return int(last) if was_given else int(last) - 1

    async def confirm(self) -> None:
        await _demand_alone(self._session)

    async def _sequence(self, table: str) -> str:
        return str(await self._connection.fetchval(SEQUENCE, table, self._shapes[table].counts))


class PostgresTarget(PostgresSide):
    """A transaction that nobody sees before it is committed."""

    def __init__(self, session: Session, shapes: Shapes, held: str | None) -> None:
        super().__init__(session, shapes)
        self.held = held
        self.aside: Path | None = None

    @asynccontextmanager
    async def undisturbed(self) -> AsyncIterator[None]:
        for table in self._shapes:
            await self._connection.execute(f'ALTER TABLE "{table}" DISABLE TRIGGER USER')
        yield
        for table in self._shapes:
            await self._connection.execute(f'ALTER TABLE "{table}" ENABLE TRIGGER USER')

    async def run(self, statement: str) -> None:
        await self._connection.execute(statement)

    async def write(self, table: str, columns: tuple[str, ...], batches: Batches) -> None:
        async def rows() -> AsyncIterator[Row]:
            async for batch in batches:
                for row in batch:
                    yield row

        await self._connection.copy_records_to_table(table, columns=columns, records=rows())
        # What the planner knows of an empty table would hold until the first autovacuum.
        await self._connection.execute(f'ANALYZE "{table}"')

    async def count_on_from(self, table: str, number: int) -> None:
        column = self._shapes[table].counts
        highest = await self._connection.fetchval(f'SELECT max("{column}") FROM "{table}"')  # noqa: S608 - names from the catalogue
        last = max(number, highest or 0)
        sequence = await self._sequence(table)
        await self._connection.fetchval(CONTINUE, sequence, max(last, 1), last > 0)

    async def commit(self) -> None:
        await self._session.script("COMMIT")


@asynccontextmanager
async def postgres_source(database_url: str, *, dry: bool = False) -> AsyncIterator[PostgresSide]:
    """The database for reading; its tables are locked against writers meanwhile, unless it is only looked at (`dry`).

    Raises:
        DatabaseMissing: it holds no Ostiary.
        NodesAreConnected: servers or commands use it.
        SchemaTooNew, SchemaAltered, SchemaBehind: its schema is not of this version.
        StorageFailed, TransferFailed: it cannot be reached or read.
    """
    async with _transaction(database_url) as session:
        if not dry:
            await _demand_alone(session)
        ((is_ours,),) = await session.rows(HAS_MIGRATIONS)
        if not is_ours:
            raise DatabaseMissing("There is no Ostiary in this PostgreSQL database.")
        applied = dict(await session.rows(APPLIED_MIGRATIONS))
        demand_current(applied, {step.name: step.checksum for step in shipped_migrations()})
        shapes = await _shapes(session)
        if not dry:
            await _lock(session, shapes, "SHARE")
        await _speak_plainly(session)
        yield PostgresSide(session, shapes)


@asynccontextmanager
async def postgres_target(database_url: str, now: datetime) -> AsyncIterator[PostgresTarget]:
    """The database for writing, with our schema; without `commit` it stays as it was.

    Raises:
        TargetNotEmpty: it holds tables that are not ours.
        TargetIsUsed: servers or commands use it.
        SchemaTooNew, SchemaAltered: it was made by another version.
        StorageFailed, TransferFailed: it cannot be reached or written.
    """
    async with _transaction(database_url) as session:
        await _demand_alone(session, TargetIsUsed)
        ((is_ours,),) = await session.rows(HAS_MIGRATIONS)
        if not is_ours and (strange := await _shapes(session)):
            raise TargetNotEmpty("This PostgreSQL database holds other tables.", table=min(strange))
        await migrate_within(session, now, shipped_migrations())
        shapes = await _shapes(session)
        await _lock(session, shapes, "ACCESS EXCLUSIVE")
        held = await _held(session, shapes)
        await _speak_plainly(session)
        yield PostgresTarget(session, shapes, held)


@asynccontextmanager
async def _transaction(database_url: str) -> AsyncIterator[Session]:
    """A transaction that is taken back unless it was committed."""
    settings = {"application_name": APPLICATION}
    session = await open_session(
        decode_address(database_url), settings, timeout_seconds=_PATIENCE_SECONDS
    )
    with _said():
        try:
            await session.script(BEGIN)
            yield session
            if session.is_in_transaction:
                await session.script("ROLLBACK")
            await session.connection.close(timeout=5)
        finally:
            session.end()


@contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except asyncpg.PostgresError as error:
        where = {"sqlstate": error.sqlstate, "table": getattr(error, "table_name", None)}
        facts = {name: value for name, value in where.items() if value}
        raise TransferFailed("PostgreSQL refused", **facts) from error
    except (TimeoutError, *NO_ANSWER) as error:
        raise TransferFailed("PostgreSQL does not answer") from error


async def _demand_alone(
    session: Session, refusal: type[NodesAreConnected] = NodesAreConnected
) -> None:
    """Raises `refusal`; who has just hung up is still listed for a moment."""
    others = 0
    for _ in range(LOOKS):
        await session.script(LOOK_AGAIN)
        others = await session.connection.fetchval(OTHER_NODES, APPLICATION)
        if not others:
            return
        await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)
    raise refusal(connections=others)


async def _shapes(session: Session) -> Shapes:
    columns: dict[str, dict[str, Kind]] = {}
    counts: dict[str, str] = {}
    for table, column, type_, counts_by_itself in await session.rows(COLUMNS):
        columns.setdefault(table, {})
        if column is not None:
            columns[table][column] = kind_of(_KINDS, type_, table, column)
        if counts_by_itself:
            counts[table] = column
    refers_to = {table: set[str]() for table in columns}
    for table, referred in await session.rows(REFERENCES):
        refers_to[table].add(referred)
    return {
        table: Shape(columns=named, refers_to=frozenset(refers_to[table]), counts=counts.get(table))
        for table, named in columns.items()
    }


async def _lock(session: Session, shapes: Shapes, mode: str) -> None:
    listed = ", ".join(f'"{table}"' for table in sorted(shapes))
    await session.script(LOCK_TIMEOUT)
    await session.script(f"LOCK TABLE {listed} IN {mode} MODE")


async def _held(session: Session, shapes: Shapes) -> str | None:
    """A table that has rows, if there is one; that of the steps always has."""
    for table in sorted(shapes.keys() - {"migration"}):
        ((has_any,),) = await session.rows(f'SELECT EXISTS (SELECT FROM "{table}")')  # noqa: S608 - a name from the catalogue
        if has_any:
            return f"table {table}"
    return None


async def _speak_plainly(session: Session) -> None:
    """From here on, the driver reads and writes rows as `side.py` has them."""
    connection = session.connection
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        format="tuple",
        encoder=lambda moment: (moment - _ITS_EPOCH,),
        decoder=lambda stored: stored[0] + _ITS_EPOCH,
    )
    codecs: tuple[tuple[str, Any, Any], ...] = (
        ("bool", lambda flag: b"\x01" if flag else b"\x00", lambda stored: stored[0]),
        (
            "text",
            lambda text: escape(text).encode(),
            lambda stored: unescape(bytes(stored).decode()),
        ),
    )
    for name, encoder, decoder in codecs:
        await connection.set_type_codec(
            name, schema="pg_catalog", format="binary", encoder=encoder, decoder=decoder
        )
