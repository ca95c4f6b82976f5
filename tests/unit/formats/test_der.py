"""The reader of BER and DER elements, and its way from indefinite to definite lengths."""

import pytest
from asn1crypto import core

from ostiary.formats.der import (
    IndefiniteLength,
    NotDer,
    children,
    encode_element,
    expect,
    read_element,
    to_definite,
)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65_535, 65_536])
def test_what_asn1crypto_writes_is_read_and_written_alike(length: int) -> None:
    encoded = core.OctetString(bytes(length)).dump()
    element = expect(encoded, 0, len(encoded), 0x04)
    assert encoded[element.start : element.stop] == bytes(length)
    assert element.stop == len(encoded)
    assert encode_element(0x04, bytes(length)) == encoded


def test_a_tag_of_several_bytes_is_read_whole() -> None:
    encoded = bytes.fromhex("7f8121 02 0500".replace(" ", ""))
    element = read_element(encoded, 0, len(encoded))
    assert element == (0x7F8121, 0, 4, 6)
    assert encode_element(element.tag, b"\x05\x00") == encoded


@pytest.mark.parametrize(
    "encoded",
    ["", "04", "0401", "0482", "048201", "04850000000001aa", "04ff", "1f", "1fff", "1fffffffffff0100", "0484ffffffff"],
)  # fmt: skip
def test_an_element_that_is_cut_short_or_absurd_is_not_der(encoded: str) -> None:
    raw = bytes.fromhex(encoded)
    with pytest.raises(NotDer):
        read_element(raw, 0, len(raw))


def test_an_element_may_not_reach_beyond_its_parent() -> None:
    with pytest.raises(NotDer):
        read_element(bytes.fromhex("0402aabb"), 0, 3)


def test_more_children_than_allowed_are_not_der() -> None:
    raw = bytes.fromhex("0500") * 5
    assert len(children(raw, 0, len(raw), at_most=5)) == 5
    with pytest.raises(NotDer):
        children(raw, 0, len(raw), at_most=4)


@pytest.mark.parametrize(
    ("indefinite", "definite"),
    [
        ("3080 0000", "3000"),
        ("3080 0500 0000", "3002 0500"),
        ("3080 3080 0401aa 0000 0000", "3005 3003 0401aa"),
        ("3007 3080 0401aa 0000", "3005 3003 0401aa"),
        ("2480 0401aa 0401bb 0000", "2406 0401aa 0401bb"),
        ("7f8121 80 0500 0000", "7f8121 02 0500"),
        (
            "30 81 02 05 00",
            "30 81 02 05 00",
        ),  # odd and definite: the bytes stay, a signature may cover them
    ],
)
def test_indefinite_lengths_become_definite(indefinite: str, definite: str) -> None:
    raw = bytes.fromhex(indefinite)
    assert to_definite(raw) == bytes.fromhex(definite)


@pytest.mark.parametrize("raw", ["3080", "3080 0500", "3080 00", "0480 0000", "3080 0000 00", "3080 0000 0500", "3002 3080 0000"])  # fmt: skip
def test_an_indefinite_length_without_its_end_is_not_der(raw: str) -> None:
    with pytest.raises(NotDer):
        to_definite(bytes.fromhex(raw))


def test_the_plain_reader_leaves_indefinite_lengths_to_the_rewriting() -> None:
    with pytest.raises(IndefiniteLength):
        read_element(bytes.fromhex("30800000"), 0, 4)


def test_depth_and_number_of_elements_have_bounds() -> None:
    deep = b"\x30\x80" * 100_000
    with pytest.raises(NotDer):
        to_definite(deep)
    wide = b"\x30\x80" + b"\x05\x00" * 10_000 + b"\0\0"
    with pytest.raises(NotDer):
        to_definite(wide)
