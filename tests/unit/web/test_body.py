"""What a request says of its own length."""

import sys

import pytest

from ostiary.web.body import announced_bytes


@pytest.mark.parametrize(
    ("length", "announced"),
    [
        (b"0", 0),
        (b"5", 5),
        (b"0" * 5000 + b"5", 5),
        (b"0" * 5000, 0),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 19, sys.maxsize),
        (b"9" * 9000, sys.maxsize),
        (b"+5", None),
        (b"", None),
        ("٥".encode(), None),
    ],
)
def test_a_length_is_read_however_it_is_spelled(length: bytes, announced: int | None) -> None:
    """The parser lets thousands of zeros pass; more than a body may have is simply too much. (users.md 5.4 case 15)"""
    assert announced_bytes(length) == announced
