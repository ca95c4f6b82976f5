"""Which tables and columns travel, and in which order; what has no place on the other side is refused beforehand."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from types import MappingProxyType
from typing import Final

from ostiary.storage.transfer.errors import SchemasDiffer
from ostiary.storage.transfer.side import Kind, Shapes

OWN_TABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "migration": "the steps that this very database went through",
    }
)
"""Tables that say something about one database only, and why they stay behind."""
COUNTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "enrollment_count": """
            INSERT INTO enrollment_count (type, state, number)
            SELECT type, state, count(*) FROM enrollment GROUP BY type, state
        """,
        "token_count": """
            INSERT INTO token_count (kind, state, number)
            SELECT kind, state, count(*) FROM token GROUP BY kind, state
        """,
    }
)
"""Tables that say how many rows others have, each engine in its own way: filled anew, by a statement for both."""
OWN_COLUMNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "enrollment.turn": "orders decisions that nodes of PostgreSQL make at the same moment; none is being made now",
    }
)
"""Columns of one engine alone, and why nothing is lost without them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that travels; the names of its columns in the order in which rows have them."""

    name: str
    columns: tuple[str, ...]


def plan(source: Shapes, target: Shapes) -> tuple[Table, ...]:
    """The tables in an order in which every row finds those that it refers to.

    Raises:
        SchemasDiffer: something has no place on the other side; all of it is named.
    """
    ours, theirs = _travelling(source), _travelling(target)
    if faults := [*_differences(ours, theirs)]:
        raise SchemasDiffer(at="; ".join(faults))
    graph = {name: (target[name].refers_to - {name}) & ours.keys() for name in sorted(ours)}
    order = TopologicalSorter(graph).static_order()
    return tuple(Table(name=name, columns=tuple(ours[name])) for name in order)


def _travelling(shapes: Shapes) -> dict[str, dict[str, Kind]]:
    return {
        name: {
            column: kind
            for column, kind in shape.columns.items()
            if f"{name}.{column}" not in OWN_COLUMNS
        }
        for name, shape in shapes.items()
        if name not in OWN_TABLES and name not in COUNTED
    }


def _differences(
    ours: Mapping[str, Mapping[str, Kind]], theirs: Mapping[str, Mapping[str, Kind]]
) -> Iterable[str]:
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs:
            yield f"table {name}"
            continue
        for column in sorted(ours[name].keys() | theirs[name].keys()):
            if column not in ours[name] or column not in theirs[name]:
                yield f"column {name}.{column}"
            elif ours[name][column] is not theirs[name][column]:
                yield f"kind of {name}.{column}"
