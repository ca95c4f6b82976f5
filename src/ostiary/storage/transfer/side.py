"""One side of a transfer, whichever engine it is: what it holds by table, as rows that are equal on both engines.

In such a row a text is the text itself, a moment is microseconds since 1970, a flag is 0 or 1, and bytes are bytes.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from ostiary.storage.transfer.errors import SchemasDiffer

Row = tuple[Any, ...]
Batches = AsyncIterator[list[Row]]

ROWS_AT_ONCE: Final = 256
"""Rows that are held in memory; a row has a megabyte at the very most, and a kilobyte as a rule."""


class Kind(StrEnum):
    """What a column holds, as far as the two engines must agree."""

    TEXT = "text"
    BYTES = "bytes"
    NUMBER = "number"
    """Moments and flags are numbers too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One table as the engine's own catalogue describes it."""

    columns: Mapping[str, Kind]
    refers_to: frozenset[str] = frozenset()
    """Tables whose rows must be there first."""
    counts: str | None = None
    """The column that numbers rows by itself and never gives a number twice."""


Shapes = Mapping[str, Shape]


def kind_of(kinds: Mapping[str, Kind], type_: str, table: str, column: str) -> Kind:
    """The kind of a column. Raises `SchemasDiffer` for a type of which nobody said what the other engine makes of it."""
    if (kind := kinds.get(type_)) is None:
        raise SchemasDiffer(at=f"type {type_} of {table}.{column}")
    return kind


class Side(Protocol):
    """What can be read of either database."""

    @property
    def shapes(self) -> Shapes:
        """All its tables."""

    async def count(self, table: str) -> int:
        """How many rows a table has."""

    def batches(self, table: str, columns: tuple[str, ...]) -> Batches:
        """All rows of a table, some at a time."""

    async def last_number(self, table: str) -> int:
        """The highest number that a table which counts has ever given; 0 if none."""


class Source(Side, Protocol):
    """The database that is moved; nothing is written there."""

    async def confirm(self) -> None:
        """Raise `NodesAreConnected` if somebody has come who could write to it."""


class Target(Side, Protocol):
    """The database that is filled; nobody sees any of it before `commit`."""

    @property
    def held(self) -> str | None:
        """Where it holds something; None if it was empty, and only then may it be written."""

    @property
    def aside(self) -> Path | None:
        """Where an old database lies since `commit` that was moved from this place once."""

    def undisturbed(self) -> AbstractAsyncContextManager[None]:
        """Within it, rows are written without what triggers make of new ones: that travels by itself."""

    async def write(self, table: str, columns: tuple[str, ...], batches: Batches) -> None:
        """Append rows."""

    async def run(self, statement: str) -> None:
        """Run a statement that both engines understand."""

    async def count_on_from(self, table: str, number: int) -> None:
        """Let a table that counts give higher numbers than this one and any that it has."""

    async def commit(self) -> None:
        """All of it is there, on disk, from here on; before, nothing was."""
