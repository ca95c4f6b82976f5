"""What people may write as a policy's value, and what they are told about each policy."""

from dataclasses import fields
from datetime import timedelta

import pytest

from ostiary.domain.policy import Policy
from ostiary.services.policies import (
    CHOICES,
    MEANINGS,
    PolicyValueUnusable,
    decode_policy_value,
    plain_value,
)


def test_every_policy_is_explained() -> None:
    """A policy without a sentence is a switch nobody dares to touch."""
    names = {field.name for field in fields(Policy)}
    assert set(MEANINGS) == set(CHOICES) == names


@pytest.mark.parametrize(
    ("written", "seconds"), [("3600", 3600), ("90m", 5400), ("24h", 86400), ("7d", 604800)]
)
def test_a_span_of_time_is_written_as_people_do(written: str, seconds: int) -> None:
    """Seconds, as it is stored, or with a unit."""
    plain = plain_value("contest_silence", written)
    assert decode_policy_value("contest_silence", plain) == timedelta(seconds=seconds)


@pytest.mark.parametrize("written", ["soon", "-1", "1.5h", "²", "true", "99999999999", ""])
def test_what_is_no_span_of_time_is_refused(written: str) -> None:
    """A fault is named before it is stored."""
    with pytest.raises(PolicyValueUnusable, match="24h, 90m, 7d"):
        decode_policy_value("contest_silence", plain_value("contest_silence", written))
