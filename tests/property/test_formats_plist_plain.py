"""The short reader of plainly spelled property lists never says anything that the full reader does not say."""

import plistlib
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from ostiary.errors import OstiaryError
from ostiary.formats.plist import Limits
from ostiary.formats.plist_plain import decode_plain
from ostiary.formats.plist_xml import decode_xml

LIMITS = Limits(max_objects=20, max_depth=3)


def mostly(usual: list[bytes], *odd: bytes) -> st.SearchStrategy[bytes]:
    """Something odd once in a dozen, so that whole documents are usual often enough."""
    return st.sampled_from([*usual * (12 * len(odd) // len(usual)), *odd])


HEADS = mostly(
    [b'<?xml version="1.0" encoding="UTF-8"?>\n', b""],
    b'<?xml version="1.0" encoding="UTF-16"?>',
    b'<?xml version="1.1" encoding="UTF-8"?>',
    b"\xef\xbb\xbf",
    b" ",
)
TYPES = mostly(
    [
        b'<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN"'
        b' "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n',
        b"",
    ],
    b'<!DOCTYPE plist [<!ENTITY a "b">]>',
    b"<!DOCTYPE html>",
)
TAGS = mostly([b"string", b"data", b"integer", b"real", b"date"], b"true", b"key", b"dict", b"b")
TEXTS = mostly(
    [
        b"",
        b"a",
        b" a b ",
        b"\n",
        b"AAECAw==",
        b"7",
        b"-7",
        b"0x1f",
        b"1.5",
        b"2030-01-31T12:00:00Z",
    ],
    *(b"AAEC Aw==", b"AAECAx==", b"AAECAw", b"2030-02-31T12:00:00Z", b"\r\n", b"&amp;", b"&a;"),
    *(b"]]>", b">", b"]]", b"\xc3\xa4", b"\xff", b"\0", b"\x0b", b"\x7f"),
    *(b"<!-- c -->", b"<![CDATA[a]]>", b"<b>a</b>"),
)
KEYS = mostly([b"a", b"b", b"c", b""], b"&lt;", b"\r", b"<b/>", b">")
EMPTY = mostly([b"true", b"false"], b"true ", b"string", b"dict")
BLANKS = mostly([b"", b"\n\t", b" "], b"\r\n", b"x", b"<!-- c -->")
PLISTS = mostly([b'<plist version="1.0">'], b"<plist>", b'<plist a="1">', b"")
DICT_ENDS = mostly([b"</dict>"], b"</array>", b"", b"<key>a</key></dict>", b"</dict>x")
ARRAY_ENDS = mostly([b"</array>"], b"</dict>", b"", b"<key>a</key></array>")
ENDS = mostly([b"</plist>\n", b"\n</plist>"], b"", b"</plist>x", b"</plist>\r\n")


@st.composite
def leaves(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 3)) == 0:
        return b"<%b/>" % draw(EMPTY)
    tag = draw(TAGS)
    return b"<%b>%b</%b>" % (tag, draw(TEXTS), tag)


@st.composite
def dictionaries(draw: st.DrawFn, inner: st.SearchStrategy[bytes]) -> bytes:
    pairs = [
        b"%b<key>%b</key>%b%b" % (draw(BLANKS), draw(KEYS), draw(BLANKS), value)
        for value in draw(st.lists(inner, max_size=3))
    ]
    return b"<dict>%b%b%b" % (b"".join(pairs), draw(BLANKS), draw(DICT_ENDS))


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[bytes]) -> bytes:
    items = [draw(BLANKS) + value for value in draw(st.lists(inner, max_size=3))]
    return b"<array>%b%b%b" % (b"".join(items), draw(BLANKS), draw(ARRAY_ENDS))


VALUES = st.recursive(leaves(), lambda inner: dictionaries(inner) | arrays(inner), max_leaves=6)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Nearly plain property lists, spelled in many ways."""
    head = b"%b%b%b" % (draw(HEADS), draw(TYPES), draw(PLISTS))
    root = draw(st.one_of(dictionaries(VALUES), dictionaries(leaves()), VALUES))
    return b"%b%b%b%b" % (head, root, draw(BLANKS), draw(ENDS))


def said_by(read: Any, document: bytes) -> object:
    """The value, or the kind of the refusal."""
    try:
        return read(document, LIMITS)
    except OstiaryError as refusal:
        return type(refusal)


def assert_alike(document: bytes) -> None:
    short = said_by(decode_plain, document)
    event("left to the full reader" if short is None else f"read: {type(short).__name__}")
    if short is not None:
        full = said_by(decode_xml, document)
        assert isinstance(full, type) == isinstance(short, type)
        assert isinstance(short, type) or repr(full) == repr(short)


@given(documents())
@settings(max_examples=600)
def test_what_the_short_reader_says_of_any_spelling_the_full_one_says_too(document: bytes) -> None:
    assert_alike(document)


@given(st.dictionaries(st.text(), st.text() | st.binary() | st.booleans(), max_size=5), st.data())
def test_a_bent_message_is_never_read_where_the_full_reader_refuses(
    said: dict[str, Any], data: st.DataObject
) -> None:
    printable = {key: said[key] for key in said if key.isprintable()}
    texts = {key: one for key, one in printable.items() if str(one).isprintable()}
    document = bytearray(plistlib.dumps(texts))
    place = data.draw(st.integers(0, len(document)))
    document[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert_alike(bytes(document))


PLAIN = st.text("abcXYZ 019._-/:;", min_size=1)
MESSAGES = st.dictionaries(
    PLAIN,
    st.recursive(
        PLAIN | st.binary(max_size=2_000) | st.booleans() | st.integers(0, 9),
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3)
            | st.dictionaries(PLAIN, inner, min_size=1, max_size=3)
        ),
        max_leaves=8,
    ),
    min_size=1,
    max_size=9,
)


@given(MESSAGES)
def test_messages_as_devices_write_them_need_no_other_reader(said: dict[str, Any]) -> None:
    assert decode_plain(plistlib.dumps(said), Limits()) == said
