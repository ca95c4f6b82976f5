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


@pytest.mark.parametrize(
    ("written", "stored"),
    [("none", ""), ("", ""), ("UDID-1", "UDID-1"), (" A, B,,C ", "A,B,C"), ("true", "true")],
)
def test_enrollment_ids_are_written_with_commas_between(written: str, stored: str) -> None:
    plain = plain_value("renewal_canaries", written)
    assert decode_policy_value("renewal_canaries", plain) == stored


@pytest.mark.parametrize("value", [7, ["A"], "A\nB", ",".join(f"ID-{n}" for n in range(51))])
def test_what_is_no_list_of_enrollment_ids_is_refused(value: object) -> None:
    with pytest.raises(PolicyValueUnusable):
        decode_policy_value("renewal_canaries", value)


@pytest.mark.parametrize(
    ("name", "written", "stored"),
    [
        ("admin_account", "it-staff", "it-staff"),
        ("admin_account", "none", ""),
        ("admin_full_name", "IT of Müller & Söhne", "IT of Müller & Söhne"),
        ("admin_full_name", "true", "true"),
    ],
)
def test_a_name_is_written_as_it_is(name: str, written: str, stored: str) -> None:
    """escrowed-secrets.md 4.8."""
    assert decode_policy_value(name, plain_value(name, written)) == stored


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("admin_account", "Admin"),
        ("admin_account", "two words"),
        ("admin_account", "a" * 32),
        ("admin_account", 7),
        ("admin_full_name", "a\nb"),
        ("admin_full_name", "\u202egnp"),
        ("admin_full_name", "a" * 101),
        ("most_destructive_an_hour", -1),
    ],
)
def test_what_is_no_name_of_an_account_is_refused(name: str, value: object) -> None:
    """A Mac would refuse it, or show something else; told now, not with the first Mac."""
    with pytest.raises(PolicyValueUnusable):
        decode_policy_value(name, value)
