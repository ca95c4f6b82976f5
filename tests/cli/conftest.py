"""An installation for each test, and a command line whose traces in the process are undone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import copy_installation, journal_as_before, make_installation


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


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    with journal_as_before():
        yield
