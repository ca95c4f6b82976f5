"""Names for new rows: in the order of time, and not to be guessed."""

import os
from datetime import UTC, datetime
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RANDOM_BYTES: Final = 10


def new_identifier(now: datetime) -> str:
    """32 hex digits: 12 of milliseconds since 1970, 20 random ones.

    Rows that are made at the same time stand side by side in the index over their names, so that the requests of one
    commit share its pages; with names drawn at random each request dirties a page of its own. As
    UUID version 7 does it, without the bits that say so.
    """
    milliseconds = int((now - _EPOCH).total_seconds() * 1000)
    return f"{max(milliseconds, 0):012x}{os.urandom(_RANDOM_BYTES).hex()}"
