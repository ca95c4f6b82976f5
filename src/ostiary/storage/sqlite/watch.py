"""Whether the open files are still the ones at their paths: SQLite goes on writing to files that were removed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw
import structlog

from ostiary.ports.storage import StorageFailed

_log = structlog.get_logger()

RESCUE: Final = "PRAGMA wal_checkpoint(FULL)"


class StoreVanished(StorageFailed):
    """The files of the database were removed or replaced while it was open."""

    hint = (
        "Restart the server: what it acknowledged is in the database. If that file itself is gone, restore it from a "
        "copy, or first from /proc/PID/fd while the server still runs."
    )


class FileWatch:
    """Keeps the files of one database by the hand since they were opened, without opening them for reading.

    So no number of theirs is given to another file; and closing such a handle does not drop SQLite's locks, which
    closing any other would.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._beside = tuple(database.with_name(database.name + end) for end in ("-wal", "-shm"))
        self._held: dict[Path, int] = {}
        self._is_told = False

    def opening(self, connect: Callable[[Path], apsw.Connection]) -> apsw.Connection:
        """A connection to the database; never to another that took its place, nor to a new one.

        Raises:
            StoreVanished
        """
        if self._database in self._held:
            self._require(self._database)
        connection = connect(self._database)
        # Those beside the database come and go with the connections to it.
        self.close()
        self._held = {self._database: _hold(self._database)}
        return connection

    def look(self) -> None:
        """Raise StoreVanished unless every file is where it was."""
        for path in tuple(self._held):
            self._require(path)

    def inspect(self, connection: apsw.Connection) -> None:
        """Look after a commit, before anybody is told of it.

        A write-ahead log that has no name any more is not found after a crash, so all of it is moved into the
        database at once.

        Raises:
            StoreVanished: nobody may be told that anything is stored, until the server was restarted.
        """
        try:
            self.look()
            for path in self._beside:
                if path not in self._held:
                    self._held[path] = _hold(path)
        except (OSError, StoreVanished) as error:
            if not self._is_told:
                self._is_told = True
                _log.error("database_files_vanished", database=str(self._database))
            connection.execute(RESCUE)
            raise StoreVanished(database=self._database) from error

    def close(self) -> None:
        """Let go."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _require(self, path: Path) -> None:
        try:
            is_there = os.path.samestat(os.fstat(self._held[path]), os.stat(path))  # noqa: PTH116 - twice as fast
        except OSError as error:
            raise StoreVanished(path=path) from error
        if not is_there:
            raise StoreVanished(path=path)


def _hold(path: Path) -> int:
    return os.open(path, os.O_PATH | os.O_CLOEXEC)
