"""Plain facts out of hostile reports: whatever is not of the expected form and of sensible size was not said."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from ostiary.formats.fields import Fields
from ostiary.formats.plist import PlistValue

Fact: TypeAlias = "bool | int | float | str | list[Fact] | dict[str, Fact] | None"
Facts: TypeAlias = Mapping[str, Fact]
"""What a report said, by Apple's keys, as plain JSON without secrets."""

LONGEST_TEXT: Final = 255
LARGEST_NUMBER: Final = 2**53
"""Beyond it JSON readers disagree."""


def inner(result: Fields | Mapping[str, PlistValue], key: str) -> Mapping[str, PlistValue]:
    """The dictionary under `key`; an empty one where there is none."""
    mapping = result.as_mapping() if isinstance(result, Fields) else result
    found = mapping.get(key)
    return found if isinstance(found, Mapping) else {}


def dicts(
    said: Mapping[str, PlistValue], key: str, most: int
) -> tuple[list[Mapping[str, PlistValue]], int]:
    """The dictionaries in the array under `key`, at most `most`, and how many more there were."""
    found = said.get(key)
    if not isinstance(found, Sequence) or isinstance(found, str | bytes):
        return [], 0
    all_of_them = [one for one in found if isinstance(one, Mapping)]
    return all_of_them[:most], max(0, len(all_of_them) - most)


def texts(said: Mapping[str, PlistValue], key: str, most: int) -> list[Fact]:
    """The texts in the array under `key`, at most `most`."""
    found = said.get(key)
    if not isinstance(found, Sequence) or isinstance(found, str | bytes):
        return []
    return [text for one in found[:most] if (text := as_text(one)) is not None]


def kept_texts(said: Mapping[str, PlistValue], keys: Iterable[str]) -> dict[str, Fact]:
    """Those of `keys` that hold a text of sensible length."""
    return {key: text for key in keys if (text := as_text(said.get(key))) is not None}


def kept_flags(said: Mapping[str, PlistValue], keys: Iterable[str]) -> dict[str, Fact]:
    """Those of `keys` that hold a boolean, or the word for one."""
    return {key: flag for key in keys if (flag := as_flag(said.get(key))) is not None}


def kept_numbers(said: Mapping[str, PlistValue], keys: Iterable[str]) -> dict[str, Fact]:
    """Those of `keys` that hold an integer."""
    return {key: number for key in keys if (number := as_number(said.get(key))) is not None}


def as_text(value: object) -> str | None:
    """A text that is not empty and not too long."""
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT else None


def as_flag(value: object) -> bool | None:
    """A boolean; some releases write it as a text. (BT-20)"""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def as_number(value: object) -> int | None:
    """An integer that JSON can carry."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if abs(value) <= LARGEST_NUMBER else None


def as_facts(value: Fact) -> Facts:
    """The dictionary that a fact is; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: Fact) -> Sequence[Fact]:
    """The list that a fact is; an empty one for anything else."""
    return value if isinstance(value, list) else ()
