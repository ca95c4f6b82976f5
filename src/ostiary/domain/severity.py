"""How bad something is: the worst of what was found decides a command's exit code."""

from enum import IntEnum


class Severity(IntEnum):
    """From nothing to do to something that fails, or soon will."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
