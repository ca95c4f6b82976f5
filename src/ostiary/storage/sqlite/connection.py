"""Connections to the database file, with the promises each must keep: durable, private, one process."""

import fcntl
import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

import apsw

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
_CACHED_STATEMENTS: Final = 512
"""As many as APSW keeps. It forgets one that was not among the last so many that ran, however few others there are."""
_NEW_OR_THERE: Final = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
_PATIENCE_MS: Final = 5000
"""How long a connection waits for others that hold the file, until a PRAGMA says otherwise."""


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


def address(database: Path) -> str:
    """A file's place as SQLite takes it, whatever bytes its name is made of."""
    return f"file:{quote(os.fsencode(database))}"


def connect(database: Path | str, flags: int = _NEW_OR_THERE) -> apsw.Connection:
    """A connection for one thread at a time: no lock of SQLite's keeps a second one off.

    That goes for its cursors too. One that is let go of before its last row was read uses the connection once more.
    What is given as text is an `address`, or a name of SQLite's own.
    """
    connection = apsw.Connection(
        address(database) if isinstance(database, Path) else database,
        flags=flags | apsw.SQLITE_OPEN_NOMUTEX | apsw.SQLITE_OPEN_URI,
        statementcachesize=_CACHED_STATEMENTS,
    )
    # Else a statement whose plan might suit other values better is planned anew at each call, for as long as ten runs.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.set_busy_timeout(_PATIENCE_MS)
    return connection


def open_writer(database: Path) -> apsw.Connection:
    """The one connection that writes: used by the event loop and the commit thread, never by both at once."""
    connection = connect(database)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
    except apsw.Error:
        connection.close()
        raise
    return connection


def open_reader(database: Path) -> apsw.Connection:
    """A connection that cannot write, for reports in threads."""
    connection = connect(database, apsw.SQLITE_OPEN_READONLY)
    for pragma in _READER_PRAGMAS:
        connection.execute(pragma)
    return connection
