"""Whatever a house holds, it holds in the other engine too, and again when it comes back."""

import asyncio
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.storage_values import MovedClock
from conformance.transfer_dumps import (
    Filler,
    dump_postgres,
    dump_sqlite,
    make_house,
    postgres_types,
)
from conformance.transfer_progress import Unheard
from database_file import database
from ostiary.storage.transfer.move import move
from postgres_server import PostgresServer

SHORT, LONG = 15, 300


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ostiary-transfer-") as name:
        yield Path(name)


def test_every_value_of_every_column_comes_back_as_it_was(
    postgres_server: PostgresServer, folder: Path, long_form: bool
) -> None:
    """Moments, flags, numbers, bytes, and texts with U+0000 or our own escape in them. (storage/postgres/text.py)"""
    postgres_server.restart()
    empty = folder / "empty.db"
    asyncio.run(make_house(empty))
    url = asyncio.run(postgres_server.lend_database())
    types = asyncio.run(postgres_types(url))

    @settings(max_examples=LONG if long_form else SHORT)
    @given(
        seed=st.integers(0, 2**32),
        texts=st.lists(st.text(max_size=40), max_size=6),
        blobs=st.lists(st.binary(max_size=200), max_size=4),
    )
    def there_and_back(seed: int, texts: list[str], blobs: list[bytes]) -> None:
        house, back = folder / "house.db", folder / "back.db"
        house.write_bytes(empty.read_bytes())
        back.unlink(missing_ok=True)
        Filler(types, random.Random(seed), texts, blobs).fill(house)
        asyncio.run(_there_and_back(postgres_server, house, url, back))

    there_and_back()
    asyncio.run(postgres_server.take_back(url))


async def _there_and_back(server: PostgresServer, house: Path, url: str, back: Path) -> None:
    await server.empty(url)
    before = dump_sqlite(house)
    clock = MovedClock()
    there = await move(f"sqlite:///{house}", url, clock=clock, progress=Unheard())
    assert all(there.rows.values()), "the filler left a table empty"
    assert await dump_postgres(url) == before
    home = await move(url, f"sqlite:///{back}", clock=clock, progress=Unheard())
    assert dump_sqlite(back) == before
    assert dump_sqlite(house) == before
    assert there.rows == home.rows
    with database(back) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
