"""Every scenario, a few messages of each, to a real server: what it should answer is what it answers."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench import house, scenarios
from bench.fleet import Fleet
from bench.house import Installation
from bench.scenarios import Stage

FEW = {4: 16}


async def test_a_server_answers_every_scenario_as_it_should(tmp_path: Path) -> None:
    """A wrong answer ends the run; so figures are those of right answers. (bench/README.md)"""
    with ThreadPoolExecutor(1) as pool:
        pool_of_processes: Any = pool  # signs here: the same calls, without starting processes
        fleet = Fleet(pool_of_processes)
        installation = Installation(name="SQLite", data=tmp_path / "sqlite" / "data")
        house.install(installation, fleet.authority_pem)
        with installation.serving() as contestant:
            stage = Stage(contestants=[contestant], fleet=fleet, devices=[], figures=[])
            await scenarios.import_push_certificate(stage)
            for run in (
                scenarios.enroll,
                scenarios.idle,
                scenarios.token_update,
                scenarios.bootstrap,
                scenarios.command,
            ):
                await run(stage, FEW)
    assert {one.scenario: one.requests for one in stage.figures} == {
        "enroll: Authenticate, TokenUpdate": 32,
        "Idle, body signed": 16,
        "Idle, attributes signed": 16,
        "TokenUpdate": 16,
        "TokenUpdate with UnlockToken": 16,
        "SetBootstrapToken": 16,
        "GetBootstrapToken": 16,
        "command step": 16,
    }
    assert all(one.cpu_ms for one in stage.figures)


def test_the_devices_ca_can_be_kept_for_a_peer_that_runs_already(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool_of_processes: Any = pool
        first, second = (Fleet(pool_of_processes, tmp_path / "ca") for _ in range(2))
    assert first.authority_pem == second.authority_pem == (tmp_path / "ca" / "ca.pem").read_bytes()
    assert (tmp_path / "ca" / "ca.key").stat().st_mode & 0o077 == 0
