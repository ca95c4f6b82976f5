"""Reading what somebody uploads as a push certificate."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.push_certificates import Authority, rsa_key
from ostiary.errors import OstiaryError
from ostiary.protocol.apns.certificate import (
    LARGEST_BUNDLE,
    PushBundleTooLarge,
    PushBundleUnreadable,
    decode_push_bundle,
    encode_private_key,
    load_private_key,
    public_key_id,
)

LABELS = (b"CERTIFICATE", b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY", b"X", b"")


@given(
    st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS), st.binary(max_size=80)))
)
def test_no_file_raises_anything_but_our_own_errors(
    blocks: list[tuple[bytes, bytes, bytes]],
) -> None:
    """Hostile, torn or empty: refused in words. (users.md 5.4, 34)"""
    pem = b"".join(
        b"-----BEGIN " + begin + b"-----\n" + body + b"\n-----END " + end + b"-----\n"
        for begin, end, body in blocks
    )
    with suppress(OstiaryError):
        decode_push_bundle(pem)


def test_a_file_of_nothing_but_beginnings_is_refused_at_once() -> None:
    begin = b"-----BEGIN CERTIFICATE-----\n"
    with pytest.raises(PushBundleTooLarge):
        decode_push_bundle(begin * (LARGEST_BUNDLE // len(begin)))
    with pytest.raises(PushBundleUnreadable):
        decode_push_bundle(begin * 3)


def test_windows_line_ends_are_read() -> None:
    issued = Authority().issue_push()
    bundle = decode_push_bundle((issued.pem + issued.key_pem).replace(b"\n", b"\r\n"))
    assert bundle.certificates == (issued.certificate,)
    assert bundle.key is not None
    assert public_key_id(bundle.key) == public_key_id(issued.certificate)


def test_a_key_comes_back_as_it_was_and_is_not_shown() -> None:
    secret = encode_private_key(rsa_key())
    assert load_private_key(secret).private_numbers() == rsa_key().private_numbers()
    assert repr(secret) == "***"
