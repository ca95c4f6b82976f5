"""The writer: plistlib reads what we write, and what cannot be written is an error, not a broken document."""

import plistlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ostiary.formats import plist
from ostiary.formats.plist import NotEncodable


def test_plistlib_and_our_reader_read_what_we_write() -> None:
    said: dict[str, plist.PlistValue] = {
        "Command": {"RequestType": "DeviceInformation", "Queries": ["UDID", "OSVersion"]},
        "Data": bytes(range(256)),
        "Empty": "",
        "Hostile": "<a>&amp;]]>\"'\r\n\t",
        "Numbers": [0, -1, 2**64 - 1, -(2**63), 0.1, 1e300],
        "Flags": (True, False),
    }
    body = plist.encode(said)
    expected = {**said, "Flags": [True, False]}
    assert plistlib.loads(body) == expected
    assert plist.read_dict(body).as_mapping() == expected


def test_the_order_of_keys_does_not_change_the_bytes() -> None:
    assert plist.encode({"a": 1, "b": {"c": 2, "d": 3}}) == plist.encode(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )


def test_a_moment_is_written_in_utc_to_the_second() -> None:
    moment = datetime(2030, 1, 1, 1, 30, 5, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert b"<date>2029-12-31T23:30:05Z</date>" in plist.encode({"At": moment})
    early = datetime(7, 1, 1, tzinfo=UTC)
    assert plist.read_dict(plist.encode({"At": early})).as_mapping() == {"At": early}


MOMENT_WITHOUT_ZONE = datetime(2030, 1, 1)  # noqa: DTZ001  # the wrong thing on purpose
LOOP: dict[str, Any] = {}
LOOP["again"] = LOOP


@pytest.mark.parametrize(
    "value",
    ["\0", "\x1b[31m", "\x0b", "\ud800", "\ufffe", 2**64, -(2**63) - 1, float("nan"), float("inf"), None, {1, 2},
     MOMENT_WITHOUT_ZONE, datetime.min.replace(tzinfo=timezone(timedelta(hours=2))), {1: "a"}, {"\0": 1},
     object(), LOOP],
)  # fmt: skip
def test_what_has_no_form_is_an_error(value: Any) -> None:
    """A name that breaks the document would break the device's queue. (users.md 5.4 item 9)"""
    with pytest.raises(NotEncodable):
        plist.encode({"k": [value]})
