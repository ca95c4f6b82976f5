"""A database file in the hands of a test, opened with the library that a server in the same process has it open with.

Two SQLite libraries in one process must never open the same file: when one closes it, the other's locks are gone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ostiary.storage.sqlite.connection import connect
from ostiary.storage.sqlite.readers import Rows


class Database(Protocol):
    """A connection, as those see it who know what each column holds."""

    def execute(self, statement: str, parameters: Sequence[Any] = (), /) -> Rows: ...


@contextmanager
def database(path: Path) -> Iterator[Database]:
    """Open it, beside whoever else has it open. Each statement is a transaction of its own."""
    connection = connect(path)
    try:
        yield connection
    finally:
        connection.close()
