"""Opening and closing a database file: private, durable, one process at a time."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.storage_twins import show, store, store_as
from conformance.storage_values import NOON, MovedClock, after, device, key
from database_file import database
from ostiary.domain.decision import Ask, ByKey, Change
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.ports.storage import StorageFailed
from ostiary.storage import open_storage
from ostiary.storage.errors import StoreIsOpen, UnusableDatabaseUrl
from ostiary.storage.sqlite import enrollments
from ostiary.storage.sqlite.engine import Transaction
from ostiary.storage.sqlite.storage import SqliteStorage, open_sqlite

ASK = Ask(who=ByKey(key=key(1)))
LETTER = b"a letter to grandmother" * 100
OPEN_AND_SAY = """
import sys
from pathlib import Path
from ostiary.storage.errors import StoreIsOpen
from ostiary.storage.sqlite.connection import StoreLock
try:
    StoreLock(Path(sys.argv[1]))
except StoreIsOpen:
    print("open elsewhere")
else:
    print("free")
"""


@pytest.fixture
def readable(path: Path) -> Path:
    """A database file that somebody made for all to read."""
    path.touch(mode=0o644)
    return path


@pytest.fixture
def letter(path: Path) -> Path:
    """A file that is no database."""
    path.write_bytes(LETTER)
    return path


async def test_files_are_readable_by_their_owner_only(readable: Path) -> None:
    path = readable
    async with open_sqlite(path, clock=MovedClock()) as opened:
        await store(opened, rows=(device(1),))
        files = sorted(path.parent.glob("ostiary.db*"))
        assert [file.name for file in files] == [
            "ostiary.db",
            "ostiary.db-shm",
            "ostiary.db-wal",
            "ostiary.db.lock",
        ]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_a_second_opening_is_refused_by_name(sqlite: SqliteStorage, path: Path) -> None:
    with pytest.raises(StoreIsOpen):
        open_sqlite(path, clock=MovedClock())
    await sqlite.check()


async def test_another_process_is_refused_until_we_close(path: Path) -> None:
    def ask_another() -> str:
        done = subprocess.run(
            [sys.executable, "-c", OPEN_AND_SAY, str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    async with open_sqlite(path, clock=MovedClock()):
        assert ask_another() == "open elsewhere"
    assert ask_another() == "free"


async def test_what_was_stored_is_there_after_closing_and_opening(path: Path) -> None:
    async with open_sqlite(path, clock=MovedClock()) as opened:
        await store(opened, rows=(device(1),))
        await store_as(opened, ASK, seen=key(1), at=after(minutes=1))
    async with open_sqlite(path, clock=MovedClock()) as opened:
        shown = await show(opened, ASK)
    assert shown.device == device(1, version=1, last_seen_at=after(minutes=1))


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="nowhere"):
        open_sqlite(tmp_path / "nowhere" / "ostiary.db", clock=MovedClock())


def test_a_file_that_is_no_database_is_left_alone(letter: Path) -> None:
    with pytest.raises(StorageFailed):
        open_sqlite(letter, clock=MovedClock())
    assert letter.read_bytes() == LETTER


async def test_the_promises_are_kept_by_the_connection(sqlite: SqliteStorage) -> None:
    """WAL with an fsync for each commit; NORMAL would lose the last answers with the power."""

    def promises(transaction: Transaction) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        return {name: transaction.read(f"PRAGMA {name}").fetchone()[0] for name in names}

    assert await sqlite._engine.run(promises) == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 2,
    }


async def test_a_closed_storage_is_not_ready(path: Path) -> None:
    opened = open_sqlite(path, clock=MovedClock())
    await opened.check()
    await opened.close()
    with pytest.raises(StorageFailed):
        await opened.check()
    with pytest.raises(StorageFailed):
        await show(opened, ASK)


def last_seen_on_disk(path: Path, number: int = 1) -> object:
    with database(path) as connection:
        row = connection.execute(
            "SELECT last_seen_at FROM enrollment WHERE key = ?", (key(number),)
        ).fetchone()
    return None if row is None else row[0]


async def test_last_seen_alone_waits_for_its_time_and_for_the_end(path: Path) -> None:
    """An Idle is not worth an fsync, nor is each answer of a session worth a page. (design.md 4)"""
    async with open_sqlite(path, clock=MovedClock()) as opened:
        await store(opened, rows=(device(1), device(2)))
        await store_as(opened, ASK, seen=key(1), at=after(minutes=1))
        await store(opened, rows=(device(2, version=1),))
        assert last_seen_on_disk(path) is None
        seen = await show(opened, ASK)
        assert seen.device is not None
        assert seen.device.last_seen_at == after(minutes=1)
    assert last_seen_on_disk(path) is not None


async def test_last_seen_is_written_at_the_latest_after_its_time(path: Path) -> None:
    async with open_sqlite(path, clock=MovedClock(), seen_within_seconds=0) as opened:
        await store(opened, rows=(device(1),))
        await store_as(opened, ASK, seen=key(1), at=after(minutes=1))
        while last_seen_on_disk(path) is None:
            await opened.reports.count()


async def test_no_more_than_so_many_contacts_are_kept_in_memory(
    sqlite: SqliteStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 300
    monkeypatch.setattr(enrollments, "MOST_UNWRITTEN_SEEN", count)
    await store(sqlite, rows=tuple(device(number) for number in range(1, count + 1)))
    for number in range(1, count + 1):
        await store_as(sqlite, ASK, seen=key(number), at=after(minutes=1))
    while last_seen_on_disk(path, count) is None:
        await sqlite.reports.count()
    assert all(last_seen_on_disk(path, number) is not None for number in range(1, count + 1))


async def test_a_url_opens_the_file_that_it_names(path: Path) -> None:
    storage = open_storage(f"sqlite:///{path}", MovedClock())
    await storage.check()
    assert last_seen_on_disk(path) is None
    assert (await storage.reports.count()).live_commands == 0
    await storage.close()


@pytest.mark.parametrize("url", ["", "sqlite:///", "sqlite://x", "mysql://u:secret@h/d", "x.db"])
async def test_a_url_that_names_no_engine_of_ours_is_refused_without_repeating_it(
    url: str,
) -> None:
    with pytest.raises(UnusableDatabaseUrl) as caught:
        open_storage(url, MovedClock())
    assert "secret" not in str(caught.value)


@pytest.fixture
def odd_path(tmp_path: Path) -> Path:
    """In a folder whose name is no UTF-8, and holds what means something in an address."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xff ?#%41&"))
    folder.mkdir()
    return folder / "ostiary.db"


async def test_a_file_may_lie_at_any_path_that_the_system_knows(odd_path: Path) -> None:
    async with open_sqlite(odd_path, clock=MovedClock()) as opened:
        await store(opened, rows=(device(1),))
        files = {file.name for file in odd_path.parent.iterdir()}
        assert "ostiary.db-wal" in files
    with database(odd_path) as reading:
        assert reading.execute("SELECT count(*) FROM enrollment").fetchone() == (1,)


async def test_a_damaged_text_is_the_databases_fault_and_is_not_shown(path: Path) -> None:
    async with open_sqlite(path, clock=MovedClock()) as opened:
        await store(opened, rows=(device(1),))
        with database(path) as writing:
            writing.execute("UPDATE enrollment SET device_name = CAST(x'58ff' AS TEXT)")
        with pytest.raises(StorageFailed) as decided:
            await opened.enrollments.decide(ASK, lambda _: Change(at=NOON, answer=None))
        with pytest.raises(StorageFailed) as listed:
            await opened.reports.list_enrollments(DEFAULT_TENANT, state=None, limit=9, after=None)
        for error in (decided.value, listed.value):
            assert "damaged" in str(error)
            assert error.__cause__ is None
        await store(opened, rows=(device(2),))
