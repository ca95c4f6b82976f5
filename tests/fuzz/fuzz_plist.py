"""Fuzz plist.read_dict: only our errors, and whatever we accept plistlib accepts with an equal value.

python tests/fuzz/fuzz_plist.py -runs=100000
"""

import plistlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from harness import fuzz

from ostiary.errors import Malformed, TooLarge
from ostiary.formats import plist

_LIMITS = plist.Limits(max_bytes=1024 * 1024, max_objects=20_000)
_SAID: Sequence[dict[str, Any]] = (
    {"Status": "Idle", "UDID": "00008030-001234567890802E"},
    {"MessageType": "TokenUpdate", "Topic": "com.apple.mgmt.x", "Token": bytes(32), "PushMagic": "é📱&<",
     "UnlockToken": b"\xff" * 60, "AwaitingConfiguration": False},
    {"List": [1, -1, 2**40, 2**64 - 1, 1.5, True, [], {}], "At": datetime(2030, 1, 1), "Empty": b""},  # noqa: DTZ001  # as plistlib wants it
)  # fmt: skip
SEEDS = [
    plistlib.dumps(said, fmt=form)
    for said in _SAID
    for form in (plistlib.FMT_XML, plistlib.FMT_BINARY)
]


def check(raw: bytes) -> None:
    """Compare with plistlib, and write what was read and read it once more."""
    try:
        fields = plist.read_dict(raw, _LIMITS)
    except (Malformed, TooLarge):
        return
    ours = dict(fields.as_mapping())
    binary = raw.startswith(b"bplist00")
    theirs = plistlib.loads(raw, fmt=plistlib.FMT_BINARY if binary else plistlib.FMT_XML)
    if ours != _with_zones(theirs):
        raise AssertionError("plistlib reads another value")
    if _to_the_second(plist.read_dict(plist.encode(ours)).as_mapping()) != _to_the_second(ours):
        raise AssertionError("what we read is not what we write")


def _with_zones(value: Any) -> Any:
    return _moments(value, lambda moment: moment.replace(tzinfo=UTC))


def _to_the_second(value: Any) -> Any:
    return _moments(value, lambda moment: moment.replace(microsecond=0))


def _moments(value: Any, change: Any) -> Any:
    if isinstance(value, datetime):
        return change(value)
    if isinstance(value, list):
        return [_moments(one, change) for one in value]
    if hasattr(value, "items"):
        return {key: _moments(one, change) for key, one in value.items()}
    return value


if __name__ == "__main__":
    fuzz(check, SEEDS)
