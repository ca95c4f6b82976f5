"""Random lives of devices and their secrets: what a device holds is at no time missing from what may be revealed.

The long form plays ten thousand; `python -m lives.escrow_lives --help`, from tests/, plays any of them again.
Source: escrowed-secrets.md 4.0.2, 4.0.3, 4.13.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import pytest

from lives.escrow_lives import LifeFailed, Stage, say, staged
from ostiary.domain.escrow import MANNERS

LIVES = 10_000
FEWEST = 20
"""Played however slow the machine is; whichever of the others fit into the short form's time are played too."""
SECONDS = 12.0
FIRST = 40_000


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged() as stage:
        yield stage


def test_a_server_that_believes_every_acknowledgement_is_found_out(stage: Stage) -> None:
    """Rows 6 and 7 left out: nothing is verified, no restart is awaited. The lives would show what is lost by that."""
    credulous = {
        kind: replace(manner, verify=None, takes_restart=False) for kind, manner in MANNERS.items()
    }
    with (
        patch("ostiary.domain.escrow_machine.MANNERS", credulous),
        pytest.raises(LifeFailed, match="what the device holds is buried"),
    ):
        asyncio.run(_play(stage, FEWEST))


async def _play(stage: Stage, lives: int) -> None:
    for number in range(lives):
        await stage.play(FIRST + number)


def test_no_secret_that_a_device_holds_is_ever_missing(
    stage: Stage, long_form: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """After every act, with commits that fail, answers that get lost and servers that die."""
    deadline = time.monotonic() + SECONDS
    with asyncio.Runner() as runner:
        for number in range(LIVES):
            runner.run(stage.play(FIRST + number))
            if long_form:
                if number % 500 == 499:
                    with capsys.disabled():
                        say(f"{number + 1} lives")
            elif number >= FEWEST and time.monotonic() > deadline:
                break
    compared = stage.tally.compared
    for kind in ("recovery-lock", "firmware-password", "filevault-key", "bootstrap"):
        assert compared[kind], f"no life had a {kind}"
    assert stage.tally.deaths, "no server died"
