"""The simulator's own command line."""

import asyncio
import json
import sys
from pathlib import Path

import httpx
import pytest

from ostiary_sim.__main__ import main, read_address


def test_addresses_are_read_from_the_right() -> None:
    assert read_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert read_address("[::1]:80") == ("::1", 80)
    for wrong in ("80", "host:", "host:x"):
        with pytest.raises(ValueError):  # noqa: PT011 (argparse shows it with its own words)
            read_address(wrong)


def test_devices_that_find_no_server_end_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["devices", "--enroll", "https://127.0.0.1:1/", "--leave", "--verbose"])
    assert code == 3
    *told, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["enrolled"] == 0
    assert "enrollment_failed" in told[-1]


async def test_apple_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "ostiary_sim", "apple", "--directory", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        endpoints = json.loads(await process.stdout.readline())
        async with httpx.AsyncClient(base_url=endpoints["control"], trust_env=False) as levers:
            assert (await levers.get("/tokens")).json() == {}
    finally:
        process.terminate()
        await process.wait()
