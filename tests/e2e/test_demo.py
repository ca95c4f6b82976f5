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
LONGEST_SECONDS = 240


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """One whole demo without pauses; its directory is the last word of its command."""
    data = tmp_path_factory.mktemp("demo") / "data"
    return run("demo", "--fast", "--data", str(data))


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


def ledger(data: str) -> list[dict[str, Any]]:
    """Every token that the demo left in its ledger."""
    listed = run("token", "list", "--all", "--data", data, "-o", "json")
    assert listed.returncode == 0, listed.stderr
    tokens: list[dict[str, Any]] = json.loads(listed.stdout)
    return tokens


def test_the_demo_plays_every_step_and_says_so(
    played: subprocess.CompletedProcess[str],
) -> None:
    """A stranger types `make demo`, watches, and nothing is left running."""
    data = Path(played.args[-1])
    assert played.returncode == 0, played.stdout + played.stderr
    assert "Every step happened" in played.stdout
    for said in (
        "ostiary apns import",
        "Shared iPad",
        "its bootstrap token is escrowed",
        "got its bootstrap token back",
        "its passcode is cleared",
        "InstallProfile: NotNow",
        "CheckOut is accepted",
    ):
        assert said in played.stdout
    assert f"token list --all --data {data}" in played.stdout
    assert not (data / "control.sock").exists()
    assert not (data / "ready.json").exists()


def test_the_demo_leaves_a_ledger_in_which_each_token_tells_its_life(
    played: subprocess.CompletedProcess[str],
) -> None:
    """What the table showed is what the ledger says, also once the server is gone."""
    tokens = ledger(played.args[-1])
    lives = {(each["kind"], each["generation"], each["state"]) for each in tokens}
    assert ("push", 1, "superseded") in lives
    assert ("push", 2, "ok") in lives
    assert ("enrollment-challenge", 1, "retired") in lives
    assert ("bootstrap", 1, "unproven") in lives or ("bootstrap", 1, "ok") in lives
    proven = [each["proven_by"] or "" for each in tokens if each["kind"] == "unlock"]
    assert any(sentence.startswith("ClearPasscode") for sentence in proven)


def test_the_server_of_the_demo_had_nothing_to_complain_about(
    played: subprocess.CompletedProcess[str],
) -> None:
    """A newcomer who looks into the log finds facts, and no alarm."""
    log = (Path(played.args[-1]) / "server.log").read_text().splitlines()
    levels = {json.loads(line)["level"] for line in log}
    assert levels == {"info"}


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
