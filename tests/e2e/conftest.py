"""What most scenes of devices at the real door begin with."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from e2e.fleet import URL, Fleet, open_fleet
from installation import copy_installation, journal_as_before
from ostiary.cli.main import run
from ostiary_sim.apns import PushAuthority


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation for loopback, and the keys of an Apple: made once, copied for each scene."""
    data = tmp_path_factory.mktemp("installation") / "data"
    with journal_as_before():
        assert run(["init", "--data", str(data), "--url", URL]) == 0
    (data / "apple").mkdir()
    PushAuthority.open(data / "apple")
    return data


@pytest.fixture
async def fleet(installation: Path, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A served house, an Apple, and no device yet."""
    async with open_fleet(copy_installation(installation, tmp_path / "data")) as fleet:
        yield fleet
