"""The parent of several processes, with work of a few lines: each scene is a process of its own, since it forks."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PATIENCE_SECONDS = 60
OPENING = """
import os, signal, sys, time
from pathlib import Path
from ostiary.cli.failure import Failed
from ostiary.cli.processes import Patience, Processes, Voice
from ostiary.web.journal import open_journal

open_journal("json", "info", sys.stdout)
HERE = Path(sys.argv[1])

class Posts:
    def hand_over(self, number): pass
    def renew(self, number): print("renewed", number, flush=True)
    def close_ports(self): print("closed", flush=True)

def nth_time(number):
    "Which start of this process it is, across its lives."
    with (HERE / str(number)).open("a") as lives:
        lives.write("x")
    return len((HERE / str(number)).read_text())

def serve_until_told(voice):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    voice.ready()
    while True:
        time.sleep(0.01)
        voice.beat()

def end():
    os.kill(os.getpid(), signal.SIGTERM)

def run(work, count=3, ready=lambda: None, **patience):
    quick = {"tick_seconds": 0.05, "first_back_off_seconds": 0.01, "end_seconds": 20.0} | patience
    try:
        print("code", Processes(count, work, Posts(), ready, Patience(**quick)).run(), flush=True)
    except Failed as failed:
        print("failed", failed.sentence, flush=True)
"""


def play(scene: str, path: Path) -> str:
    """What a scene printed, with the log of its parent and processes."""
    code = OPENING + textwrap.dedent(scene)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_tells_once_that_all_are_ready_and_ends_with_them(tmp_path: Path) -> None:
    said = play("run(lambda number, voice: serve_until_told(voice), ready=end)", tmp_path)
    assert said.count("process_started") == 3
    assert said.index("closed") < said.index("code 0")


def test_the_first_starts_alone(tmp_path: Path) -> None:
    """It migrates the schema, and says what is wrong, once."""
    scene = """
        def work(number, voice):
            if number == 1:
                time.sleep(0.2)
                print("first is ready", flush=True)
            else:
                print("another one", flush=True)
            serve_until_told(voice)
        run(work, ready=end)
    """
    said = play(scene, tmp_path)
    assert said.index("first is ready") < said.index("another one")


def test_one_that_dies_is_started_again(tmp_path: Path) -> None:
    scene = """
        def work(number, voice):
            if number == 2 and nth_time(2) < 3:
                voice.ready()
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 2:
                voice.ready()
                os.kill(os.getppid(), signal.SIGTERM)
            serve_until_told(voice)
        run(work)
    """
    said = play(scene, tmp_path)
    assert said.count('"signal": "SIGKILL", "event": "process_died"') == 2
    assert said.count("renewed 2") == 2
    assert "code 0" in said


def test_one_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    """It accepts, and answers nobody: worse than one that is dead."""
    scene = """
        def work(number, voice):
            if number == 2 and nth_time(2) == 1:
                voice.ready()
                time.sleep(600)
            if number == 2:
                voice.ready()
                os.kill(os.getppid(), signal.SIGTERM)
            serve_until_told(voice)
        run(work, silent_ticks=10)
    """
    said = play(scene, tmp_path)
    assert "process_is_silent" in said
    assert "code 0" in said


@pytest.mark.parametrize("who", [1, 2])
def test_whoever_cannot_start_at_first_ends_all_with_its_exit_code(
    tmp_path: Path, who: int
) -> None:
    scene = f"""
        def work(number, voice):
            if number == {who}:
                return 75
            serve_until_told(voice)
        run(work, ready=lambda: print("ready"))
    """
    said = play(scene, tmp_path)
    assert "code 75" in said
    assert "ready" not in said.replace("process_started", "")


def test_it_gives_up_once_nobody_serves_and_all_die_at_their_start(tmp_path: Path) -> None:
    scene = """
        def work(number, voice):
            if nth_time(number) > 1:
                return 70
            voice.ready()
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        run(work, failed_starts=4)
    """
    said = play(scene, tmp_path)
    assert "failed 4 processes in a row ended before they served" in said


def test_it_does_not_give_up_while_the_database_is_away(tmp_path: Path) -> None:
    """Exit code 75 means: wait. (style.md 7)"""
    scene = """
        def work(number, voice):
            times = nth_time(number)
            if 1 < times < 6:
                return 75
            if times == 6 and number == 1:
                os.kill(os.getppid(), signal.SIGTERM)
            voice.ready()
            if times == 1:
                time.sleep(0.3)
                os.kill(os.getpid(), signal.SIGKILL)
            serve_until_told(voice)
        run(work, count=2, failed_starts=2)
    """
    assert "code 0" in play(scene, tmp_path)


def test_who_does_not_end_in_time_is_ended(tmp_path: Path) -> None:
    scene = """
        def work(number, voice):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            voice.ready()
            while True:
                time.sleep(0.01)
                voice.beat()
        run(work, ready=end, end_seconds=0.3)
    """
    said = play(scene, tmp_path)
    assert "processes_do_not_end" in said
    assert "code 0" in said


def test_no_bug_of_a_process_reaches_the_parents_code(tmp_path: Path) -> None:
    """What it raises ends that process, with the exit code of a bug."""
    scene = """
        def work(number, voice):
            raise ValueError("planted-text")
        run(work)
    """
    said = play(scene, tmp_path)
    assert '"error": "ValueError"' in said
    assert "code 70" in said
    assert "planted-text" not in said
