"""Every storage that decisions may stand on, and the two databases, for what has no twin in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conformance.storage_twins import AnyStorage, Database
from conformance.storage_values import MovedClock
from ostiary.storage.memory.storage import MemoryStorage
from ostiary.storage.postgres.storage import open_postgres
from ostiary.storage.sqlite.storage import open_sqlite


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a storage of each kind is to be."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"{request.param}:{tmp_path}/ostiary.db"


@pytest.fixture
async def storage(storage_url: str) -> AsyncIterator[AnyStorage]:
    """An empty storage of each kind."""
    engine, _, path = storage_url.partition(":")
    if engine == "memory":
        yield MemoryStorage()
    elif engine == "sqlite":
        async with open_sqlite(Path(path), clock=MovedClock()) as opened:
            yield opened
    else:
        async with open_postgres(storage_url, clock=MovedClock()) as opened:
            yield opened


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a database of each engine is to be."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/ostiary.db"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty database of each engine."""
    scheme, _, path = database_url.partition("///")
    if scheme == "sqlite:":
        async with open_sqlite(Path(path), clock=MovedClock()) as opened:
            yield opened
    else:
        async with open_postgres(database_url, clock=MovedClock()) as opened:
            yield opened
