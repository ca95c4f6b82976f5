"""Scenes: short plays of devices and operators on a whole house without HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ostiary.domain.token import DEFAULT_TENANT
from ostiary.keys.sealer import open_sealer
from ostiary.secret import Secret
from ostiary.storage import open_storage
from scenes.house import START, House, MovedClock


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A house on a fresh database that holds one push topic."""
    clock = MovedClock()
    path = tmp_path / "ostiary.db"
    storage = open_storage(f"sqlite:///{path}", clock)
    sealer, rows = open_sealer(Secret(b"k" * 32), (), now=START, tenants=[DEFAULT_TENANT])
    for row in rows:
        await storage.epochs.add_epoch(row)
    house = House(path=path, storage=storage, clock=clock, sealer=sealer)
    await house.hold_topic()
    yield house
    await storage.close()
