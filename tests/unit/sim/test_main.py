"""The simulator's own command line."""

import asyncio
import json
import sys
from pathlib import Path

import httpx
import pytest

from ostiary_sim.__main__ import main, read_address
from ostiary_sim.apns.control import LEVERS
from ostiary_sim.errors import EnrollmentRefused
from ostiary_sim.said import sentence_in


def test_addresses_are_read_from_the_right() -> None:
    assert read_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert read_address("[::1]:80") == ("::1", 80)
    for wrong in ("80", "host:", "host:x"):
        with pytest.raises(ValueError):  # noqa: PT011 (argparse shows it with its own words)
            read_address(wrong)


def test_devices_that_find_no_server_end_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["devices", "--enroll", "https://127.0.0.1:1/", "--verbose"])
    assert code == 3
    *told, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["enrolled"] == 0
    assert json.loads(last)["ids"] == []
    assert "enrollment_failed" in told[-1]


async def test_apple_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "ostiary_sim", "apple", "--directory", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        endpoints = json.loads(await process.stdout.readline())
        async with httpx.AsyncClient(base_url=endpoints["control"], trust_env=False) as levers:
            assert (await levers.get("/tokens")).json() == {}
            told = (await levers.get("/")).json()
            assert [each["path"] for each in told] == [lever.path for lever in LEVERS]
            for lever in LEVERS:
                answer = await levers.request(lever.method, lever.path, json={})
                assert answer.status_code == (400 if _requires(lever.body) else 200), lever.path
    finally:
        process.terminate()
        rest, guide = await process.communicate()
    assert rest == b""  # one line of JSON alone, for programs
    for told in ("ostiary apns import", "below the line [apns]", f"--apple {endpoints['courier']}"):
        assert told in guide.decode()


def _requires(body: str) -> bool:
    """Whether a lever has a field that must be given."""
    return any(not name.endswith("?") for name in body.split(", ") if name)


def test_help_explains_every_lever(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["apple", "--help"])
    said = capsys.readouterr().out
    assert all(f"{lever.method} {lever.path}" in said for lever in LEVERS)


def test_only_the_first_line_of_a_plain_text_is_a_servers_sentence() -> None:
    """What a foreign server says is bounded, and moves no cursor."""
    assert sentence_in("text/plain", b"No push certificate.\nmore\n") == "No push certificate."
    assert sentence_in("text/plain", b"\x1b[2J" + b"x" * 5000) == "?[2J" + "x" * 296
    assert sentence_in("text/plain", b"") == ""
    assert sentence_in("text/html", b"<p>") == ""


def test_a_refusal_tells_what_the_server_said() -> None:
    """The status alone sends people to the server's log."""
    said = str(EnrollmentRefused(403, "The code is used up."))
    assert said == "the server answered Authenticate with 403: The code is used up."
    assert str(EnrollmentRefused(0)) == "the server did not answer Authenticate"
