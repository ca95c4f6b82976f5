"""`make check` says how each check went, and what mends the one that failed."""

import sys

import pytest

from tools.check import CHECKS, Check, main, render, run


def test_a_check_that_passes_takes_one_line() -> None:
    outcome = run(
        Check(name="fine", command=(sys.executable, "-c", "print('all well')"), remedy="nothing")
    )
    assert outcome.passed
    assert render(outcome).startswith("ok    fine")
    assert "all well" not in render(outcome)


def test_a_check_that_fails_shows_its_words_and_the_remedy() -> None:
    outcome = run(
        Check(
            name="sad", command=(sys.executable, "-c", "raise SystemExit('no wind')"), remedy="wait"
        )
    )
    assert not outcome.passed
    assert "no wind" in render(outcome)
    assert render(outcome).endswith("to do: wait")


def test_a_tool_that_is_not_there_is_a_failure_and_no_traceback() -> None:
    outcome = run(Check(name="gone", command=("/nowhere/tool",), remedy="make setup"))
    assert not outcome.passed
    assert "could not be started" in outcome.said


def test_an_unknown_check_is_refused_with_the_names_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["nonsense"]) == 64
    assert all(check.name in capsys.readouterr().err for check in CHECKS[:1])
