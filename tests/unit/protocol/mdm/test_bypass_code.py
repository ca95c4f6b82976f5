"""Bypass codes: what a person types, the bytes behind it, and the hash that Apple gets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.protocol.mdm.bypass_code import (
    ALPHABET,
    SYMBOLS,
    UnusableBypassCode,
    UnusableRawCode,
    decode_bypass_code,
    encode_bypass_code,
    escrow_hash,
)
from ostiary.secret import Secret

VECTORS = [
    (
        "00000000000000000000000000000000",
        "00000-00000-0000-0000-0000-0000",
        "deab860d28deb5b7121d6d8fcf0f78e1471756d1b2c566c03277c23ea8930b4f",
    ),
    (
        "1ea841db5edfafe6075b5ae0d845d254",
        "3UM43-PUYVY-QYD1-UVCC-HEHJ-FKA4",
        "6ab40d5eabe7218ec04182f461005600c7e3426bddd82cdb405bde9a1e0014b5",
    ),
    (
        "44ebe63375969fec2da67e87e7317946",
        "8LNYD-DVNKU-GYRC-E6GU-3YFD-CT86",
        "c1968cb4c013ea893f1922bb5c39f81e35012c0bd9ce3c01cc2a05873a2499e6",
    ),
    (
        "cb84798c3ca85a674194550a2e96aed8",
        "TF27L-31WN1-E6FH-DMAM-52X5-NFV0",
        "23cf8b7873425fd8efe31dc5b6ab9c357eb98a2a59c82ea1084ca8af58cc480a",
    ),
    (
        "89195c9b79178736203bd9d591ea7c0f",
        "J4DNT-6VT2Y-3LD8-1VV7-AT3U-LW17",
        "59b9b3fa9ec4b806612b8b1fe6f12fcc3903156a58bcf4cae53a8a78dad563d3",
    ),
    (
        "ffffffffffffffffffffffffffffffff",
        "ZZZZZ-ZZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZ7",
        "ed6cfc1588b175d652d1dd6705ba7fec058b5c76facdd8ff41285ca0d341bd25",
    ),
    (
        "000102030405060708090a0b0c0d0e0f",
        "000H4-0R40M-30F2-0918-5HR3-8F17",
        "c5ced1d0c51459c1a887866a5868dd3e9e6f4fc4a8c244f3f9eb9383c0f8aecb",
    ),
]
"""activation-lock.md 3; rows 1 to 5 are public."""


@pytest.mark.case("AK-1", "AL-05")
@pytest.mark.parametrize(("raw", "code", "hashed"), VECTORS)
def test_each_vector_is_encoded_hashed_and_decoded(raw: str, code: str, hashed: str) -> None:
    """activation-lock.md 3."""
    secret = Secret(bytes.fromhex(raw))
    assert encode_bypass_code(secret).reveal() == code.encode()
    assert escrow_hash(secret) == hashed
    assert decode_bypass_code(Secret(code.encode())) == secret


@pytest.mark.case("AK-2")
@settings(max_examples=10_000, deadline=None)
@given(raw=st.binary(min_size=16, max_size=16))
def test_ten_thousand_random_codes_come_back_as_they_went(raw: bytes) -> None:
    """activation-lock.md 3: the last symbol holds three bits."""
    code = encode_bypass_code(Secret(raw))
    assert decode_bypass_code(code).reveal() == raw
    text = code.reveal().decode()
    assert text[-1] in ALPHABET[:8]
    assert [len(group) for group in text.split("-")] == [5, 5, 4, 4, 4, 4]


@pytest.mark.case("AK-3")
@pytest.mark.parametrize(
    "typed",
    [
        "3um43-puyvy-qyd1-uvcc-hehj-fka4",
        "3UM43PUYVYQYD1UVCCHEHJFKA4",
        " 3UM43 PUYVY  qyd1 UVCC HEHJ-FKA4\n",
    ],
)
def test_a_code_is_read_however_it_was_typed(typed: str) -> None:
    """activation-lock.md 3, decoding."""
    assert decode_bypass_code(Secret(typed.encode())).reveal().hex() == VECTORS[1][0]


@pytest.mark.case("AK-3", "AL-05")
@pytest.mark.parametrize("missing", ["B", "I", "O", "S", "b", "s", "É"])
def test_a_character_that_no_code_has_is_named(missing: str) -> None:
    """activation-lock.md 3: the alphabet lacks what looks like a digit."""
    typed = missing + VECTORS[1][1][len(missing) :]
    with pytest.raises(UnusableBypassCode) as refused:
        decode_bypass_code(Secret(typed.encode()))
    assert repr(missing.upper()) in str(refused.value)


@pytest.mark.case("AK-4", "AL-05")
@pytest.mark.parametrize("last", ALPHABET[8:])
def test_a_last_symbol_above_seven_is_refused(last: str) -> None:
    """activation-lock.md 3: only three bits are left for it."""
    with pytest.raises(UnusableBypassCode) as refused:
        decode_bypass_code(Secret((VECTORS[1][1][:-1] + last).encode()))
    assert repr(last) in str(refused.value)


@pytest.mark.parametrize("typed", [b"", b"3UM43", VECTORS[1][1].encode() + b"0", b"\xff" * 26])
def test_what_is_too_short_too_long_or_no_text_is_refused(typed: bytes) -> None:
    with pytest.raises(UnusableBypassCode):
        decode_bypass_code(Secret(typed))


def test_only_sixteen_bytes_make_a_code() -> None:
    """activation-lock.md 3."""
    assert len(ALPHABET) == 32
    assert SYMBOLS == 26
    for raw in (b"", bytes(15), bytes(17)):
        with pytest.raises(UnusableRawCode):
            encode_bypass_code(Secret(raw))
        with pytest.raises(UnusableRawCode):
            escrow_hash(Secret(raw))
