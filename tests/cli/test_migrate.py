"""`ostiary migrate`: what it says and what it changes; what it refuses is in transcripts/migrate-refusals.txt."""

import asyncio
import json
from pathlib import Path

import pytest

from conformance.transfer_dumps import dump_postgres, dump_sqlite
from ostiary.cli.main import run
from ostiary.settings import load_settings
from served import served


def settings_lines(data: Path) -> list[str]:
    return (data / "ostiary.toml").read_text().splitlines()


def test_it_moves_all_and_names_the_new_database_in_the_settings(
    data: Path, bare_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    old, before = settings_lines(data), dump_sqlite(data / "ostiary.sqlite")
    assert run(["migrate", "--to", bare_url, "-o", "json"]) == 0
    out, said = capfd.readouterr()
    rows = {line["table"]: line["rows"] for line in json.loads(out)}
    assert rows["api_token"] == 1
    assert asyncio.run(dump_postgres(bare_url)) == before
    (added,) = [line for line in settings_lines(data) if line not in old]
    assert added.startswith("database = ")
    assert len(settings_lines(data)) == len(old) + 1
    kept = data / "ostiary.toml.before-migrate"
    assert kept.read_text().splitlines() == old
    assert {path.stat().st_mode & 0o777 for path in (kept, data / "ostiary.toml")} == {0o600}
    for part in (
        "rows moved from",
        "ostiary.toml.before-migrate",
        f"ostiary doctor --data {data}",
        "on every other node",
        "Never serve it again",
        f"rm {data / 'ostiary.sqlite'}",
    ):
        assert part in said


def test_there_and_back_the_same_server_serves_the_same_house(data: Path, bare_url: str) -> None:
    """The second way leads into another file: the first one still lies there, and holds something."""
    before = dump_sqlite(data / "ostiary.sqlite")
    token = ["api-token", "create", "prometheus", "--scope", "read"]
    assert run(["migrate", "--to", bare_url]) == 0
    with served(data) as server:
        assert run(token) == 0  # through the control socket
        assert run(["migrate", "--to", "sqlite"]) == 75
        assert server.stop() == 0
    assert run(["migrate", "--to", "sqlite"]) == 73
    (data / "ostiary.sqlite").rename(data / "ostiary.sqlite.old")
    assert run(["migrate", "--to", "sqlite"]) == 0
    after = dump_sqlite(data / "ostiary.sqlite")
    assert len(after["api_token"]) == len(before["api_token"]) + 1
    assert len(after["audit"]) == len(before["audit"]) + 1
    with served(data) as server:
        assert run([*token, "--replace"]) == 0
        assert server.stop() == 0


def test_a_check_says_what_would_be_moved_and_changes_nothing(
    data: Path, bare_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in data.iterdir() if path.is_file()}
    assert run(["migrate", "--check", "--to", bare_url]) == 0
    out, said = capfd.readouterr()
    assert "api_token" in out
    assert "Would move" in said
    assert "Nothing was changed" in said
    assert {path.name: path.read_bytes() for path in data.iterdir() if path.is_file()} == before


def test_the_settings_may_be_kept(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (data / "ostiary.toml").read_text()
    assert run(["migrate", "--keep-settings", "--to", str(tmp_path / "other.db")]) == 0
    assert (data / "ostiary.toml").read_text() == before
    assert "still names the old database" in capfd.readouterr().err


def test_where_the_environment_names_the_database_the_file_is_left_alone(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What the file says would not be heard: a server would go on with the old one."""
    monkeypatch.setenv("OSTIARY_DATABASE", "sqlite:///ostiary.sqlite")
    before = (data / "ostiary.toml").read_text()
    assert run(["migrate", "--to", str(tmp_path / "other.db")]) == 0
    assert (data / "ostiary.toml").read_text() == before
    assert "OSTIARY_DATABASE still names the old database" in capfd.readouterr().err


def test_a_second_migration_keeps_the_settings_of_the_first_one_too(
    data: Path, tmp_path: Path
) -> None:
    first = (data / "ostiary.toml").read_text()
    for name in ("one.db", "two.db"):
        assert run(["migrate", "--to", str(tmp_path / name)]) == 0
    assert load_settings(data).database_url == f"sqlite:///{tmp_path / 'two.db'}"
    assert (data / "ostiary.toml.before-migrate").read_text() == first
    assert "one.db" in (data / "ostiary.toml.before-migrate-2").read_text()


def test_a_server_that_runs_is_left_in_peace(data: Path, tmp_path: Path) -> None:
    """What a device hands over meanwhile would be lost. (design.md 1: nothing acknowledged is ever lost)"""
    with served(data):
        assert run(["migrate", "--to", str(tmp_path / "other.db")]) == 75
    assert not (tmp_path / "other.db").exists()


def test_a_path_is_meant_as_shells_mean_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["migrate", "--to", "here.db"]) == 0
    assert (tmp_path / "here.db").exists()
    assert load_settings(data).database_url == f"sqlite:///{tmp_path / 'here.db'}"


@pytest.mark.usefixtures("data")
def test_a_password_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OSTIARY_MIGRATE_TO", "postgresql://ann:pass-phrase@127.0.0.1:1/nothing")
    assert run(["migrate"]) == 75
    out, said = capfd.readouterr()
    assert "pass-phrase" not in out + said
