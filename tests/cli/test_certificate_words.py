"""What the terminal says of certificates that people vouch for, and of requests that cannot be written."""

from pathlib import Path

import pytest

from enrolled import enroll
from ostiary.cli.background import run_async
from ostiary.cli.main import run
from ostiary.house import open_house
from ostiary.settings import load_settings


def test_a_named_certificate_is_accepted_at_its_next_check_in(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing has changed hands yet, and the sentence says so. (design.md 3)"""

    async def one_device() -> None:
        async with open_house(load_settings(data)) as house:
            await enroll(house, "A")

    run_async(one_device())
    command = ["device", "accept-certificate", "A", "--fingerprint"]
    assert run([*command, "AB:CD"]) == 65
    assert "64 hexadecimal digits" in capfd.readouterr().err
    assert run([*command, "AB:" * 31 + "AB"]) == 0
    assert "A: the certificate is accepted at its next check-in." in capfd.readouterr().err


def test_no_key_is_made_for_a_request_that_cannot_be_written(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A key that nobody hears of would wait for ever."""
    before = (data / "ostiary.sqlite").stat().st_mtime_ns
    assert run(["apns", "csr", "--out", str(tmp_path / "none/push.csr")]) == 75
    assert run(["apns", "csr", "--out", str(tmp_path)]) == 2
    said = capfd.readouterr()
    assert "there is no such directory" in said.err
    assert said.out == ""
    assert (data / "ostiary.sqlite").stat().st_mtime_ns == before


def test_authorities_that_cannot_be_read_are_named(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Both end before a device is simulated."""
    for file, said in (
        (tmp_path / "none.pem", "No such file"),
        (data / "ostiary.toml", "no certificate in PEM"),
    ):
        with pytest.raises(SystemExit) as ended:
            run(["simulate", "devices", "--enroll", "https://127.0.0.1:1", "--ca", str(file)])
        assert ended.value.code == 2
        assert said in capfd.readouterr().err
