"""What both forms of a property list share: values, bounds, the errors, and which characters may stand in a text."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from ostiary.errors import Malformed, TooLarge

PlistValue: TypeAlias = (
    str
    | bytes
    | bool
    | int
    | float
    | datetime
    | Sequence["PlistValue"]
    | Mapping[str, "PlistValue"]
)
"""What a property list can hold. Moments are aware UTC."""

SMALLEST_INTEGER: Final = -(2**63)
LARGEST_INTEGER: Final = 2**64 - 1

FORBIDDEN_CHARACTER: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that no XML 1.0 document can carry, not even as a reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of a property list we are willing to read.

    `max_bytes` bounds the document and, in the binary form, the text and data after shared
    objects are written out; `max_objects` counts every value and key, shared ones as often as they appear.

    Source: check-in-and-commands.md 3.9; users.md 5.4 items 16 and 17.
    """

    max_bytes: int = 16 * 1024 * 1024
    max_depth: int = 32
    max_objects: int = 250_000


class NotAPropertyList(Malformed):
    """The body is not a well-formed property list."""


class RootIsNotADictionary(NotAPropertyList):
    """The property list does not hold a dictionary at its root."""


class NestedTooDeep(NotAPropertyList):
    """The property list is nested deeper than any message of Apple's."""


class PropertyListTooLarge(TooLarge):
    """The property list exceeds the size or the number of values that we read."""


class NotEncodable(Malformed):
    """The value has no form as a property list."""
