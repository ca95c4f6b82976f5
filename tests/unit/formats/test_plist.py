"""Property lists in general: Fields come out, or an error of one of two families."""

import plistlib
from datetime import UTC, datetime
from typing import Any

import pytest

from ostiary.errors import Malformed, TooLarge
from ostiary.formats import plist
from ostiary.formats.plist import Limits, RootIsNotADictionary

HEAD = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN"'
    b' "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n<plist version="1.0">'
)
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
    b"<plist><dict><key>MessageType</key><string>&b;</string></dict></plist>"
)


@pytest.mark.parametrize("form", [plistlib.FMT_XML, plistlib.FMT_BINARY])
def test_both_forms_say_what_plistlib_says(form: plistlib.PlistFormat) -> None:
    said = {
        "MessageType": "TokenUpdate",
        "Token": b"\x00\x01",
        "Empty": b"",
        "AwaitingConfiguration": False,
        "Count": 2**64 - 1,
        "Below": -(2**63),
        "Level": 0.5,
        "Name": "Jürgen’s 📱 <&>",
        "Nested": {"List": [1, "two", {"three": 3}], "Nothing": {}},
    }
    assert plist.read_dict(plistlib.dumps(said, fmt=form)).as_mapping() == said


def test_moments_are_aware_utc_in_both_forms() -> None:
    moment = datetime(2030, 1, 31, 12, 0, 1, tzinfo=UTC)
    naive = {"At": moment.replace(tzinfo=None)}
    for form in (plistlib.FMT_XML, plistlib.FMT_BINARY):
        assert plist.read_dict(plistlib.dumps(naive, fmt=form)).as_mapping() == {"At": moment}


@pytest.mark.case("CI-23")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not a plist",
        b'{"MessageType": "TokenUpdate"}',
        HEAD + b"<string>TokenUpdate</string></plist>",
        HEAD + b"<array/></plist>",
        plistlib.dumps("TokenUpdate", fmt=plistlib.FMT_BINARY),
        BOMB,
        HEAD + b"<dict><key>N</key><integer>twelve</integer></dict></plist>",
        HEAD + b"<dict><key>N</key><integer></integer></dict></plist>",
        HEAD + b"<dict><key>N</key>",
    ],
)
def test_a_body_that_is_no_message_is_malformed_and_nothing_worse(body: bytes) -> None:
    """Not a plist, a string at the root, an entity declaration, a bad integer. (check-in-and-commands.md CI-23)"""
    with pytest.raises(Malformed):
        plist.read_dict(body)


def test_a_root_that_is_no_dictionary_says_so() -> None:
    with pytest.raises(RootIsNotADictionary):
        plist.read_dict(HEAD + b"<array/></plist>")


def test_a_body_beyond_the_limit_is_too_large_before_it_is_read() -> None:
    with pytest.raises(TooLarge):
        plist.read_dict(b"x" * 101, Limits(max_bytes=100))


@pytest.mark.parametrize("form", [plistlib.FMT_XML, plistlib.FMT_BINARY])
def test_more_values_than_the_limit_are_too_many(form: plistlib.PlistFormat) -> None:
    body = plistlib.dumps({"List": [{"n": n} for n in range(100)]}, fmt=form)
    assert plist.read_dict(body, Limits(max_objects=303)).has("List")
    with pytest.raises(TooLarge):
        plist.read_dict(body, Limits(max_objects=301))


@pytest.mark.parametrize("form", [plistlib.FMT_XML, plistlib.FMT_BINARY])
def test_depth_has_a_bound(form: plistlib.PlistFormat) -> None:
    value: Any = "bottom"
    for _ in range(40):
        value = {"k": value}
    body = plistlib.dumps(value, fmt=form)
    assert plist.read_dict(body, Limits(max_depth=40)).has("k")
    with pytest.raises(Malformed):
        plist.read_dict(body)
