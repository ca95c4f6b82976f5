"""Errors as people at a terminal see them: one sentence, what helps, and an exit code that scripts can test."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from ostiary.cli.output import printable
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


class Exit(IntEnum):
    """Exit codes: the results of users.md 3.1, and sysexits for errors. (style.md 7)"""

    FINE = 0
    USAGE = 2
    PARTLY_DONE = 3
    HEALTH_WARNING = 4
    HEALTH_CRITICAL = 5
    MALFORMED = 65
    MISSING = 66
    BUG = 70
    CONFLICTING = 73
    UNAVAILABLE = 75
    REFUSED = 77


_BY_FAMILY: Final[Mapping[type[OstiaryError], Exit]] = MappingProxyType(
    {
        Malformed: Exit.MALFORMED,
        TooLarge: Exit.MALFORMED,
        Refused: Exit.REFUSED,
        Declined: Exit.REFUSED,
        Missing: Exit.MISSING,
        Conflicting: Exit.CONFLICTING,
        Unavailable: Exit.UNAVAILABLE,
    }
)
_BY_FAMILY_NAME: Final = {family.__name__: code for family, code in _BY_FAMILY.items()}


class Failed(Exception):
    """A command ends here: what to say, and the exit code. Also carries a problem that a server told us."""

    def __init__(self, sentence: str, hint: str = "", exit_code: int = Exit.BUG) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint
        self.exit_code = int(exit_code)


def failure_of(error: OstiaryError) -> Failed:
    """The same words and code, whether an error rose here or in a server."""
    code = next((c for family, c in _BY_FAMILY.items() if isinstance(error, family)), Exit.BUG)
    return Failed(str(error), error.hint, code)


def failure_of_problem(problem: Mapping[str, object]) -> Failed:
    """The failure that a server's application/problem+json tells."""
    code = _BY_FAMILY_NAME.get(str(problem.get("family")), Exit.BUG)
    sentence = str(problem.get("detail") or problem.get("title") or "the server failed")
    if code is Exit.BUG:
        sentence = f"{sentence} (request {problem.get('request_id')})"
    return Failed(sentence, str(problem.get("hint") or ""), code)


@contextmanager
def malformed_file(hint: str) -> Iterator[None]:
    """What is found malformed in the block, by a reader that cannot know who wrote it, is told with this hint."""
    try:
        yield
    except (Failed, OstiaryError) as error:
        failure = error if isinstance(error, Failed) else failure_of(error)
        if failure.hint or failure.exit_code != Exit.MALFORMED:
            raise
        raise Failed(failure.sentence, hint, failure.exit_code) from None


def report(failure: Failed) -> None:
    """Print a failure to standard error."""
    print(f"ostiary: error: {printable(failure.sentence)}", file=sys.stderr)
    if failure.hint:
        print(f"ostiary: hint: {printable(failure.hint)}", file=sys.stderr)
