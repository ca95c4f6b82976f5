"""What a person reads about an enrollment profile."""

from pathlib import Path

import pytest

from ostiary.cli import enroll
from ostiary.cli.main import run
from ostiary.formats.mobileconfig import render_profile
from ostiary.formats.plist import PlistValue


def test_a_profile_without_fault_is_said_to_be_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence would leave open whether anything was looked at; programs still read an empty list."""
    monkeypatch.setattr(enroll, "lint_profile", lambda _content, **_now: ())
    profile = tmp_path / "enroll.mobileconfig"
    profile.write_bytes(b"")
    assert run(["enroll", "lint", str(profile)]) == 0
    assert capfd.readouterr() == ("", "Nothing to complain about.\n")
    assert run(["enroll", "lint", str(profile), "-o", "json"]) == 0
    assert capfd.readouterr() == ("[]\n", "")


def test_a_profile_is_compared_with_the_one_on_the_devices(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """check-in-and-commands.md 6.1, EN-01: a right added by a renewal makes devices reject it."""
    profiles = []
    for rights in (4095, 8191):
        mdm: dict[str, PlistValue] = {"PayloadType": "com.apple.mdm", "AccessRights": rights}
        profile = tmp_path / f"{rights}.mobileconfig"
        profile.write_bytes(
            render_profile({"PayloadType": "Configuration", "PayloadContent": [mdm]})
        )
        profiles.append(str(profile))
    installed, renewal = profiles
    run(["enroll", "lint", renewal, "-o", "csv"])
    alone = capfd.readouterr().out
    run(["enroll", "lint", renewal, "--installed", installed, "-o", "csv"])
    compared = capfd.readouterr().out
    assert compared.startswith(alone)
    assert "AccessRights" in compared.removeprefix(alone)
