"""Base64 and BER, whatever they hold: one spelling for each value, and lengths that can be made definite."""

import base64
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from fuzz.pki import to_indefinite
from ostiary.errors import OstiaryError
from ostiary.formats import cms, x509
from ostiary.formats.base64 import NotBase64, decode_strict
from ostiary.formats.der import NotDer, encode_element, to_definite

PRIMITIVES = st.builds(
    encode_element, st.sampled_from([0x02, 0x04, 0x06, 0x80, 0x5F21]), st.binary(max_size=200)
)
STRUCTURES = st.recursive(
    PRIMITIVES,
    lambda inner: st.builds(
        encode_element,
        st.sampled_from([0x30, 0x31, 0xA0, 0x24, 0x7F8121]),
        st.lists(inner, max_size=4).map(b"".join),
    ),
    max_leaves=15,
)


@given(st.binary())
def test_base64_of_any_bytes_is_read_again(value: bytes) -> None:
    assert decode_strict(base64.b64encode(value), whitespace=False) == value
    assert decode_strict(base64.encodebytes(value), whitespace=True) == value


@given(st.text("AQRabz019+/= \n-_", max_size=12) | st.text(max_size=12))
def test_no_value_has_two_spellings(text: str) -> None:
    with suppress(NotBase64):
        assert base64.b64encode(decode_strict(text, whitespace=False)).decode() == text


@given(STRUCTURES)
def test_indefinite_lengths_become_the_definite_ones_they_were(encoded: bytes) -> None:
    assert to_definite(encoded) == encoded
    assert to_definite(to_indefinite(encoded)) == encoded


@given(st.binary(max_size=300) | STRUCTURES)
def test_arbitrary_bytes_are_no_certificate_and_no_signature_and_nothing_worse(raw: bytes) -> None:
    with suppress(NotDer):
        to_definite(raw)
    for read in (cms.read_signed, x509.load):
        with suppress(OstiaryError):
            read(raw)
