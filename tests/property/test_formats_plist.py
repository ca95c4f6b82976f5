"""Property lists, whatever they hold: written and read again, compared with plistlib, and hostile bytes."""

import plistlib
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ostiary.errors import Malformed, TooLarge
from ostiary.formats import plist
from ostiary.formats.plist_rules import FORBIDDEN_CHARACTER

TEXTS = st.text().filter(lambda text: not FORBIDDEN_CHARACTER.search(text))
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(  # noqa: DTZ001  # given its zone next
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
SCALARS = (
    TEXTS
    | st.binary()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | MOMENTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)
DICTIONARIES = st.dictionaries(TEXTS, VALUES, max_size=6)


def without_zones(value: Any) -> Any:
    """The value as plistlib of Python 3.11 has it: moments naive, meaning UTC."""
    match value:
        case dict():
            return {key: without_zones(inner) for key, inner in value.items()}
        case list():
            return [without_zones(inner) for inner in value]
        case datetime():
            return value.replace(tzinfo=None)
        case _:
            return value


@given(DICTIONARIES)
def test_what_is_written_is_read_again(said: dict[str, Any]) -> None:
    body = plist.encode(said)
    assert plist.read_dict(body).as_mapping() == said
    assert plistlib.loads(body) == without_zones(said)


@given(DICTIONARIES)
def test_both_forms_of_plistlib_are_read_as_plistlib_reads_them(said: dict[str, Any]) -> None:
    for form in (plistlib.FMT_XML, plistlib.FMT_BINARY):
        body = plistlib.dumps(without_zones(said), fmt=form)
        assert without_zones(dict(plist.read_dict(body).as_mapping())) == plistlib.loads(body)


@given(st.binary() | st.binary().map(lambda rest: b"bplist00" + rest))
def test_arbitrary_bytes_are_malformed_and_nothing_worse(body: bytes) -> None:
    with suppress(Malformed, TooLarge):
        plist.read_dict(body)


@given(DICTIONARIES, st.sampled_from([plistlib.FMT_XML, plistlib.FMT_BINARY]), st.data())
def test_a_bent_document_is_read_or_malformed_and_nothing_worse(
    said: dict[str, Any], form: plistlib.PlistFormat, choices: st.DataObject
) -> None:
    body = bytearray(plistlib.dumps(without_zones(said), fmt=form))
    for _ in range(choices.draw(st.integers(1, 4))):
        body[choices.draw(st.integers(0, len(body) - 1))] = choices.draw(st.integers(0, 255))
    with suppress(Malformed, TooLarge):
        plist.encode(plist.read_dict(bytes(body)).as_mapping())
