"""What the twin's families share: the tables, and the only way to change them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from ostiary.storage.memory.tables import Tables


class Store:
    """One set of tables, replaced as a whole."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.wake_written = asyncio.Event()

    @contextmanager
    def writing(self) -> Iterator[Tables]:
        """A copy to write to; it becomes the truth unless something is raised."""
        draft = self.tables.copy()
        yield draft
        self.tables = draft
