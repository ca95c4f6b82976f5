"""`ostiary filevault install` at the terminal: what its options do, and whom it is not for."""

import asyncio
from pathlib import Path

import pytest

from escrowed import enroll_mac
from ostiary.cli.main import run
from ostiary.house import open_house
from ostiary.protocol.mdm.identity import EnrollmentType
from ostiary.settings import load_settings

INSTALL = ["filevault", "install", "--location", "the help desk"]


async def _furnish(data: Path) -> None:
    async with open_house(load_settings(data)) as house:
        await enroll_mac(house, "OURS")
        await enroll_mac(house, "WAITS", awaiting=True)
        await enroll_mac(house, "THEIRS", type=EnrollmentType.USER_ENROLLMENT_DEVICE)


@pytest.fixture
def fleet(data: Path) -> Path:
    """An installation with a Mac of ours, and one that is its user's own."""
    asyncio.run(_furnish(data))
    return data


def test_somebody_s_own_mac_is_refused_with_the_reason_and_what_to_do(
    fleet: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """escrowed-secrets.md 4.3; by its serial number as well."""
    for name in ("THEIRS", "STHEIRS"):
        assert run([*INSTALL, name, "--data", str(fleet)]) == 77
        said = " ".join(capfd.readouterr().err.split())
        assert "Apple forbids a payload of this profile under User Enrollment" in said
        assert "only an enrollment of the whole device would allow it" in said
    assert run([*INSTALL, "SOURS", "--data", str(fleet)]) == 0


def test_at_once_is_for_setup_assistant_and_says_so(
    fleet: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """escrowed-secrets.md 4.3: without Defer nobody is asked for the password that FileVault needs."""
    asked = [*INSTALL, "OURS", "--data", str(fleet), "--at-once"]
    assert run(asked) == 2
    assert "no user would be asked" in " ".join(capfd.readouterr().err.split())
    assert run([*asked, "--in-setup-assistant", "--bypasses", "3"]) == 2
    assert "Leave one of them out" in capfd.readouterr().err
    assert run([*asked, "--in-setup-assistant"]) == 73
    assert "does not wait there: nobody would be asked" in " ".join(capfd.readouterr().err.split())
    waiting = ["WAITS" if word == "OURS" else word for word in asked]
    assert run([*waiting, "--in-setup-assistant"]) == 0


def test_the_help_says_what_at_once_does_and_when_one_wants_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["filevault", "install", "--help"]) == 0
    said = " ".join(capfd.readouterr().out.replace("│", " ").split())
    assert "encrypt there or not at all" in said
    assert "the next user who logs out" in said
