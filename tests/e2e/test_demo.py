"""The demo without a terminal: it plays to its end by itself, or ends at once and cleanly when asked to."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

OSTIARY = (sys.executable, "-m", "ostiary")
LONGEST_SECONDS = 280
SAID = (
    "ostiary apns import",
    "Shared iPad",
    "its bootstrap token is escrowed",
    "got its bootstrap token back",
    "FileVault is on; the recovery key is in its envelope",
    "answered VerifyRecoveryLock: NotNow",
    "uncertain  generation 1 or 2",
    "reason: ticket 4711",
    "bootstrap token     held, fine",
    "SecureToken         ada, grace",
    "its passcode is cleared",
    "InstallProfile: NotNow",
    "CheckOut is accepted",
)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """One command of ours, to its end, with settings in the environment that the demo must not take."""
    environment = os.environ | {"OSTIARY_LISTEN": "no address", "HTTPS_PROXY": "http://127.0.0.1:9"}
    if words[0] != "demo":
        del environment["OSTIARY_LISTEN"]
    return subprocess.run(
        [*OSTIARY, *words],
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
        env=environment,
    )


def ledger(data: Path) -> list[dict[str, Any]]:
    """Every token that the demo left in its ledger."""
    listed = run("token", "list", "--all", "--data", str(data), "-o", "json")
    assert listed.returncode == 0, listed.stderr
    tokens: list[dict[str, Any]] = json.loads(listed.stdout)
    return tokens


def test_the_demo_plays_every_step_and_leaves_nothing_but_its_ledger(tmp_path: Path) -> None:
    """A stranger types `make demo`, watches, and finds in the ledger what the table showed."""
    data = tmp_path / "data"
    played = run("demo", "--fast", "--data", str(data))
    assert played.returncode == 0, played.stdout + played.stderr
    assert "Every step happened" in played.stdout
    for said in SAID:
        assert said in played.stdout
    assert f"token list --all --data {data}" in played.stdout
    assert not (data / "control.sock").exists()
    assert not (data / "ready.json").exists()
    assert_lives(data)
    assert_secrets(data, played.stdout)
    assert_log_without_alarm(data / "server.log")


def assert_lives(data: Path) -> None:
    """Each token tells its life, also once the server is gone."""
    tokens = ledger(data)
    lives = {(each["kind"], each["generation"], each["state"]) for each in tokens}
    assert ("push", 1, "superseded") in lives
    assert ("push", 2, "ok") in lives
    assert ("enrollment-challenge", 1, "retired") in lives
    assert any(kind == "bootstrap" for kind, _, _ in lives)
    proven = [each["proven_by"] or "" for each in tokens if each["kind"] == "unlock"]
    assert any(sentence.startswith("ClearPasscode") for sentence in proven)


def assert_secrets(data: Path, said: str) -> None:
    """What came, what took whose place; a person may ask for it still, and nobody saw more than its beginning."""
    mac = next(each for each in ledger(data) if each["kind"] == "filevault-key")["holder"]
    locks = [each for each in ledger(data) if each["kind"] == "recovery-lock"]
    assert [each["generation"] for each in locks if each["state"] == "superseded"] == [1]
    assert all(each["proven_by"].startswith("verified by command") for each in locks)
    for kind, generation in (("filevault-key", 1), ("recovery-lock", 1), ("recovery-lock", 2)):
        value = revealed(data, mac, kind, generation)
        assert value not in said
        assert value not in (data / "server.log").read_text()
    assert revealed(data, mac, "filevault-key", 1)[:4] + "-****" in said


def revealed(data: Path, mac: str, kind: str, generation: int) -> str:
    """One value, as a person gets it."""
    words = ("token", "reveal", mac, kind, "--generation", str(generation), "--reason", "a test")
    answered = run(*words, "--data", str(data), "-o", "json")
    assert answered.returncode == 0, answered.stderr
    value: str = json.loads(answered.stdout)["values"][0]["value"]
    return value


def assert_log_without_alarm(log: Path) -> None:
    """A newcomer who looks into the log finds facts, and nothing to worry about."""
    assert {json.loads(line)["level"] for line in log.read_text().splitlines()} == {"info"}


@pytest.fixture
def playing(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that has just started its server."""
    process = subprocess.Popen(
        [*OSTIARY, "demo", "--data", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    while "apns csr" not in (line := process.stdout.readline()):
        assert line, "the demo ended before its server was up"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_interrupted_takes_its_server_along(
    playing: subprocess.Popen[str], ending: signal.Signals, tmp_path: Path
) -> None:
    """Ctrl-C, a closed terminal and a polite kill end everything that the demo started."""
    server = json.loads((tmp_path / "data" / "ready.json").read_text())["pid"]
    playing.send_signal(ending)
    _, err = playing.communicate(timeout=LONGEST_SECONDS)
    assert playing.returncode == 130
    assert "nothing runs any more" in err
    assert "Traceback" not in err
    assert not Path(f"/proc/{server}").exists()


def test_a_demo_whose_server_dies_says_so(playing: subprocess.Popen[str], tmp_path: Path) -> None:
    """A step that does not happen is an error with a name, never a table that stands still."""
    server = json.loads((tmp_path / "data" / "ready.json").read_text())["pid"]
    os.kill(server, signal.SIGKILL)
    _, err = playing.communicate(timeout=LONGEST_SECONDS)
    assert playing.returncode not in (0, 130)
    assert "ostiary: error: the server ended with -9" in err
    assert "server.log" in err
    assert "Traceback" not in err


def test_the_demo_keeps_away_from_an_installation(
    tmp_path: Path,
) -> None:
    """Whoever names the directory of a real server gets a clear no, and finds it unchanged."""
    settings = tmp_path / "ostiary.toml"
    settings.write_text("# somebody's\n")
    refused = run("demo", "--fast", "--data", str(tmp_path))
    assert refused.returncode == 73
    assert "ostiary: error: There is an installation in this directory" in refused.stderr
    assert settings.read_text() == "# somebody's\n"
    assert [path.name for path in tmp_path.iterdir()] == ["ostiary.toml"]
