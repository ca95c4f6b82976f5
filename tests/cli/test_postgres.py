"""An installation whose data lies in PostgreSQL: made, served and asked with the same commands as any other."""

import json
import shutil
from pathlib import Path

import pytest

from installation import URL, journal_as_before
from ostiary.cli.main import run
from served import served


def init(data: Path, database: str) -> int:
    command = ["init", "--data", str(data), "--url", URL, "--database", database]
    with journal_as_before():
        return run([*command, "--listen", "127.0.0.1:0", "--no-tls"])


def policies(data: Path, capsys: pytest.CaptureFixture[str]) -> object:
    capsys.readouterr()
    with journal_as_before():
        assert run(["policy", "list", "--data", str(data), "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_installation_may_keep_its_data_in_postgresql(
    tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    assert init(data, postgres_url) == 0
    assert not list(data.glob("*sqlite*"))
    assert policies(data, capsys)
    with served(data) as server:
        assert policies(data, capsys)  # through the control socket
        assert server.stop() == 0


def test_two_nodes_serve_one_database(
    tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second node is a copy of the first one's directory; no lock keeps it out. (design.md 4)"""
    one, other = tmp_path / "one" / "data", tmp_path / "other" / "data"
    assert init(one, postgres_url) == 0
    shutil.copytree(one, other)
    with served(one), served(other):
        assert policies(one, capsys) == policies(other, capsys)


def test_a_database_of_another_installation_is_not_taken_over(
    tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its keys are sealed under a root key that this one does not have: said so, with what to do instead."""
    assert init(tmp_path / "first", postgres_url) == 0
    capsys.readouterr()
    assert init(tmp_path / "second", postgres_url) == 73
    said = capsys.readouterr().err
    assert "belongs to another installation" in said
    assert "Name an empty database" in said
    assert "copy the data directory" in said
    assert not (tmp_path / "second").exists()


def test_a_database_that_is_not_there_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "postgresql://somebody:pass-phrase@127.0.0.1:1/nothing"
    assert init(tmp_path / "data", secret) == 75
    assert not (tmp_path / "data").exists()
    said = capsys.readouterr()
    assert "pass-phrase" not in said.out + said.err


def test_an_emptied_database_is_not_taken_for_a_new_one(
    tmp_path: Path, postgres_url: str, bare_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty one in place of a lost one would know no device: it is said, and nothing is made there."""
    data = tmp_path / "data"
    assert init(data, postgres_url) == 0
    settings = data / "ostiary.toml"
    settings.write_text(settings.read_text().replace(postgres_url, bare_url))
    capsys.readouterr()
    with journal_as_before():
        assert run(["policy", "list", "--data", str(data)]) == 66
    assert "is empty" in capsys.readouterr().err
