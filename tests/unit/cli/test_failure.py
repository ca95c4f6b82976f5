"""Exit codes and words, the same whether an error rose here or in a server. (style.md 7)"""

import json

import pytest

from ostiary.cli.failure import failure_of, failure_of_problem, report
from ostiary.cli.main import app, run
from ostiary.errors import (
    Conflicting,
    Declined,
    Malformed,
    Missing,
    OstiaryError,
    Refused,
    TooLarge,
    Unavailable,
)
from ostiary.web.problems import Door, render_problem


@pytest.mark.parametrize(
    ("family", "code"),
    [
        (Malformed, 65),
        (TooLarge, 65),
        (Refused, 77),
        (Declined, 77),
        (Missing, 66),
        (Conflicting, 73),
        (Unavailable, 75),
        (OstiaryError, 70),
    ],
)
def test_a_family_has_one_exit_code_by_either_way(family: type[OstiaryError], code: int) -> None:
    """style.md 7, the table's last column."""
    error = family("something", field="x")
    here = failure_of(error)
    problem = json.loads(bytes(render_problem(error, Door.API, request_id="r").body))
    there = failure_of_problem(problem)
    assert here.exit_code == there.exit_code == code
    if code != 70:
        assert (here.sentence, here.hint) == (there.sentence, there.hint)


def test_a_failure_is_printed_as_error_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """style.md 7."""
    report(failure_of(Missing("nothing\x1b[2J")))
    assert capsys.readouterr().err == "ostiary: error: nothing\\x1b[2J\n"


def test_a_bug_shows_its_place_and_no_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of a foreign exception may quote what it stumbled over."""

    def stumble(*_arguments: object, **_keywords: object) -> None:
        raise ValueError("planted-secret")

    monkeypatch.setattr("ostiary.cli.push.ask", stumble)
    assert run(["push", "A"]) == 70
    said = capsys.readouterr().err
    assert "planted" not in said
    assert "ValueError" in said


def every_command() -> list[list[str]]:
    commands = [[info.name or ""] for info in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        verbs = [info.name or "" for info in group.typer_instance.registered_commands]
        commands += [[group.name or "", verb] for verb in verbs]
    return [command for command in commands if command[0] != "simulate"]


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_every_commands_help_teaches_with_an_example(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Issue 2: --help with an example, which is a command that exists."""
    assert run([*command, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"Example: ostiary {' '.join(command)}" in " ".join(said.split())
    assert "\x1b" not in said
