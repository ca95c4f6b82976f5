"""The value in which a push token and its magic are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.domain.push_value import PushValueUnreadable, decode_push_value, encode_push_value


@given(st.binary(max_size=5000), st.binary(max_size=5000))
def test_token_and_magic_come_back(token: bytes, magic: bytes) -> None:
    assert decode_push_value(encode_push_value(token, magic)) == (token, magic)


def test_where_the_token_ends_cannot_be_mistaken() -> None:
    """Equal values mean equal pairs, so one digest compares both. (check-in-and-commands.md TU-3)"""
    assert encode_push_value(b"ab", b"c") != encode_push_value(b"a", b"bc")


@pytest.mark.parametrize(
    "value",
    [b"", b"\x01\x00", b"\x02\x00\x00\x00\x00", b"\x01\x00\x01\x00\x00", b"\x01\x00\x00\x00\x00x"],
)
def test_another_form_is_refused(value: bytes) -> None:
    with pytest.raises(PushValueUnreadable):
        decode_push_value(value)
