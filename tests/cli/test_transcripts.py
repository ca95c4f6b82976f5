"""Transcripts: what a person types, what the terminal says, and the exit code.

A transcript is a text file of blocks: a line `$ ostiary …`, the expected output (both streams as they
came), and `[exit N]` where N is not 0. Paths, times, ids and codes are written as words.
"""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from ostiary.cli.main import run

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
WORDS = (
    (re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"), "UUID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"(?<=root\.key\.)\d{4}-\d\d-\d\d"), "DAY"),
    (re.compile(r"([0-9A-Z]{4}-){4}[0-9A-Z]{4}"), "CODE"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "DIGEST"),
)


def blocks(text: str) -> list[tuple[str, str]]:
    """Each command with what is expected of it."""
    parts = re.split(r"^\$ ostiary ?", text, flags=re.MULTILINE)[1:]
    split = [part.partition("\n") for part in parts]
    return [(command, expected.strip()) for command, _, expected in split]


def as_words(said: str, places: dict[Path, str]) -> str:
    for path, word in places.items():
        said = said.replace(str(path), word)
    for pattern, word in WORDS:
        said = pattern.sub(word, said)
    return "\n".join(re.sub(r" {2,}", "  ", line).rstrip() for line in said.strip().splitlines())


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_terminal_says_what_the_transcript_says(
    transcript: Path,
    data: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """style.md 9: text transcripts: command, expected output, exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for command, expected in blocks(transcript.read_text()):
        arguments = shlex.split(command.replace("DATA", str(data)).replace("HERE", str(tmp_path)))
        code = run(arguments)
        out, err = capfd.readouterr()
        said = as_words(out + err, {data: "DATA", tmp_path: "HERE"})
        ending = f"[exit {code}]" if code else ""
        assert f"{said}\n{ending}".strip() == expected, command


def test_every_error_in_a_transcript_is_followed_by_what_helps() -> None:
    """Every error says what happened, what it means, what to do."""
    for transcript in Path(__file__).parent.rglob("*.txt"):
        said = transcript.read_text().splitlines()
        for line, following in pairwise([*said, ""]):
            if line.startswith("ostiary: error: "):
                assert following.startswith("ostiary: hint: "), f"{transcript.name}: {line}"
