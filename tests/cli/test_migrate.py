"""`ostiary migrate`: what it says and what it changes; what it refuses is in transcripts/migrate-refusals.txt."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.transfer_dumps import dump_postgres, dump_sqlite
from conformance.transfer_progress import Unheard
from ostiary.cli.current_house import SettingsChanged, open_current_house
from ostiary.cli.failure import failure_of
from ostiary.cli.main import run
from ostiary.cli.migrate import carry_out, make_plan
from ostiary.house import SystemClock
from ostiary.settings import Settings, load_settings
from ostiary.storage.errors import DatabaseMoved, StoreIsOpen
from ostiary.storage.opening import open_storage
from ostiary.storage.sqlite.connection import StoreLock
from ostiary.storage.transfer.errors import NodeCame
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
    """The file that was moved away lies there still: it is marked, so it makes room for the one that comes back."""
    before = dump_sqlite(data / "ostiary.sqlite")
    token = ["api-token", "create", "prometheus", "--scope", "read"]
    assert run(["migrate", "--to", bare_url]) == 0
    with served(data) as server:
        assert run(token) == 0  # through the control socket
        assert run(["migrate", "--to", "sqlite"]) == 75
        assert server.stop() == 0
    assert run(["migrate", "--to", "sqlite"]) == 0
    assert dump_sqlite(data / "ostiary.sqlite.old") == before
    assert (data / "ostiary.sqlite.old.moved").exists()
    assert not (data / "ostiary.sqlite.moved").exists()
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
    said = capfd.readouterr().err
    assert "still names the old database" in said
    assert f'  database = "sqlite:///{tmp_path / "other.db"}"' in said.splitlines()


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


def test_a_check_may_be_made_while_a_server_runs(
    data: Path, tmp_path: Path, bare_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """It moves nothing, and finds a wrong host or name before anything is stopped; on both engines."""
    for target in (bare_url, str(tmp_path / "other.db")):
        with served(data) as server:
            assert run(["migrate", "--check", "--to", target]) == 0
            assert "A server runs here: stop it" in capfd.readouterr().err
            assert run(["migrate", "--check", "--to", "postgresql://127.0.0.1:1/nothing"]) == 75
            assert server.stop() == 0
        if target == bare_url:
            assert run(["migrate", "--to", target]) == 0


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("word", ["postgresql1", "localhost:5432", "ostiary"])
def test_a_bare_word_is_no_file(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["migrate", "--to", word]) == 65
    assert "postgresql://user@host/name" in capfd.readouterr().err
    assert not (tmp_path / word).exists()


def test_an_old_database_that_is_put_back_into_service_is_refused(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It misses what devices handed over since, which would be lost without a word."""
    first, other = (data / "ostiary.toml").read_text(), tmp_path / "other.db"
    assert run(["migrate", "--to", str(other)]) == 0
    (data / "ostiary.toml").write_text(first)
    for command in (["serve"], ["policy", "list"], ["migrate", "--to", str(tmp_path / "third.db")]):
        capfd.readouterr()
        assert run(command) == 73
        said = capfd.readouterr().err
        assert f"was moved to {other} at " in said
        assert f"{data / 'ostiary.sqlite.moved'}" in said
    assert not (tmp_path / "third.db").exists()
    (data / "ostiary.sqlite.moved").unlink()
    assert run(["policy", "list"]) == 0


def test_a_mark_holds_whatever_is_in_it_and_only_beside_its_database(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["migrate", "--to", str(tmp_path / "one.db")]) == 0
    assert run(["migrate", "--to", "sqlite"]) == 0
    mark = tmp_path / "one.db.moved"
    mark.write_text("")
    with pytest.raises(DatabaseMoved, match="was moved to another database"):
        open_storage(f"sqlite:///{tmp_path / 'one.db'}", SystemClock())
    (tmp_path / "one.db").unlink()
    capfd.readouterr()
    assert run(["migrate", "--to", str(tmp_path / "one.db")]) == 0
    assert "moved away once" not in capfd.readouterr().err
    assert not mark.exists()
    assert run(["migrate", "--to", "sqlite"]) == 0
    assert (data / "ostiary.sqlite.old-2").exists()
    assert run(["policy", "list"]) == 0


