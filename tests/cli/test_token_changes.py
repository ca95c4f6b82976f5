"""`ostiary token rotate`, `set`, `clear` and `verify` at the terminal, as their help shows them."""

import asyncio
import io
from pathlib import Path

import pytest

from enrolled import NOW
from escrowed import enroll_mac, escrow_values
from ostiary.cli.main import run
from ostiary.domain.token import TokenKind
from ostiary.house import open_house
from ostiary.settings import load_settings


async def _furnish(data: Path) -> None:
    async with open_house(load_settings(data)) as house:
        await enroll_mac(house, "HELD")
        await escrow_values(
            house.storage.enrollments,
            house.sealer,
            "HELD",
            TokenKind.RECOVERY_LOCK,
            [b"canary-password"],
            NOW,
        )


@pytest.fixture
def held(data: Path) -> Path:
    """An installation with one Mac whose Recovery Lock is known."""
    asyncio.run(_furnish(data))
    return data


@pytest.mark.parametrize("name", ["HELD", "SHELD"], ids=["enrollment id", "serial number"])
def test_a_device_is_named_as_everywhere_and_nobody_has_to_say_why(
    held: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """A reason is asked of who wants to see a value, and of nobody else."""
    assert run(["token", "verify", name, "recovery-lock", "--data", str(held)]) == 0
    assert run(["token", "rotate", name, "firmware-password", "--data", str(held)]) != 0
    assert "Intel" in capfd.readouterr().err
    assert run(["token", "rotate", name, "activation-bypass-device", "--data", str(held)]) == 0
    assert "canary" not in "".join(capfd.readouterr())


def test_an_empty_standard_input_is_named_as_such(
    held: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(["token", "set", "HELD", "recovery-lock", "--data", str(held)]) == 65
    assert "no value on standard input" in capfd.readouterr().err
