"""Fields: absent is None, a wrong type names the field and never shows the value."""

from collections.abc import Callable
from typing import Any

import pytest

from ostiary.formats.plist import FieldHasWrongType, FieldMissing, Fields

SENT = Fields(
    {
        "Text": "t",
        "Data": b"d",
        "Empty": b"",
        "On": True,
        "One": 1,
        "Dict": {"Inner": "x"},
        "Dicts": [{"a": 1}, {"a": "two"}],
        "Texts": ["a", "b"],
        "Mixed": ["a", 1, {}],
    }
)


def test_every_type_is_read_as_itself() -> None:
    assert SENT.text("Text") == SENT.optional_text("Text") == "t"
    assert SENT.data("Data") == b"d"
    assert SENT.data("Empty") == b""
    assert SENT.flag("On", False) is True
    assert SENT.optional_integer("One") == 1
    inner = SENT.optional_dict("Dict")
    assert inner is not None
    assert inner.text("Inner") == "x"
    assert [one.has("a") for one in SENT.list_of_dicts("Dicts") or ()] == [True, True]
    assert SENT.optional_texts("Texts") == ("a", "b")


def test_absent_is_none_and_never_the_same_as_empty() -> None:
    """Absent often means "as before". (style.md principle 3)"""
    assert SENT.optional_data("Nothing") is None
    assert SENT.optional_data("Empty") == b""
    assert SENT.optional_text("Nothing") is None
    assert SENT.optional_flag("Nothing") is None
    assert SENT.flag("Nothing", True) is True
    assert SENT.optional_integer("Nothing") is None
    assert SENT.optional_dict("Nothing") is None
    assert SENT.list_of_dicts("Nothing") is None
    assert SENT.optional_texts("Nothing") is None
    assert not SENT.has("Nothing")
    assert SENT.has("Empty")


@pytest.mark.parametrize("read", [SENT.text, SENT.data])
def test_a_required_field_that_is_missing_is_named(read: Callable[[str], object]) -> None:
    with pytest.raises(FieldMissing, match="field=Nothing"):
        read("Nothing")


@pytest.mark.parametrize(
    ("read", "key", "expected"),
    [
        (SENT.text, "Data", "string"),
        (SENT.optional_text, "One", "string"),
        (SENT.data, "Text", "data"),
        (SENT.optional_flag, "One", "boolean"),
        (SENT.optional_integer, "On", "integer"),
        (SENT.optional_dict, "Dicts", "dictionary"),
        (SENT.list_of_dicts, "Mixed", "array of dictionaries"),
        (SENT.list_of_dicts, "Dict", "array of dictionaries"),
        (SENT.optional_texts, "Mixed", "array of strings"),
        (SENT.optional_texts, "Text", "array of strings"),
    ],
)
def test_a_wrong_type_names_field_and_expected_type(
    read: Callable[[str], Any], key: str, expected: str
) -> None:
    with pytest.raises(FieldHasWrongType) as caught:
        read(key)
    assert caught.value.facts == {"field": key, "expected": expected}


def test_an_error_inside_a_nested_dictionary_names_the_way_there() -> None:
    second = (SENT.list_of_dicts("Dicts") or ())[1]
    with pytest.raises(FieldHasWrongType, match=r"field=Dicts\[1\].a, expected=integer") as caught:
        second.optional_integer("a")
    assert "two" not in str(caught.value)


def test_a_printed_message_shows_no_value() -> None:
    assert repr(Fields({"UnlockToken": b"secret"})) == "<Fields: 1 keys>"


def test_the_mapping_is_a_copy_that_cannot_be_written() -> None:
    mapping: Any = SENT.as_mapping()
    with pytest.raises(TypeError):
        mapping["Text"] = "other"
    assert set(SENT.keys()) == set(mapping)
