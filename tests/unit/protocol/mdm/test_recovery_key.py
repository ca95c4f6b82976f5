"""Recovery keys as they come out of envelopes."""

import pytest

from ostiary.protocol.mdm.recovery_key import RecoveryKeyEmpty, read_recovery_key
from ostiary.secret import Secret

USUAL = b"ABCD-EFGH-JKLM-NPQR-STUV-WX23"


@pytest.mark.parametrize("ends", [b"", b"\n", b"\0", b"\r\n\0\0"], ids=repr)
def test_the_usual_look_is_six_groups_of_four(ends: bytes) -> None:
    """What writers leave at the end is no part of it, so the same key is the same value. (FV-04)"""
    found = read_recovery_key(USUAL + ends)
    assert found.value == Secret(USUAL)
    assert not found.looks_odd


@pytest.mark.parametrize(
    "plaintext",
    [
        b"WWWW-XXXX-YYYY-ZZZZ",
        USUAL.lower(),
        USUAL + b"-ABCD",
        USUAL.replace(b"-", b""),
        b" " + USUAL,
        b"gr\xc3\xbc\xc3\x9fe",
        b"\xff\xfe\x00A",
        USUAL.decode().encode("utf-16-le")[:-1],
    ],
    ids=repr,
)
def test_an_odd_look_is_flagged_and_nothing_is_dropped(plaintext: bytes) -> None:
    """The look is no promise of Apple's, and the key may work. (escrowed-secrets.md 4.3, 4.15 item 8)"""
    found = read_recovery_key(plaintext)
    assert found.looks_odd
    assert found.value.reveal() == plaintext


@pytest.mark.parametrize("plaintext", [b"", b"\0\0", b"\r\n"], ids=repr)
def test_nothing_is_not_a_key(plaintext: bytes) -> None:
    """It must never take the place of one that is held."""
    with pytest.raises(RecoveryKeyEmpty):
        read_recovery_key(plaintext)


def test_a_recovery_key_is_never_printed() -> None:
    assert USUAL.decode() not in repr(read_recovery_key(USUAL))
