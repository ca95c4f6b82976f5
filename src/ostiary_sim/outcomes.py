"""How a command went, in the words of the protocol.

Source: check-in-and-commands.md 3.1, 3.3.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

ACKNOWLEDGED: Final = "Acknowledged"
ERROR: Final = "Error"
FORMAT_ERROR: Final = "CommandFormatError"
NOT_NOW: Final = "NotNow"

_DOMAIN: Final = "MCMDMErrorDomain"
_CODE: Final = 12021


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Status word, result keys, and what happens after the report."""

    status: str = ACKNOWLEDGED
    keys: dict[str, object] = field(default_factory=dict)
    chain: list[dict[str, object]] = field(default_factory=list)
    after: Callable[[], Awaitable[None]] | None = None
    regardless: bool = False
    """`after` happens after one attempt to report, heard or not; the report is not repeated by an erased device."""
    unsaid: bool = False
    """The device goes under before it can report."""


class CommandFailed(Exception):
    """The device tried and could not: `Error`."""

    def __init__(self, text: str, *, domain: str = _DOMAIN, code: int = _CODE) -> None:
        super().__init__(text)
        self.text = text
        self.domain = domain
        self.code = code


class CommandMalformed(CommandFailed):
    """The command lacks what it needs: `CommandFormatError`."""


def failed(problem: CommandFailed) -> Outcome:
    """The outcome that tells the server about `problem`."""
    entry: dict[str, object] = {
        "ErrorCode": problem.code,
        "ErrorDomain": problem.domain,
        "LocalizedDescription": problem.text,
        "USEnglishDescription": problem.text,
    }
    status = FORMAT_ERROR if isinstance(problem, CommandMalformed) else ERROR
    return Outcome(status=status, chain=[entry])
