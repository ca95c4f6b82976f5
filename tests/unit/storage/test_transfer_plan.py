"""Nothing can be added to a schema without the transfer knowing it: both catalogues are compared with what it copies."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from conformance.storage_values import NOON
from conformance.transfer_dumps import make_house
from database_file import database
from ostiary.storage.transfer.errors import SchemasDiffer
from ostiary.storage.transfer.plan import COUNTED, OWN_COLUMNS, OWN_TABLES, plan
from ostiary.storage.transfer.postgres import postgres_target
from ostiary.storage.transfer.side import Kind, Shape, Shapes
from ostiary.storage.transfer.sqlite import sqlite_source
from postgres_server import PostgresServer

PARENT = Shape(columns={"key": Kind.TEXT})
CHILD = Shape(columns={"of": Kind.TEXT, "value": Kind.BYTES}, refers_to=frozenset({"parent"}))


@pytest.fixture
async def spoilt_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A database with our schema that nobody uses afterwards."""
    url = await postgres_server.make_database()
    yield url
    await postgres_server.drop_database(url)


async def sqlite_shapes(path: Path) -> Shapes:
    async with sqlite_source(path) as side:
        return side.shapes


async def postgres_shapes(url: str) -> Shapes:
    async with postgres_target(url, NOON) as side:
        return side.shapes


async def test_every_table_and_column_of_both_engines_travels_or_is_said_not_to(
    tmp_path: Path, postgres_url: str
) -> None:
    """Whoever adds one on a single engine, or of a type that has no twin, is told here: see storage/transfer/plan.py."""
    await make_house(tmp_path / "house.db")
    shapes = await sqlite_shapes(tmp_path / "house.db"), await postgres_shapes(postgres_url)
    travelling = {f"{table.name}.{column}" for table in plan(*shapes) for column in table.columns}
    for catalogue in shapes:
        everything = {
            f"{name}.{column}" for name, shape in catalogue.items() for column in shape.columns
        }
        left = {one for one in everything - travelling if one not in OWN_COLUMNS}
        assert {one.partition(".")[0] for one in left} <= OWN_TABLES.keys() | COUNTED.keys()


async def test_nothing_is_said_of_what_is_not_there(tmp_path: Path, postgres_url: str) -> None:
    """An exception that nobody needs any more would hide the next one."""
    await make_house(tmp_path / "house.db")
    known: set[str] = set()
    for catalogue in (
        await sqlite_shapes(tmp_path / "house.db"),
        await postgres_shapes(postgres_url),
    ):
        known |= catalogue.keys()
        known |= {
            f"{name}.{column}" for name, shape in catalogue.items() for column in shape.columns
        }
    assert OWN_TABLES.keys() | COUNTED.keys() | OWN_COLUMNS.keys() <= known


def test_a_table_comes_after_those_that_it_refers_to() -> None:
    shapes = {"child": CHILD, "parent": PARENT}
    assert [table.name for table in plan(shapes, shapes)] == ["parent", "child"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"new": PARENT}, "table new"),
        ({"parent": Shape(columns={"key": Kind.TEXT, "more": Kind.TEXT})}, "column parent.more"),
        ({"parent": Shape(columns={"key": Kind.NUMBER})}, "kind of parent.key"),
        ({"parent": Shape(columns={})}, "column parent.key"),
    ],
)
def test_what_one_side_alone_has_is_named(change: dict[str, Shape], told: str) -> None:
    shapes = {"child": CHILD, "parent": PARENT}
    for source, target in ((shapes, shapes | change), (shapes | change, shapes)):
        with pytest.raises(SchemasDiffer, match=told):
            plan(source, target)


def test_what_both_sides_have_travels_whoever_added_it() -> None:
    new = {"new": replace(PARENT, columns={"a": Kind.NUMBER})}
    shapes = {"parent": PARENT, **new}
    assert {table.name: table.columns for table in plan(shapes, shapes)} == {
        "new": ("a",),
        "parent": ("key",),
    }


async def test_a_column_added_behind_our_back_is_refused_before_anything_is_copied(
    tmp_path: Path, postgres_url: str
) -> None:
    await make_house(tmp_path / "house.db")
    with database(tmp_path / "house.db") as connection:
        connection.execute("ALTER TABLE policy ADD COLUMN why TEXT")
    with pytest.raises(SchemasDiffer, match=r"column policy\.why"):
        plan(await sqlite_shapes(tmp_path / "house.db"), await postgres_shapes(postgres_url))


async def test_a_type_that_has_no_twin_is_refused(spoilt_url: str) -> None:
    connection = await asyncpg.connect(spoilt_url)
    await connection.execute("ALTER TABLE policy ADD COLUMN why jsonb")
    await connection.close()
    with pytest.raises(SchemasDiffer, match=r"type jsonb of policy\.why"):
        await postgres_shapes(spoilt_url)
