import pytest

from unit.sim.fake_mdm import Stage


@pytest.fixture
def stage() -> Stage:
    """A fake MDM server and simulated devices before it."""
    return Stage()
