"""One push as it stands on the wire."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.protocol.apns.request import (
    LARGEST_PAYLOAD,
    PushRequest,
    PushTooLarge,
    PushUnwritable,
    render_push,
)
from ostiary.protocol.mdm.checkin import PushAddress, Topic
from ostiary.secret import Secret

TOPIC = Topic("com.apple.mgmt.External.0cd3a114-62a8-4b6e-9d7a-3c9f1f0e6f11")
TOKEN = bytes.fromhex("00ff10a0" * 8)
EXPIRES_AT = datetime(2026, 11, 29, 12, 0, 0, 900_000, tzinfo=UTC)
APNS_ID = UUID("ABCDEF00-0000-4000-8000-0123456789AB")


def render(magic: str, token: bytes = TOKEN, topic: Topic = TOPIC) -> PushRequest:
    address = PushAddress(topic=topic, token=Secret(token), magic=Secret(magic.encode()))
    return render_push(address, expires_at=EXPIRES_AT, apns_id=APNS_ID)


@pytest.mark.case("AP-01")
def test_a_push_is_what_apple_asks_for() -> None:
    """Hex token in the path, the magic alone in the body, and the five headers. (check-in-and-commands.md 5.1)"""
    request = render("5A0D4C1E-93F0-4B33-9A63-0A8F9C9B1E55")
    assert request.path.reveal() == b"/3/device/" + b"00ff10a0" * 8
    assert request.body.reveal() == b'{"mdm":"5A0D4C1E-93F0-4B33-9A63-0A8F9C9B1E55"}'
    assert dict(request.headers) == {
        "apns-topic": TOPIC,
        "apns-push-type": "mdm",
        "apns-priority": "10",
        "apns-expiration": "1795953600",
        "apns-id": "abcdef00-0000-4000-8000-0123456789ab",
    }


@given(st.text(max_size=600))
def test_any_magic_is_one_json_string_and_nothing_else(magic: str) -> None:
    """PushMagic is a device's text: it cannot add a key or end the object. (users.md 5.4, 8)"""
    body = render(magic).body.reveal()
    assert json.loads(body) == {"mdm": magic}
    assert all(byte >= 0x20 for byte in body)


@pytest.mark.parametrize("size", [1, 32, 64, 100, 4096])
def test_a_token_of_any_length_is_written_as_it_is(size: int) -> None:
    """The size of a push token is not promised. (1.3.3; users.md 5.4, 7)"""
    request = render("m", token=b"\xab" * size)
    assert request.path.reveal() == b"/3/device/" + b"ab" * size


def test_a_push_says_nothing_of_its_secrets_when_printed() -> None:
    request = render("5A0D4C1E")
    assert "5A0D4C1E" not in repr(request)
    assert TOKEN.hex() not in repr(request)


def test_a_magic_that_apns_would_refuse_is_refused_here() -> None:
    """APNs takes 4096 bytes. (5.1)"""
    room = LARGEST_PAYLOAD - len(b'{"mdm":""}')
    assert len(render("x" * room).body) == LARGEST_PAYLOAD
    with pytest.raises(PushTooLarge):
        render("x" * (room + 1))


@pytest.mark.parametrize("topic", ["com.apple.mgmt.x\r\nhost: y", "com.apple.mgmt.é", "a b", ""])
def test_a_topic_that_is_no_header_value_is_refused(topic: str) -> None:
    with pytest.raises(PushUnwritable):
        render("m", topic=Topic(topic))


def test_a_magic_that_is_no_text_is_refused() -> None:
    address = PushAddress(topic=TOPIC, token=Secret(TOKEN), magic=Secret(b"\xff\xfe"))
    with pytest.raises(PushUnwritable):
        render_push(address, expires_at=EXPIRES_AT, apns_id=APNS_ID)
