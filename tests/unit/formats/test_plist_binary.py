"""The binary form: bounded, and nothing refers outside of the document or back to itself."""

import plistlib
import struct
import uuid

import pytest

from ostiary.errors import Malformed, TooLarge
from ostiary.formats import plist
from ostiary.formats.plist import Limits


def document(objects: list[bytes], *, top: int = 0, count: int | None = None, offset_size: int = 1,
             ref_size: int = 1, table: int | None = None, offsets: list[int] | None = None) -> bytes:  # fmt: skip
    """A binary property list of these objects, wrong in any way one likes."""
    body = b"bplist00"
    starts = []
    for one in objects:
        starts.append(len(body))
        body += one
    at = len(body)
    for offset in offsets if offsets is not None else starts:
        body += offset.to_bytes(offset_size)
    trailer = struct.pack(
        ">6xBBQQQ",
        offset_size,
        ref_size,
        len(objects) if count is None else count,
        top,
        at if table is None else table,
    )
    return body + trailer


def holding(value: bytes) -> bytes:
    """A dictionary with the key `k` and this object as its value."""
    return document([b"\xd1\x01\x02", b"\x51k", value])


def test_the_builder_of_these_tests_agrees_with_plistlib() -> None:
    assert plistlib.loads(holding(b"\x10\x07")) == {"k": 7}
    assert plist.read_dict(holding(b"\x10\x07")).as_mapping() == {"k": 7}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\x08", False),
        (b"\x09", True),
        (b"\x10\xff", 255),
        (b"\x12\xff\xff\xff\xff", 2**32 - 1),
        (b"\x13" + b"\xff" * 8, -1),
        (b"\x14" + b"\0" * 8 + b"\xff" * 8, 2**64 - 1),
        (b"\x22\x3f\x00\x00\x00", 0.5),
        (b"\x40", b""),
        (b"\x4f\x10\x03abc", b"abc"),
        (b"\x62\x00\xe9\x26\x03", "é☃"),
        (b"\x62\xd8\x3d\xdc\xf1", "📱"),
        (b"\xa0", []),
        (b"\xd0", {}),
    ],
)
def test_a_value_is_read(value: bytes, expected: object) -> None:
    assert plist.read_dict(holding(value)).as_mapping()["k"] == expected


@pytest.mark.parametrize(
    "value",
    [
        b"\x00",  # null
        b"\x0f",  # padding
        b"\x07",
        b"\x80\x01",  # UID
        b"\x15" + b"\0" * 32,
        b"\x14" + b"\x01" + b"\0" * 15,  # more than 64 bits
        b"\x14" + b"\x80" + b"\0" * 15,
        b"\x13\0",  # cut short
        b"\x20\x00",
        b"\x22\x7f\xc0\x00\x00",  # not a number
        b"\x32\x00\x00\x00\x00",
        b"\x33" + struct.pack(">d", 1e300),
        b"\x33" + struct.pack(">d", float("nan")),
        b"\x33" + struct.pack(">d", float("inf")),
        b"\x45abc",  # cut short
        b"\x4f\x20\x00\x00\x00\x00",  # a real for a length
        b"\x4f\x14" + b"\xff" * 16,
        b"\x4f\x13" + b"\xff" * 8,  # 2**64 - 1 bytes
        b"\x4f",
        b"\x51\xe9",  # not ASCII
        b"\x51\x00",
        b"\x51\x1b",
        b"\x61\xd8\x00",  # half a surrogate pair
        b"\x61\xff\xfe",
        b"\x71k",  # a type that only newer writers know
        b"\xaf\x13" + b"\x7f" * 8,
        b"\xa1\x07",  # a reference to nothing
        b"\xc1\x01",  # a set
        b"\xb0",
        b"\xe0",
        b"\xd1\x00\x01",  # a dictionary as a key
        b"\xd2\x01\x01\x01\x01",  # one key twice
    ],
)
def test_a_value_of_a_wrong_shape_is_malformed(value: bytes) -> None:
    """Source: users.md 5.4 item 17."""
    with pytest.raises(Malformed):
        plist.read_dict(holding(value))


@pytest.mark.parametrize(
    "body",
    [
        b"bplist00",
        b"bplist00" + b"\0" * 32,
        document([b"\xd0"], top=1),
        document([b"\xd0"], count=0),
        document([b"\xd0"], count=200),
        document([b"\xd0"], table=0),
        document([b"\xd0"], table=2**63),
        document([b"\xd0"], offsets=[0]),
        document([b"\xd0"], offsets=[200]),
        document([b"\xd0"], offsets=[9]),
        document([b"\xd0"], offset_size=9),
        document([b"\xd0"], ref_size=0),
        document([b"\xd0"], ref_size=200),
        plistlib.dumps({"k": plistlib.UID(1)}, fmt=plistlib.FMT_BINARY),
    ],
)
def test_a_table_or_trailer_that_lies_is_malformed(body: bytes) -> None:
    """Source: users.md 5.4 item 17."""
    with pytest.raises(Malformed):
        plist.read_dict(body)


@pytest.mark.parametrize("count", [2**63, 2**64 - 1, 10**9])
def test_an_enormous_count_is_too_large(count: int) -> None:
    with pytest.raises(TooLarge):
        plist.read_dict(document([b"\xd0"], count=count))


@pytest.mark.parametrize(
    "objects", [[b"\xd1\x01\x00", b"\x51k"], [b"\xd1\x01\x02", b"\x51k", b"\xa2\x01\x02"]]
)
def test_an_object_that_contains_itself_is_malformed(objects: list[bytes]) -> None:
    with pytest.raises(Malformed):
        plist.read_dict(document(objects))


def test_a_cycle_through_two_objects_is_malformed() -> None:
    with pytest.raises(Malformed):
        plist.read_dict(document([b"\xd1\x01\x02", b"\x51k", b"\xa1\x03", b"\xa1\x02"]))


def test_shared_references_count_as_often_as_they_appear() -> None:
    """Twenty levels of pairs are a million values in 80 bytes. (CVE-2022-48564 is of this kind)"""
    levels = [b"\xa2" + bytes([n + 1, n + 1]) for n in range(2, 22)]
    body = document([b"\xd1\x01\x02", b"\x51k", *levels, b"\x09"])
    with pytest.raises(TooLarge):
        plist.read_dict(body)


def test_one_large_object_shared_often_counts_as_often() -> None:
    big = b"\x4f\x12" + (100_000).to_bytes(4) + bytes(100_000)
    sharing = b"\xaf\x11\x01\x00" + b"\x03" * 256
    body = document([b"\xd1\x01\x02", b"\x51k", sharing, big], offset_size=4)
    assert plist.read_dict(body, Limits(max_bytes=30_000_000)).has("k")
    with pytest.raises(TooLarge):
        plist.read_dict(body)


def test_every_truncation_is_malformed_or_too_large() -> None:
    whole = plistlib.dumps(
        {"UDID": str(uuid.UUID(int=1)), "Token": bytes(32), "List": [1, 2.5, True, {"é": "ü"}]},
        fmt=plistlib.FMT_BINARY,
    )
    for length in range(len(whole)):
        with pytest.raises((Malformed, TooLarge)):
            plist.read_dict(whole[:length])
