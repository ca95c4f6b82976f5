"""Connections to the database file, with the promises each must keep: durable, private, one process."""

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ostiary.storage.errors import StoreIsOpen

_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    # An answer leaves only after fsync; NORMAL would lose the last commits with the power.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # Nobody else should write; if somebody does, the event loop waits no longer than this.
    "PRAGMA busy_timeout = 1000",
    # A checkpoint runs in the commit thread and the batch waits for it: 4 MiB keeps that short.
    "PRAGMA wal_autocheckpoint = 1000",
    "PRAGMA journal_size_limit = 67108864",
    # Freed content is zeroed wherever that costs no further page; secrets are sealed anyway.
    "PRAGMA secure_delete = FAST",
    "PRAGMA cache_size = -16384",
    "PRAGMA temp_store = MEMORY",
)
_READER_PRAGMAS: Final = ("PRAGMA query_only = ON", "PRAGMA busy_timeout = 5000")
_CACHED_STATEMENTS: Final = 256


class StoreLock:
    """Keeps other processes off a database file for as long as it is held."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise StoreIsOpen(database=database) from None

    def release(self) -> None:
        """Let others open the database. The file stays: removing it would race with who waits for it."""
        os.close(self._file)


def create_private(database: Path) -> None:
    """Make the file exist, readable by its owner only; WAL and shared memory inherit its mode."""
    try:
        os.close(os.open(database, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        database.chmod(0o600)


def open_writer(database: Path) -> sqlite3.Connection:
    """The one connection that writes: used by the event loop and the commit thread, never by both at once."""
    connection = sqlite3.connect(
        database,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
    )
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def open_reader(database: Path) -> sqlite3.Connection:
    """A connection that cannot write, for reports in threads."""
    connection = sqlite3.connect(
        f"file:{quote(str(database))}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    for pragma in _READER_PRAGMAS:
        connection.execute(pragma)
    return connection
