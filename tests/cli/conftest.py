"""An installation for each test, and a command line whose traces in the process are undone."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from installation import copy_installation, journal_as_before, make_installation

if TYPE_CHECKING:
    from postgres_server import PostgresServer


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ostiary init` makes, once."""
    return make_installation(tmp_path_factory.mktemp("installation"))


@pytest.fixture
def data(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory that commands use by default."""
    directory = copy_installation(template, tmp_path / "data")
    monkeypatch.setenv("OSTIARY_DATA", str(directory))
    return directory


@pytest.fixture
def bare_url(postgres_server: "PostgresServer") -> Iterator[str]:
    """The URL of a PostgreSQL database without a schema."""
    postgres_server.restart()
    url = asyncio.run(postgres_server.make_database("template0"))
    yield url
    asyncio.run(postgres_server.drop_database(url))


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    with journal_as_before():
        yield
