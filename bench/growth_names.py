"""What a large database is made of: which rows are copied, and which of their columns name something."""

from typing import Final

RECORDS: Final = ("push_record", "unlock_record", "bootstrap_record")
"""Where an enrollment names the tokens that are in force."""
IN_FORCE: Final = (
    f"WHERE id IN ({' UNION ALL '.join(f'SELECT {one} FROM enrollment' for one in RECORDS)})"  # noqa: S608 - the names are above
)
COPIED: Final = (("token", IN_FORCE), ("binding", ""), ("enrollment", ""))
"""What an enrollment consists of, and which rows of it; the enrollments last, because the others ask them."""
ANSWERED: Final = "command_closed"
UUID: Final = "uuid"
NUMBER: Final = "number"
"""Of an answered command; the database counts."""
_NAMES: Final = frozenset(
    {"id", "key", "enrollment_key", "fingerprint", "holder", "relationship"} | {*RECORDS}
)


def is_name(column: str) -> bool:
    """Whether a copy must hold another value; equal values become equal copies, so that they still meet."""
    return column in _NAMES
