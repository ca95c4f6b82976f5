"""The doctor: one look at everything, one exit code for a monitor. (users.md 3.1)"""

import json
from pathlib import Path

import pytest

from ostiary.cli.main import run


def findings(capfd: pytest.CaptureFixture[str]) -> dict[str, str]:
    return {row["subject"]: row["severity"] for row in json.loads(capfd.readouterr().out)}


def test_a_house_without_a_push_certificate_is_a_warning(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4: health warning."""
    assert data.exists()
    assert run(["doctor", "-o", "json"]) == 4
    found = findings(capfd)
    assert found["push certificate"] == "warning"
    assert found["server"] == "warning"
    good = ("files", "database and keys", "clock", "device CA", "TLS certificate", "alerts")
    assert {found[subject] for subject in good} == {"ok"}


def test_a_key_that_others_may_read_is_critical(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 5: health critical."""
    (data / "keys/root.key").chmod(0o640)
    assert run(["doctor", "-o", "json"]) == 5
    found = findings(capfd)
    assert found[str(data / "keys/root.key")] == "critical"
    assert found["database and keys"] == "critical"  # we refuse to use it


def test_a_missing_key_is_critical_and_named(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """users.md 5.4 case 54: wrong key, missing key: one sentence, nothing written."""
    (data / "keys/device-ca.key").unlink()
    assert run(["doctor", "-o", "json"]) == 5
    assert findings(capfd)[str(data / "keys/device-ca.key")] == "critical"


def test_another_installations_root_key_is_named_as_such(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """users.md 5.4 case 54."""
    (data / "keys/root.key").write_bytes(b"x" * 32)
    assert run(["doctor"]) == 5
    assert "not the one" in capfd.readouterr().out
    assert run(["device", "list"]) == 75
    assert "root key" in capfd.readouterr().err


def test_a_missing_database_is_critical_and_never_replaced(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Only `init` makes a database: an empty one in place of a lost one would know no device."""
    for file in data.glob("ostiary.sqlite*"):
        file.unlink()
    for command in (["device", "list"], ["serve"]):
        assert run(command) == 66
        said = capfd.readouterr().err
        assert f"The database {data}/ostiary.sqlite is missing; this installation had one." in said
        assert "Restore it from a copy" in said
    assert run(["doctor", "-o", "json"]) == 5
    assert findings(capfd)["database and keys"] == "critical"
    assert not list(data.glob("ostiary.sqlite*"))


def test_an_empty_database_file_is_as_good_as_none(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """SQLite would take it for a new one."""
    (data / "ostiary.sqlite").write_bytes(b"")
    assert run(["device", "list"]) == 66
    assert "is empty; this installation had one." in capfd.readouterr().err


@pytest.mark.usefixtures("data")
def test_a_url_on_this_machine_that_leads_nowhere_is_a_warning(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Devices keep the URL for life, and find nobody there."""
    monkeypatch.setenv("OSTIARY_URL", "https://127.0.0.1:18443")
    assert run(["doctor", "-o", "json"]) == 4
    assert findings(capfd)["address"] == "warning"
    for name, value in (
        ("OSTIARY_LISTEN", "0.0.0.0:18443"),
        ("OSTIARY_PROXY__TRUSTED", '["127.0.0.1"]'),
        ("OSTIARY_TLS__ENABLED", "false"),
    ):
        with monkeypatch.context() as mended:
            mended.setenv(name, value)
            run(["doctor", "-o", "json"])
            assert "address" not in findings(capfd), name


def test_the_api_token_need_not_stay_on_the_server(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once handed over, the file is better gone."""
    (data / "api-token").unlink()
    assert run(["doctor", "-o", "json"]) == 4
    assert findings(capfd)["files"] == "ok"


@pytest.mark.usefixtures("data")
def test_without_its_database_everything_else_is_still_looked_at(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is broken is called by its name, and nobody learns later that the CA has ended, too."""
    monkeypatch.setenv("OSTIARY_DATABASE", "postgresql://canary-user:canary-word@127.0.0.1:1/mdm")
    assert run(["doctor", "-o", "json"]) == 5
    told = capfd.readouterr()
    assert "canary" not in told.out + told.err
    rows = {row["subject"]: row for row in json.loads(told.out)}
    assert [name for name, row in rows.items() if row["severity"] == "critical"] == ["database"]
    assert rows["database"]["sentence"] == (
        "The database cannot be reached (host=127.0.0.1, port=1, database=mdm, reason=nobody listens there)."
    )
    assert "host and port" in rows["database"]["todo"]
    for subject in ("clock", "device CA", "TLS certificate"):
        assert rows[subject]["severity"] == "ok"
