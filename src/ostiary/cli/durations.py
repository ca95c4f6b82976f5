"""Spans of time as people write them."""

import re
from datetime import timedelta
from typing import Final

from ostiary.cli.failure import Exit, Failed

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """A span of time as people write it: 30m, 24h, 7d."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if match is None:
        raise Failed(f"{text} is no span of time", "Write 30m, 24h or 7d.", Exit.USAGE)
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
