"""The migrations: which ran, which are still to run, and whether we may touch this database at all."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Final

import apsw

from ostiary.storage.errors import SchemaAltered, SchemaTooNew
from ostiary.storage.sqlite.rows import micros

_NAME: Final = re.compile(r"\d{4}_(before|after)_[a-z0-9_]+\.sql")
_ROOM: Final = "ostiary.storage.migrations.sqlite"

CREATE_MIGRATION: Final = """
    CREATE TABLE IF NOT EXISTS migration (
        name TEXT NOT NULL PRIMARY KEY, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
"""
APPLIED_MIGRATIONS: Final = "SELECT name, checksum FROM migration ORDER BY name"
ADD_MIGRATION: Final = "INSERT INTO migration (name, checksum, applied_at) VALUES (?, ?, ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema: `0001_before_first_schema.sql`."""

    name: str
    script: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.script.encode()).hexdigest()


def shipped_migrations() -> tuple[Migration, ...]:
    """The steps that this version knows, in order."""
    files = (file for file in resources.files(_ROOM).iterdir() if _NAME.fullmatch(file.name))
    return tuple(
        Migration(name=file.name, script=file.read_text(encoding="utf-8"))
        for file in sorted(files, key=lambda file: file.name)
    )


def migrate(
    connection: apsw.Connection, now: datetime, migrations: Sequence[Migration]
) -> tuple[str, ...]:
    """Run what has not run yet, each step in its own transaction; the names of those that ran.

    Raises:
        SchemaTooNew: the database went through a step that we do not know.
        SchemaAltered: a step that we know by name had another text.
    """
    connection.execute(CREATE_MIGRATION)
    applied = dict(connection.execute(APPLIED_MIGRATIONS))
    _check_history(applied, {step.name: step for step in migrations})
    pending = [step for step in migrations if step.name not in applied]
    for step in pending:
        _apply(connection, step, now)
    return tuple(step.name for step in pending)


def _check_history(applied: dict[str, str], known: dict[str, Migration]) -> None:
    for name, checksum in applied.items():
        if (step := known.get(name)) is None:
            raise SchemaTooNew(migration=name)
        if step.checksum != checksum:
            raise SchemaAltered(migration=name)


def _apply(connection: apsw.Connection, step: Migration, now: datetime) -> None:
    try:
        # To its end: a statement of it that gives rows would stop it there.
        connection.execute(f"BEGIN IMMEDIATE;\n{step.script}").fetchall()
        connection.execute(ADD_MIGRATION, (step.name, step.checksum, micros(now)))
        connection.execute("COMMIT")
    except apsw.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