def test_a_move_that_was_cut_off_before_the_settings_is_ended_by_the_same_command(
    data: Path, tmp_path: Path
) -> None:
    first, other = (data / "ostiary.toml").read_text(), str(tmp_path / "other.db")
    assert run(["migrate", "--to", other]) == 0
    (data / "ostiary.toml").write_text(first)
    assert run(["migrate", "--to", other]) == 0
    assert load_settings(data).database_url == f"sqlite:///{other}"


def test_who_read_the_settings_before_a_move_does_not_serve_the_old_database(
    data: Path, tmp_path: Path, bare_url: str
) -> None:
    """A supervised server that starts while `ostiary migrate` ends. Exit code 75: the next start serves the new one."""
    for target in (bare_url, str(tmp_path / "other.db")):
        before = load_settings(data)
        assert run(["migrate", "--to", target]) == 0

        async def opened(settings: Settings = before) -> None:
            async with open_current_house(settings):
                raise AssertionError

        with pytest.raises(SettingsChanged):
            asyncio.run(opened())
        assert failure_of(SettingsChanged()).exit_code == 75


def test_settings_change_while_nobody_else_can_open_the_old_database(
    data: Path, tmp_path: Path
) -> None:
    heard: list[str] = []

    def look(step: str) -> None:
        if step == "settings-changed":
            with pytest.raises(StoreIsOpen):
                StoreLock(data / "ostiary.sqlite")
            heard.append(step)

    plan = make_plan(load_settings(data), str(tmp_path / "other.db"), keep_settings=False)
    carry_out(plan, Unheard(), dry=False, trace=look)
    assert heard == ["settings-changed"]


@pytest.mark.parametrize("step", ["committed", "settings-changed"])
def test_a_node_that_comes_at_the_very_end_is_named_and_the_settings_stay(
    data: Path, tmp_path: Path, bare_url: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """What it takes in would be lost: it read the settings before they changed."""
    assert run(["migrate", "--to", bare_url]) == 0
    before = {path.name: path.read_bytes() for path in data.iterdir() if path.is_file()}
    nodes: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr("ostiary.storage.transfer.postgres.LOOKS", 1)

    def come(reached: str) -> None:
        if reached == step:
            nodes.append(connected_node(bare_url))

    plan = make_plan(load_settings(data), str(tmp_path / "new.db"), keep_settings=False)
    try:
        with pytest.raises(NodeCame):
            carry_out(plan, Unheard(), dry=False, trace=come)
    finally:
        for node in nodes:
            node.communicate(b"")
    assert {path.name: path.read_bytes() for path in data.iterdir() if path.is_file()} == before


def connected_node(url: str) -> subprocess.Popen[bytes]:
    """A process that is connected as nodes are, until its standard input ends."""
    program = (
        "import asyncio, asyncpg, sys\n"
        "async def main():\n"
        "    one = await asyncpg.connect(sys.argv[1], server_settings={'application_name': 'ostiary'})\n"
        "    print('here', flush=True)\n"
        "    sys.stdin.read()\n"
        "    await one.close()\n"
        "asyncio.run(main())\n"
    )
    node = subprocess.Popen(
        [sys.executable, "-c", program, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert node.stdout is not None
    assert node.stdout.readline() == b"here\n"
    return node


def test_a_target_in_use_is_spoken_of_as_the_target(
    bare_url: str, data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ostiary.storage.transfer.postgres.LOOKS", 1)
    node = connected_node(bare_url)
    try:
        assert run(["migrate", "--data", str(data), "--check", "--to", bare_url]) == 75
    finally:
        node.communicate(b"")
    assert "the database that is to be moved into" in capfd.readouterr().err


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
