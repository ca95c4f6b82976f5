"""The XML form: what Apple writes is read, and every deviation is malformed."""

import pytest

from ostiary.errors import Malformed
from ostiary.formats import plist
from ostiary.formats.plist import Limits

HEAD = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN"'
    b' "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n<plist version="1.0">\n'
)


def document(inside: bytes) -> bytes:
    return HEAD + b"<dict>" + inside + b"</dict>\n</plist>\n"


def test_apples_own_spelling_is_read() -> None:
    body = document(
        b"\n\t<!-- a comment -->\n\t<key>Token</key>\n\t<data>\n\tQUJD\n\tREVG\n\t</data>\n\t<key>Hex</key>"
        b"<integer>0x1F</integer><key>On</key><true/><key>Off</key><false></false><key>E</key><string/>"
        b"<key>A</key><string>&lt;&amp;&#x1F4F1;&#13;</string><key>C</key><string><![CDATA[<x>]]></string>"
        b"<key>R</key><real>1.5e3</real><key>List</key><array/><key>Minus</key><integer> -7 </integer>"
    )
    assert plist.read_dict(body).as_mapping() == {
        "Token": b"ABCDEF", "Hex": 31, "On": True, "Off": False, "E": "", "A": "<&📱\r", "C": "<x>", "R": 1500.0,
        "List": [], "Minus": -7,
    }  # fmt: skip


def test_a_byte_order_mark_is_welcome() -> None:
    assert plist.read_dict(b"\xef\xbb\xbf" + document(b"")).as_mapping() == {}


@pytest.mark.parametrize("text", [b"!!!!", b"QUJD*", b"AAAA=", b"AAA", b"====", b"QR=="])
def test_data_that_is_not_base64_is_malformed_and_not_empty(text: bytes) -> None:
    """An empty BootstrapToken would delete the stored one. (check-in-and-commands.md 0, parser traps)"""
    with pytest.raises(Malformed):
        plist.read_dict(document(b"<key>BootstrapToken</key><data>" + text + b"</data>"))


def test_empty_data_is_empty_and_not_absent() -> None:
    fields = plist.read_dict(document(b"<key>BootstrapToken</key><data>\n\t</data>"))
    assert fields.optional_data("BootstrapToken") == b""
    assert fields.optional_data("UnlockToken") is None


@pytest.mark.parametrize(
    "inside",
    [
        b"<key>N</key><integer>1_000</integer>",
        b"<key>N</key><integer>1.5</integer>",
        b"<key>N</key><integer>18446744073709551616</integer>",
        b"<key>N</key><integer>-9223372036854775809</integer>",
        b"<key>N</key><integer>" + b"9" * 5000 + b"</integer>",
        b"<key>N</key><integer>\xd9\xa3</integer>",  # an Arabic digit, which int() would take
        b"<key>N</key><real>nan</real>",
        b"<key>N</key><real>inf</real>",
        b"<key>N</key><real>1e999</real>",
        b"<key>N</key><real>1,5</real>",
        b"<key>N</key><date>2030-02-30T00:00:00Z</date>",
        b"<key>N</key><date>2030-01-01</date>",
        b"<key>N</key><date>2030-01-01T00:00:00+01:00</date>",
        b"<key>N</key><true>yes</true>",
        b"<key>N</key><string><b/></string>",
        b"<key>N</key><uid>1</uid>",
        b"<key>N</key><null/>",
        b"<key>N</key><plist/>",
        b"<key>N</key><string a='b'>x</string>",
        b"<key>N</key>",
        b"<string>x</string>",
        b"<key>N</key><key>M</key><string>x</string>",
        b"<key>N</key><string>x</string><key>N</key><string>x</string>",
        b"<key>N</key><array><key>M</key></array>",
        b"text<key>N</key><string>x</string>",
        b"<key>N</key>text<string>x</string>",
        b"<key>N</key><string>\x00</string>",
        b"<key>N</key><string>\x01</string>",
        b"<key>N</key><string>\xff</string>",
        b"<key>N</key><string>\xed\xa0\x80</string>",
        b"<key>N</key><string>&#0;</string>",
        b"<key>N</key><string>&#xD800;</string>",
        b"<key>N</key><string>&#xFFFE;</string>",
        b"<key>N</key><string>&unknown;</string>",
        b"<key>N</key><string>&nbsp;</string>",
        b"<key>N</key><string>x</key>",
    ],
)
def test_a_deviation_is_malformed(inside: bytes) -> None:
    """Source: users.md 5.4 item 16."""
    with pytest.raises(Malformed):
        plist.read_dict(document(inside))


@pytest.mark.parametrize(
    "body",
    [
        b"<dict/>",
        b"<plist/>",
        b"<plist><dict/><dict/></plist>",
        b"<plist><dict/></plist><plist/>",
        b"<plist><plist><dict/></plist></plist>",
        b"<plist xmlns='x'><dict/></plist>",
        b"<PLIST><dict/></PLIST>",
        b"<plist><key>k</key></plist>",
        b"<plist>text<dict/></plist>",
        b"<plist><dict/>text</plist>",
        b"<!DOCTYPE html><plist><dict/></plist>",
        b"<!DOCTYPE plist []><plist><dict/></plist>",
        b"<!DOCTYPE plist [<!ENTITY a 'b'>]><plist><dict/></plist>",
        b"<!DOCTYPE plist [<!ENTITY % a SYSTEM 'file:///etc/passwd'> %a;]><plist><dict/></plist>",
        b"<!DOCTYPE plist [<!ATTLIST plist version CDATA '1'>]><plist><dict/></plist>",
        b"<?xml version='1.0' encoding='ISO-8859-1'?><plist><dict/></plist>",
        b"<?xml version='1.0' encoding='UTF-16'?><plist><dict/></plist>",
        b"<?xml version='1.0' encoding='cp1252'?><plist><dict/></plist>",
        b"<?xml version='2.0'?><plist><dict/></plist>",
        "<plist><dict/></plist>".encode("utf-16"),
        "<plist><dict/></plist>".encode("utf-32"),
        b"<plist><dict/></plist>\0",
        b"\xef\xbb\xbf\xef\xbb\xbf<plist><dict/></plist>",
        b"bplist01<plist><dict/></plist>",
    ],
)
def test_a_document_of_another_shape_is_malformed(body: bytes) -> None:
    """Entities, document types, encodings, roots. (users.md 5.4 item 16)"""
    with pytest.raises(Malformed):
        plist.read_dict(body)


def test_a_million_nested_arrays_do_not_exhaust_the_stack() -> None:
    body = b"<plist><dict><key>k</key>" + b"<array>" * 1_000_000
    with pytest.raises(Malformed):
        plist.read_dict(body)


def test_an_error_never_shows_what_the_message_said() -> None:
    secret = b"c2VjcmV0IQ=*"
    with pytest.raises(Malformed) as caught:
        plist.read_dict(document(b"<key>UnlockToken</key><data>" + secret + b"</data>"))
    assert "c2Vj" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_very_long_text_arrives_whole() -> None:
    text = "🗝" * 100_000
    body = document(b"<key>k</key><string>" + text.encode() + b"</string>")
    assert plist.read_dict(body, Limits(max_objects=3)).text("k") == text
