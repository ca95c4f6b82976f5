"""A SQLite storage of its own for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conformance.storage_values import MovedClock
from ostiary.storage.sqlite.storage import SqliteStorage, open_sqlite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ostiary.db"


@pytest.fixture
async def sqlite(path: Path) -> AsyncIterator[SqliteStorage]:
    async with open_sqlite(path, clock=MovedClock()) as opened:
        yield opened
