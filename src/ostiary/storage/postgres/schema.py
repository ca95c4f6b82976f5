"""The migrations: which ran, which are still to run, and whether we may touch this database at all."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Final

from ostiary.errors import Unavailable
from ostiary.storage.errors import DatabaseMissing, SchemaAltered, SchemaTooNew
from ostiary.storage.postgres.pool import APPLICATION
from ostiary.storage.postgres.session import Session

_NAME: Final = re.compile(r"\d{4}_(before|after)_[a-z0-9_]+\.sql")
_ROOM: Final = "ostiary.storage.migrations.postgres"

HAS_MIGRATIONS: Final = "SELECT to_regclass('migration') IS NOT NULL"
# Released with the transaction, so that it works behind a pooler too. The number says "ostiary" to nobody but us.
LOCK_SCHEMA: Final = """
    SET LOCAL lock_timeout = 0;
    SET LOCAL statement_timeout = 0;
    SELECT pg_advisory_xact_lock(8030127419023);
"""
CREATE_MIGRATION: Final = """
    CREATE TABLE IF NOT EXISTS migration (
        name text COLLATE "C" NOT NULL PRIMARY KEY,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL
    )
"""
APPLIED_MIGRATIONS: Final = "SELECT name, checksum FROM migration ORDER BY name"
ADD_MIGRATION: Final = "INSERT INTO migration (name, checksum, applied_at) VALUES ($1, $2, $3)"
OTHER_NODES: Final = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()
"""


class OtherNodesRun(Unavailable):
    """The database is to go through a step that nodes of an older version would not survive, and some are running."""

    hint = "Stop the nodes of the older version, then start this one again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema: `0001_before_first_schema.sql`.

    On what a `before` step leaves, nodes of the version before still run; on what an `after` step leaves they do not.
    """

    name: str
    script: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.script.encode()).hexdigest()

    @property
    def is_after(self) -> bool:
        return "_after_" in self.name


def shipped_migrations() -> tuple[Migration, ...]:
    """The steps that this version knows, in order."""
    files = (file for file in resources.files(_ROOM).iterdir() if _NAME.fullmatch(file.name))
    return tuple(
        Migration(name=file.name, script=file.read_text(encoding="utf-8"))
        for file in sorted(files, key=lambda file: file.name)
    )


async def migrate(
    session: Session, now: datetime, migrations: Sequence[Migration]
) -> tuple[str, ...]:
    """Run what has not run yet, all in one transaction and one node at a time; the names of the steps that ran.

    An `after` step waits for a start at which no other node is connected.

    Raises:
        SchemaTooNew: the database went through an `after` step that we do not know.
        SchemaAltered: a step that we know by name had another text.
        OtherNodesRun: a `before` step stands behind an `after` step that has to wait.
    """
    ((has_any,),) = await session.rows(HAS_MIGRATIONS)
    if has_any and not _pending(await _applied(session, migrations), migrations):
        return ()
    async with session.transaction():
        return await migrate_within(session, now, migrations)


async def demand_schema(session: Session) -> None:
    """Raises DatabaseMissing if no step was ever taken here: an empty database in place of a lost one would know no device."""
    ((has_any,),) = await session.rows(HAS_MIGRATIONS)
    if not has_any:
        raise DatabaseMissing("The PostgreSQL database is empty; this installation had one.")


async def migrate_within(
    session: Session, now: datetime, migrations: Sequence[Migration]
) -> tuple[str, ...]:
    """As `migrate`, in the transaction that is open already."""
    await session.script(LOCK_SCHEMA)
    await session.script(CREATE_MIGRATION)
    pending = _pending(await _applied(session, migrations), migrations)
    if any(step.is_after for step in pending) and await _others_run(session):
        pending = _before_only(pending)
    for step in pending:
        await session.script(step.script)
        await session.run(ADD_MIGRATION, step.name, step.checksum, now)
    return tuple(step.name for step in pending)


async def _applied(session: Session, migrations: Sequence[Migration]) -> set[str]:
    known = {step.name: step for step in migrations}
    applied: dict[str, str] = dict(await session.rows(APPLIED_MIGRATIONS))
    for name, checksum in applied.items():
        step = known.get(name)
        if step is None and "_after_" in name:
            raise SchemaTooNew(migration=name)
        if step is not None and step.checksum != checksum:
            raise SchemaAltered(migration=name)
    return set(applied)


def _pending(applied: set[str], migrations: Sequence[Migration]) -> list[Migration]:
    return [step for step in migrations if step.name not in applied]


async def _others_run(session: Session) -> bool:
    ((others,),) = await session.rows(OTHER_NODES, APPLICATION)
    return int(others) > 0


def _before_only(pending: list[Migration]) -> list[Migration]:
    first = next(number for number, step in enumerate(pending) if step.is_after)
    if waiting := [step.name for step in pending[first:] if not step.is_after]:
        raise OtherNodesRun(migration=waiting[0])
    return pending[:first]
