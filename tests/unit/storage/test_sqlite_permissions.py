"""A directory or a file that may not be written: said clearly, before anything is served, and mended without a trace."""

import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.storage_twins import store, visible_state
from conformance.storage_values import MovedClock, device
from ostiary.ports.storage import StorageFailed
from ostiary.storage.sqlite.schema import shipped_migrations
from ostiary.storage.sqlite.storage import open_sqlite

MIGRATIONS = shipped_migrations()
"""Read while we may: who is not root may have no way to them."""


@contextmanager
def not_root() -> Iterator[None]:
    """As somebody whom permissions hold back."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory of its own for who is not root; pytest's own are closed to others."""
    with not_root(), tempfile.TemporaryDirectory(prefix="ostiary-permissions-") as made:
        yield Path(made)
        Path(made).chmod(0o700)


def permit(path: Path, mode: int) -> None:
    path.chmod(mode)


@pytest.mark.parametrize("mode", [0o500, 0o000], ids=["unwritable", "closed"])
async def test_a_directory_that_may_not_be_written_is_refused_at_the_start(
    folder: Path, mode: int
) -> None:
    path = folder / "ostiary.db"
    async with open_sqlite(path, clock=MovedClock(), migrations=MIGRATIONS) as storage:
        await store(storage, rows=(device(1),))
    permit(folder, mode)
    with pytest.raises(StorageFailed):
        open_sqlite(path, clock=MovedClock(), migrations=MIGRATIONS)
    permit(folder, 0o700)
    async with open_sqlite(path, clock=MovedClock(), migrations=MIGRATIONS) as storage:
        assert len((await visible_state(storage))["enrollments"]) == 1


async def test_a_file_that_lost_its_permissions_is_given_them_back(folder: Path) -> None:
    """It is ours and private, so there is nothing to ask anybody."""
    path = folder / "ostiary.db"
    async with open_sqlite(path, clock=MovedClock(), migrations=MIGRATIONS) as storage:
        await store(storage, rows=(device(1),))
    permit(path, 0o000)
    async with open_sqlite(path, clock=MovedClock(), migrations=MIGRATIONS) as storage:
        assert len((await visible_state(storage))["enrollments"]) == 1
    assert path.stat().st_mode & 0o777 == 0o600
