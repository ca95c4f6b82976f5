"""Every storage that decisions may stand on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from conformance.storage_twins import AnyStorage
from conformance.storage_values import MovedClock
from ostiary.storage.memory.storage import MemoryStorage
from ostiary.storage.sqlite.storage import open_sqlite


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStorage]:
    """An empty storage of each kind."""
    if request.param == "memory":
        yield MemoryStorage()
        return
    async with open_sqlite(tmp_path / "ostiary.db", clock=MovedClock()) as opened:
        yield opened
