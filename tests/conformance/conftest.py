"""Every storage that decisions may stand on, and the two databases, for what has no twin in memory."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conformance.storage_twins import AnyStorage, Database
from conformance.storage_values import MovedClock
from ostiary.storage.memory.storage import MemoryStorage
from ostiary.storage.postgres.storage import open_postgres
from ostiary.storage.sqlite.storage import open_sqlite

Opener = Callable[[], AbstractAsyncContextManager[Any]]


def opener(request: pytest.FixtureRequest) -> Opener:
    """What opens a storage of the kind that the fixture is asked for; it is empty."""
    if request.param == "memory":
        return lambda: nullcontext(MemoryStorage())
    if request.param == "postgres":
        return partial(open_postgres, request.getfixturevalue("postgres_url"), clock=MovedClock())
    path: Path = request.getfixturevalue("tmp_path")
    return partial(open_sqlite, path / "ostiary.db", clock=MovedClock())


# What an asynchronous fixture needs of others has to be asked for before the loop runs.
open_storage = pytest.fixture(opener, params=["memory", "sqlite", "postgres"], name="open_storage")
open_database = pytest.fixture(opener, params=["sqlite", "postgres"], name="open_database")


@pytest.fixture
async def storage(open_storage: Opener) -> AsyncIterator[AnyStorage]:
    """An empty storage of each kind."""
    async with open_storage() as opened:
        yield opened


@pytest.fixture
async def database(open_database: Opener) -> AsyncIterator[Database]:
    """An empty database of each engine."""
    async with open_database() as opened:
        yield opened
