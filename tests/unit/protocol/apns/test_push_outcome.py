"""What APNs' answers mean."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.protocol.apns.outcome import (
    LARGEST_ANSWER,
    VERDICT_OF_REASON,
    PushOutcome,
    PushVerdict,
    judge,
)


def answer(status: int, **fields: object) -> PushOutcome:
    return judge(status, {"apns-id": "abc-1"}, json.dumps(fields).encode() if fields else b"")


def test_200_is_accepted_whatever_its_body_says() -> None:
    outcome = judge(200, {"apns-id": "ABC-1"}, b'{"reason":"BadDeviceToken"}')
    assert outcome.verdict is PushVerdict.ACCEPTED
    assert (outcome.apns_id, outcome.reason) == ("ABC-1", None)


@pytest.mark.parametrize(("key", "verdict"), VERDICT_OF_REASON.items())
def test_each_documented_reason_has_its_verdict(key: tuple[int, str], verdict: PushVerdict) -> None:
    """The table of check-in-and-commands.md 5.5."""
    status, reason = key
    outcome = answer(status, reason=reason)
    assert (outcome.verdict, outcome.reason, outcome.status) == (verdict, reason, status)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, PushVerdict.OUR_BUG),
        (403, PushVerdict.TOPIC_PAUSED),
        (410, PushVerdict.TOKEN_DEAD),
        (429, PushVerdict.THROTTLED),
        (500, PushVerdict.RETRY),
        (503, PushVerdict.RETRY),
        (302, PushVerdict.RETRY),
        (418, PushVerdict.RETRY),
        (599, PushVerdict.RETRY),
    ],
)
def test_a_reason_new_to_us_is_judged_by_its_status(status: int, verdict: PushVerdict) -> None:
    outcome = answer(status, reason="SomethingNew")
    assert (outcome.verdict, outcome.reason) == (verdict, "SomethingNew")


def test_a_reason_that_would_stop_a_token_needs_its_own_status() -> None:
    """A proxy's 503 with Apple's word in it kills no token."""
    assert answer(503, reason="Unregistered").verdict is PushVerdict.RETRY
    assert answer(429, reason="BadDeviceToken").verdict is PushVerdict.THROTTLED


def test_410_carries_the_moment_of_unregistering() -> None:
    """Milliseconds since 1970. (5.5)"""
    outcome = answer(410, reason="Unregistered", timestamp=1_764_000_000_123)
    assert outcome.unregistered_at == datetime(2025, 11, 24, 16, 0, 0, 123_000, tzinfo=UTC)


@pytest.mark.parametrize("timestamp", [-1, True, "1764000000123", 1.5, None, 10**30, [1], {"a": 1}])
def test_a_timestamp_of_another_form_is_none(timestamp: object) -> None:
    outcome = answer(410, reason="Unregistered", timestamp=timestamp)
    assert outcome.verdict is PushVerdict.TOKEN_DEAD
    assert outcome.unregistered_at is None


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b'"Unregistered"',
        b"\xff\xfe\x00",
        b"[" * 4000,
        b'{"reason":' + b"9" * 4000 + b"}",
        b'{"reason":"a\\r\\nb"}',
        b'{"reason":"' + b"a" * 65 + b'"}',
        b'{"reason":"<script>"}',
        b'{"reason":"Unregistered"}' + b" " * LARGEST_ANSWER,
    ],
)
def test_a_body_of_another_form_gives_no_reason(body: bytes) -> None:
    """Nothing from outside reaches a log or a page but a short word. (users.md 5.4, 35)"""
    outcome = judge(503, {}, body)
    assert outcome.reason is None
    assert outcome.verdict is PushVerdict.RETRY


def test_an_apns_id_that_is_none_is_not_repeated() -> None:
    assert judge(200, {"apns-id": "x\r\ny"}, b"").apns_id is None
    assert judge(200, {}, b"").apns_id is None


@given(st.integers(0, 999), st.dictionaries(st.text(), st.text()), st.binary(max_size=300))
def test_no_answer_raises(status: int, headers: dict[str, str], body: bytes) -> None:
    assert judge(status, headers, body).status == status
