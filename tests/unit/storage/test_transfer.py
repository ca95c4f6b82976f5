"""A transfer takes all or nothing, only from a database that rests, and only into an empty one."""

import asyncio
import random
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import asyncpg
import pytest
from typing_extensions import override

from conformance.storage_twins import store
from conformance.storage_values import MovedClock, command, device
from conformance.transfer_dumps import (
    Filler,
    dump_postgres,
    dump_sqlite,
    make_house,
    postgres_types,
)
from conformance.transfer_progress import Unheard
from database_file import database
from ostiary.domain.decision import AuditEntry
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.ports.storage import StorageFailed
from ostiary.storage.audit_chain import FIRST_HASH, next_hash
from ostiary.storage.errors import (
    DatabaseMissing,
    SchemaAltered,
    SchemaTooNew,
    StoreIsOpen,
    UnusableDatabaseUrl,
)
from ostiary.storage.postgres.storage import open_postgres
from ostiary.storage.sqlite.rows import moment
from ostiary.storage.sqlite.storage import open_sqlite
from ostiary.storage.transfer.digest import TableDigest
from ostiary.storage.transfer.errors import (
    ContentsDiffer,
    NodesAreConnected,
    SameDatabase,
    SchemaBehind,
    SchemasDiffer,
    TargetNotEmpty,
    TransferFailed,
)
from ostiary.storage.transfer.move import Moved, move
from ostiary.storage.transfer.side import ROWS_AT_ONCE
from ostiary.storage.transfer.words import describe, dropping, masked
from postgres_server import PostgresServer


async def moved(source: str | Path, target: str | Path, *, dry: bool = False) -> Moved:
    source, target = (
        f"sqlite:///{place}" if isinstance(place, Path) else place for place in (source, target)
    )
    return await move(source, target, clock=MovedClock(), progress=Unheard(), dry=dry)


@pytest.fixture
async def house(tmp_path: Path, postgres_url: str) -> Path:
    """A SQLite database with rows in every table."""
    path = tmp_path / "house.db"
    await make_house(path)
    filler = Filler(await postgres_types(postgres_url), random.Random(7), ("one",), (b"two",))
    filler.fill(path)
    return path


@pytest.fixture
async def bare_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """The URL of a PostgreSQL database without a schema."""
    url = await postgres_server.make_database("template0")
    yield url
    await postgres_server.drop_database(url)


