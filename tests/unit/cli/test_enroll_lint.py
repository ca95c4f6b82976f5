"""What a person reads about an enrollment profile."""

from pathlib import Path

import pytest

from ostiary.cli import enroll
from ostiary.cli.main import run


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
