"""Base64 has one spelling for each value, and garbage is never emptiness."""

import base64

import pytest

from ostiary.formats.base64 import NotBase64, decode_strict


@pytest.mark.parametrize(
    "value", [b"", b"A", b"AB", b"ABC", b"\xff\xfe\xfd\xfc", bytes(range(256))]
)
def test_what_the_standard_library_spells_is_read(value: bytes) -> None:
    text = base64.b64encode(value)
    assert decode_strict(text, whitespace=False) == value
    assert decode_strict(text.decode(), whitespace=True) == value


@pytest.mark.parametrize(
    "text",
    ["!!!!", "QUJD*", "*QUJD", "AAAA=", "AAAA==", "AAAA====", "AAA", "AA", "A", "=", "====", "AA=A", "=AAA",
     "QQ==QQ==", "QR==", "QUJ=x", "QU_-", "QUI=\0", "ÄÄÄÄ", "\N{FULLWIDTH LATIN CAPITAL LETTER A}AAA"],
)  # fmt: skip
@pytest.mark.parametrize("whitespace", [True, False])
def test_garbage_is_an_error_and_never_empty(text: str, whitespace: bool) -> None:
    """A token decoded as empty would be deleted. (check-in-and-commands.md 0, parser traps)"""
    with pytest.raises(NotBase64):
        decode_strict(text, whitespace=whitespace)
    with pytest.raises(NotBase64):
        decode_strict(text.encode(), whitespace=whitespace)


def test_whitespace_is_read_where_a_property_list_has_it_and_nowhere_else() -> None:
    folded = "\n\tQU\r\n\t JD\n"
    assert decode_strict(folded, whitespace=True) == b"ABC"
    assert decode_strict(" \n\t", whitespace=True) == b""
    with pytest.raises(NotBase64):
        decode_strict(folded, whitespace=False)
    with pytest.raises(NotBase64):
        decode_strict("QU\x0bJD", whitespace=True)