def files_in(folder: Path) -> dict[str, bytes]:
    """All files and what is in them; locks are empty, and stay for the next who wants one."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        )
    finally:
        await connection.close()
    return {name for (name,) in found}


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


# -- what travels


async def test_an_empty_database_is_given_its_schema_on_the_way(house: Path, bare_url: str) -> None:
    await moved(house, bare_url)
    assert await dump_postgres(bare_url) == dump_sqlite(house)


async def test_behind_a_pooler_it_goes_as_well(
    house: Path, postgres_url: str, tmp_path: Path
) -> None:
    """One transaction, and nothing that belongs to a session."""
    await moved(house, f"{postgres_url}&prepared=off")
    assert await dump_postgres(postgres_url) == dump_sqlite(house)
    await moved(f"{postgres_url}&prepared=off", tmp_path / "back.db")
    assert dump_sqlite(tmp_path / "back.db") == dump_sqlite(house)


async def test_one_file_may_be_moved_into_another(house: Path, tmp_path: Path) -> None:
    await moved(house, tmp_path / "other.db")
    assert dump_sqlite(tmp_path / "other.db") == dump_sqlite(house)
    assert (tmp_path / "other.db").stat().st_mode & 0o777 == 0o600


async def test_one_postgresql_may_be_moved_into_another(
    house: Path, postgres_url: str, bare_url: str
) -> None:
    await moved(house, postgres_url)
    await moved(postgres_url, bare_url)
    assert await dump_postgres(bare_url) == dump_sqlite(house)


async def test_the_source_is_left_as_it_was_to_the_byte(house: Path, postgres_url: str) -> None:
    before = files_in(house.parent)
    await moved(house, postgres_url)
    assert files_in(house.parent) == before


async def test_what_a_killed_server_left_in_its_log_travels_too(
    house: Path, tmp_path: Path, postgres_url: str
) -> None:
    """The last commits of a server that was killed are in the write-ahead log alone."""
    killed = tmp_path / "killed.db"
    with database(house) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE policy SET value = 'the last word'")
        for end in ("", "-wal", "-shm"):
            shutil.copyfile(f"{house}{end}", f"{killed}{end}")
    await moved(killed, postgres_url)
    assert {dict(row)["value"] for row in (await dump_postgres(postgres_url))["policy"]} == {
        "the last word"
    }


async def test_places_in_the_queue_are_never_given_twice(tmp_path: Path, postgres_url: str) -> None:
    """`sequence` tells a place for ever, also of commands that are gone. (migrations, table command)"""
    path, back = tmp_path / "house.db", tmp_path / "back.db"
    async with open_sqlite(path, clock=MovedClock()) as storage:
        await store(storage, rows=(device(1),), enqueue=(command("kept", to=1),))
        await store(storage, enqueue=(command("gone", to=1),))
    with database(path) as connection:
        connection.execute("DELETE FROM command WHERE uuid = 'gone'")
    await moved(path, postgres_url)
    async with open_postgres(postgres_url, clock=MovedClock()) as postgres:
        await store(postgres, enqueue=(command("third", to=1),))
    await execute(postgres_url, "DELETE FROM command WHERE uuid = 'third'")
    await moved(postgres_url, back)
    async with open_sqlite(back, clock=MovedClock()) as storage:
        await store(storage, enqueue=(command("fourth", to=1),))
    rows = {dict(row)["uuid"]: dict(row)["sequence"] for row in dump_sqlite(back)["command"]}
    assert rows["kept"] == 1
    assert rows["fourth"] > 3


async def test_the_chain_of_the_audit_holds_as_before(tmp_path: Path, postgres_url: str) -> None:
    """design.md 4: hash-chained per tenant; the next entry goes on where the last one stood."""
    path, back = tmp_path / "house.db", tmp_path / "back.db"

    def entry(number: int) -> AuditEntry:
        return AuditEntry(
            tenant=DEFAULT_TENANT,
            actor="ann\x00",
            verb="policy-set",
            subject=f"{number}",
            reason="ü",
        )

    async with open_sqlite(path, clock=MovedClock()) as storage:
        await storage.policies.save_policy(DEFAULT_TENANT, "a", "1", entry(1))
        await storage.policies.save_policy(DEFAULT_TENANT, "a", "2", entry(2))
    await moved(path, postgres_url)
    async with open_postgres(postgres_url, clock=MovedClock()) as postgres:
        await postgres.policies.save_policy(DEFAULT_TENANT, "a", "3", entry(3))
    await moved(postgres_url, back)
    entries = sorted(map(dict, dump_sqlite(back)["audit"]), key=lambda row: row["number"])
    previous = FIRST_HASH
    for number, row in enumerate(entries, start=1):
        previous = next_hash(previous, entry(number), number, moment(row["at"]))
        assert row["hash"] == previous
    assert len(entries) == 3


async def test_a_table_larger_than_what_is_held_at_once_travels_whole(
    tmp_path: Path, postgres_url: str
) -> None:
    path, back = tmp_path / "house.db", tmp_path / "back.db"
    await make_house(path)
    with database(path) as connection:
        rows = [("default", f"{number}", "x" * number) for number in range(3 * ROWS_AT_ONCE + 1)]
        connection.execute("BEGIN")
        for row in rows:
            connection.execute("INSERT INTO policy VALUES (?, ?, ?)", row)
        connection.execute("COMMIT")
    await moved(path, postgres_url)
    await moved(postgres_url, back)
    assert len(dump_sqlite(back)["policy"]) == len(rows)
    assert dump_sqlite(back) == dump_sqlite(path)


async def test_it_says_how_far_it_has_come(house: Path, postgres_url: str) -> None:
    heard = Unheard()
    result = await move(f"sqlite:///{house}", postgres_url, clock=MovedClock(), progress=heard)
    assert heard.total == heard.read == 2 * sum(result.rows.values()) > 0


# -- what is refused


async def test_a_dry_run_counts_and_changes_nothing(
    house: Path, bare_url: str, tmp_path: Path
) -> None:
    before = files_in(tmp_path)
    for target in (bare_url, tmp_path / "other.db"):
        assert (await moved(house, target, dry=True)).rows["enrollment"] == 4
    assert await tables(bare_url) == set()
    assert files_in(tmp_path) == before


async def test_a_target_that_holds_anything_is_never_written(
    house: Path, postgres_url: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    await make_house(other)
    with database(other) as connection:
        connection.execute("INSERT INTO policy VALUES ('default', 'a', 'b')")
    await execute(postgres_url, "INSERT INTO policy VALUES ('default', 'a', 'b')")
    before = await dump_postgres(postgres_url), other.read_bytes()
    for target in (postgres_url, other):
        for dry in (True, False):
            with pytest.raises(TargetNotEmpty):
                await moved(house, target, dry=dry)
    assert (await dump_postgres(postgres_url), other.read_bytes()) == before


async def test_a_database_with_somebody_elses_tables_is_not_ours_to_fill(
    house: Path, bare_url: str
) -> None:
    await execute(bare_url, "CREATE TABLE invoice (id int)")
    with pytest.raises(TargetNotEmpty, match="invoice"):
        await moved(house, bare_url)
    assert await tables(bare_url) == {"invoice"}


async def test_a_strange_table_beside_ours_is_named(house: Path, bare_url: str) -> None:
    async with open_postgres(bare_url, clock=MovedClock()) as storage:
        await storage.check()
    await execute(bare_url, "CREATE TABLE invoice (id text)")
    with pytest.raises(SchemasDiffer, match="table invoice"):
        await moved(house, bare_url)


@pytest.mark.parametrize("name", ["other.db", "other.db-wal"])
async def test_a_file_that_is_no_database_is_not_overwritten(
    house: Path, tmp_path: Path, name: str
) -> None:
    """Nor is a log that SQLite would apply to whatever lies beside it."""
    (tmp_path / name).write_bytes(b"somebody's only copy of something")
    with pytest.raises(TargetNotEmpty):
        await moved(house, tmp_path / "other.db")
    assert (tmp_path / name).read_bytes() == b"somebody's only copy of something"


async def test_what_was_moved_already_is_recognised(
    house: Path, postgres_url: str, tmp_path: Path
) -> None:
    """A transfer that was cut off after its commit is given again, and finds its own work."""
    for target in (postgres_url, tmp_path / "other.db"):
        assert not (await moved(house, target)).was_there
        assert (await moved(house, target)).was_there
    with database(house) as connection:
        connection.execute(
            "UPDATE policy SET value = value || '!' WHERE name = (SELECT min(name) FROM policy)"
        )
    for target in (postgres_url, tmp_path / "other.db"):
        with pytest.raises(TargetNotEmpty):
            await moved(house, target)


async def test_nobody_else_may_use_either_database(
    house: Path, postgres_url: str, bare_url: str, tmp_path: Path
) -> None:
    """What a server took in meanwhile would be lost."""
    await moved(house, postgres_url)
    async with open_sqlite(tmp_path / "other.db", clock=MovedClock()):
        with pytest.raises(StoreIsOpen):
            await moved(tmp_path / "other.db", bare_url)
        with pytest.raises(StoreIsOpen):
            await moved(house, tmp_path / "other.db")
    with patch("ostiary.storage.transfer.postgres.LOOKS", 1):
        async with open_postgres(postgres_url, clock=MovedClock()) as node:
            await node.check()
            with pytest.raises(NodesAreConnected):
                await moved(postgres_url, tmp_path / "new.db")
        async with open_postgres(bare_url, clock=MovedClock()) as node:
            await node.check()
            with pytest.raises(NodesAreConnected):
                await moved(house, bare_url)
    assert not (tmp_path / "new.db").exists()


async def test_a_node_that_comes_meanwhile_takes_the_transfer_back(
    house: Path, postgres_url: str, tmp_path: Path
) -> None:
    """It cannot write, and it is seen before anything counts."""
    await moved(house, postgres_url)
    # In a thread of its own, the node is connected before the transfer takes its next step.
    with ThreadPoolExecutor(1) as elsewhere:
        loop = asyncio.Runner()
        nodes: list[asyncpg.Connection] = []

        async def connect() -> asyncpg.Connection:
            return await asyncpg.connect(
                postgres_url, server_settings={"application_name": "ostiary"}
            )

        def come(step: str) -> None:
            if step == "compared-wake":
                nodes.append(elsewhere.submit(loop.run, connect()).result())

        with (
            patch("ostiary.storage.transfer.postgres.LOOKS", 1),
            pytest.raises(NodesAreConnected),
        ):
            await move(
                postgres_url,
                f"sqlite:///{tmp_path / 'new.db'}",
                clock=MovedClock(),
                progress=Unheard(),
                trace=come,
            )
        for node in nodes:
            elsewhere.submit(loop.run, node.close()).result()
        elsewhere.submit(loop.close).result()
    assert not (tmp_path / "new.db").exists()


async def test_a_schema_of_another_version_is_refused(
    house: Path, postgres_url: str, bare_url: str
) -> None:
    with database(house) as connection:
        connection.execute("INSERT INTO migration VALUES ('9999_before_more.sql', 'x', 0)")
    with pytest.raises(SchemaTooNew, match="9999_before_more"):
        await moved(house, postgres_url)
    with database(house) as connection:
        connection.execute("DELETE FROM migration WHERE name LIKE '9999%' OR name LIKE '0002%'")
    with pytest.raises(SchemaBehind, match="0002"):
        await moved(house, postgres_url)
    with database(house) as connection:
        connection.execute("UPDATE migration SET checksum = 'edited'")
    with pytest.raises(SchemaAltered, match="0001"):
        await moved(house, postgres_url)
    assert await tables(bare_url) == set()


async def test_a_source_that_is_not_there_is_missing(
    tmp_path: Path, postgres_url: str, bare_url: str
) -> None:
    with pytest.raises(DatabaseMissing):
        await moved(tmp_path / "nothing.db", postgres_url)
    with pytest.raises(DatabaseMissing):
        await moved(bare_url, tmp_path / "new.db")
    assert files_in(tmp_path) == {}


async def test_the_same_database_is_no_target(house: Path, postgres_url: str) -> None:
    for place in (house, postgres_url):
        with pytest.raises(SameDatabase):
            await moved(place, place)


async def test_a_place_that_cannot_be_reached_is_said(house: Path, tmp_path: Path) -> None:
    for dry in (True, False):
        with pytest.raises(TransferFailed):
            await moved(house, tmp_path / "no such directory" / "new.db", dry=dry)
    with pytest.raises(StorageFailed):
        await moved(house, "postgresql://somebody:pass-phrase@127.0.0.1:1/nothing")
    with pytest.raises(UnusableDatabaseUrl):
        await move("nothing", f"sqlite:///{house}", clock=MovedClock(), progress=Unheard())


async def test_a_row_that_has_lost_its_parent_is_not_passed_on(
    house: Path, tmp_path: Path, bare_url: str
) -> None:
    with database(house) as connection:
        connection.execute("UPDATE binding SET enrollment_key = 'nobody''s'")
    with pytest.raises(ContentsDiffer):
        await moved(house, tmp_path / "new.db")
    with pytest.raises(TransferFailed, match="binding"):
        await moved(house, bare_url)
    assert not (tmp_path / "new.db").exists()
    assert await tables(bare_url) == set()


async def test_what_is_read_back_otherwise_is_not_kept(house: Path, bare_url: str) -> None:
    """A database, a disk or a driver that changes a value on its way."""

    class Flawed(TableDigest):
        @property
        @override
        def value(self) -> tuple[int, int]:
            return self.rows, id(self)

    with patch("ostiary.storage.transfer.move.TableDigest", Flawed), pytest.raises(ContentsDiffer):
        await moved(house, bare_url)
    assert await tables(bare_url) == set()


class Interrupted(Unheard):
    """Ctrl-C in the middle of a table."""

    @override
    def advance(self, rows: int) -> None:
        super().advance(rows)
        if self.read > self.total // 4:
            raise asyncio.CancelledError


async def test_ctrl_c_leaves_nothing_behind(
    house: Path, bare_url: str, postgres_url: str, tmp_path: Path
) -> None:
    await moved(house, postgres_url)
    before = files_in(tmp_path)
    ways = ((f"sqlite:///{house}", bare_url), (postgres_url, f"sqlite:///{tmp_path / 'new.db'}"))
    for source, target in ways:
        with pytest.raises(asyncio.CancelledError):
            await move(source, target, clock=MovedClock(), progress=Interrupted())
    assert await tables(bare_url) == set()
    assert files_in(tmp_path) == before


# -- words and digests


def test_a_database_is_named_without_its_password() -> None:
    said = describe("postgresql://ann:pass-phrase@db.example.org:5433/ostiary?password=too")
    assert said == "postgresql://db.example.org:5433/ostiary"
    assert describe("sqlite:////var/lib/o.sqlite") == "/var/lib/o.sqlite"
    assert (
        describe("postgresql://ann:pass-phrase@one:5432,two:5433/o")
        == "postgresql://one:5432,two:5433/o"
    )


def test_a_url_is_shown_with_stars_for_its_passwords() -> None:
    assert masked("sqlite:///o.db") == "sqlite:///o.db"
    assert masked("postgresql://ann@db/o?pool_size=4") == "postgresql://ann@db/o?pool_size=4"
    said = masked("postgresql://ann:pass-phrase@one:1,two:2/o?password=too&host=/run/pg")
    assert said == "postgresql://ann:***@one:1,two:2/o?password=***&host=/run/pg"


def test_the_command_that_removes_a_database_names_where_it_is() -> None:
    assert dropping("postgresql://ann:secret@db:5433/my%20o") == (
        "dropdb --host=db --port=5433 --username=ann 'my o'"
    )
    assert dropping("postgresql:///o?host=/run/pg&user=ann") == (
        "dropdb --host=/run/pg --username=ann o"
    )
    assert dropping("postgresql://one,two/o") == "dropdb --host=one,two o"
    assert dropping("postgresql://[::1]:5432/o") == "dropdb --host=::1 --port=5432 o"


def test_a_digest_is_the_same_in_any_order_and_for_nothing_else() -> None:
    def digest(*rows: tuple[object, ...]) -> tuple[int, int]:
        one = TableDigest(b"k" * 32)
        one.add(rows)
        return one.value

    first, second = ("a", 1, None, b""), ("", 0, 2**63 - 1, b"\x00")
    assert digest(first, second) == digest(second, first)
    different = [
        (),
        (first,),
        (first, first),
        (first, second, second),
        (("a", 1, b"", None), second),
        (("a", "1", None, b""), second),
        (("a", 1, None, ""), second),
    ]
    assert len({digest(*rows) for rows in different} | {digest(first, second)}) == 8
