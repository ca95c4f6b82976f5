"""The writer: shared commits, failures that stay with their own, and what a broken disk leaves behind."""

import asyncio
import resource
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import apsw
import pytest
from typing_extensions import override

from database_file import database
from ostiary.ports.storage import StorageBusy, StorageFailed
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.sqlite.connection import open_writer
from ostiary.storage.sqlite.engine import Engine, Transaction


class Faulty(apsw.Connection):
    """A connection that refuses the statements named in `broken`."""

    broken: ClassVar[set[str]] = set()

    @override
    def execute(self, statements: str, *rest: Any, **options: Any) -> apsw.Cursor:
        if statements in self.broken:
            raise apsw.IOError("disk I/O error")
        return super().execute(statements, *rest, **options)


class Bench:
    """An engine on a table of words, with every step counted and the commit thread on a leash."""

    def __init__(self, path: Path, **limits: int) -> None:
        self.path = path
        self.connect_fails = False
        self.steps: Counter[str] = Counter()
        self.go = threading.Event()
        self.go.set()
        with database(path) as connection:
            connection.execute("CREATE TABLE word (word TEXT PRIMARY KEY) STRICT")
        Faulty.broken = set()
        self.engine = Engine(self.connect, trace=self.trace, **limits)

    def connect(self) -> apsw.Connection:
        if self.connect_fails:
            raise apsw.CantOpenError("unable to open database file")
        connection = Faulty(str(self.path))
        connection.execute("PRAGMA journal_mode = WAL")
        return connection

    def trace(self, step: str) -> None:
        self.steps[step] += 1
        if step == "committing":
            self.go.wait()

    def add(self, word: str) -> Callable[[Transaction], str]:
        def work(transaction: Transaction) -> str:
            transaction.write("INSERT INTO word VALUES (?)", (word,))
            return word

        return work

    def stored(self) -> set[str]:
        """What another connection sees."""
        with database(self.path) as connection:
            return {word for (word,) in connection.execute("SELECT word FROM word")}


def seen(transaction: Transaction) -> set[str]:
    return {word for (word,) in transaction.read("SELECT word FROM word")}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "words.db")
    yield made
    Faulty.broken = set()
    made.connect_fails = False
    made.go.set()
    await made.engine.close()


async def outcomes(*awaited: Any) -> list[Any]:
    return await asyncio.gather(*awaited, return_exceptions=True)


async def let_run() -> None:
    """Let everything run that is ready, and what that makes ready."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_answer_comes_after_the_commit(bench: Bench) -> None:
    bench.go.clear()
    answer = asyncio.ensure_future(bench.engine.run(bench.add("one")))
    await let_run()
    assert not answer.done()
    assert bench.stored() == set()
    bench.go.set()
    assert await answer == "one"
    assert bench.stored() == {"one"}


async def test_requests_that_are_ready_together_share_a_commit(bench: Bench) -> None:
    words = [f"word {number}" for number in range(50)]
    answers = await asyncio.gather(*(bench.engine.run(bench.add(word)) for word in words))
    assert answers == words
    assert bench.stored() == set(words)
    assert bench.steps["released"] == 50
    assert bench.steps["committed"] == 1


async def test_requests_that_arrive_during_a_commit_make_the_next_batch(bench: Bench) -> None:
    bench.go.clear()
    first = asyncio.ensure_future(bench.engine.run(bench.add("first")))
    await let_run()
    later = [asyncio.ensure_future(bench.engine.run(bench.add(f"{n}"))) for n in range(20)]
    await let_run()
    assert bench.steps["released"] == 1, "nobody touches the connection while it commits"
    bench.go.set()
    await asyncio.gather(first, *later)
    assert bench.steps["committed"] == 2


async def test_a_batch_has_a_limit(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "words.db", largest_batch=4)
    await asyncio.gather(*(bench.engine.run(bench.add(f"{n}")) for n in range(10)))
    assert bench.steps["committed"] == 3
    assert len(bench.stored()) == 10
    await bench.engine.close()


async def test_reading_alone_neither_commits_nor_waits(bench: Bench) -> None:
    await bench.engine.run(bench.add("one"))
    assert await bench.engine.run(seen) == {"one"}
    assert bench.steps["committed"] == 1


async def test_more_reads_than_a_batch_holds_are_all_answered(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "words.db", largest_batch=2)
    bench.go.clear()
    writing = asyncio.ensure_future(bench.engine.run(bench.add("one")))
    await let_run()
    reading = [asyncio.ensure_future(bench.engine.run(seen)) for _ in range(9)]
    await let_run()
    bench.go.set()
    assert await asyncio.gather(writing, *reading) == ["one", *[{"one"}] * 9]
    await bench.engine.close()


async def test_who_saw_what_is_not_on_disk_yet_waits_for_it_too(bench: Bench) -> None:
    """Else an answer could tell of something that a power cut then undoes."""
    bench.go.clear()
    writing = asyncio.ensure_future(bench.engine.run(bench.add("one")))
    reading = asyncio.ensure_future(bench.engine.run(seen))
    await let_run()
    assert not reading.done()
    bench.go.set()
    assert await reading == {"one"}
    assert await writing == "one"


async def test_who_is_refused_over_what_is_not_on_disk_yet_hears_it_after_the_commit(
    bench: Bench,
) -> None:
    def refuse(transaction: Transaction) -> None:
        raise ValueError(str(seen(transaction)))

    bench.go.clear()
    writing = asyncio.ensure_future(bench.engine.run(bench.add("one")))
    refused = asyncio.ensure_future(bench.engine.run(refuse))
    await let_run()
    assert not refused.done()
    bench.go.set()
    assert await writing == "one"
    with pytest.raises(ValueError, match="one"):
        await refused
    Faulty.broken = {"COMMIT"}
    got = await outcomes(bench.engine.run(bench.add("two")), bench.engine.run(refuse))
    assert [type(one) for one in got] == [StorageFailed, StorageFailed]


async def test_who_writes_is_told_how_many_rows_it_changed(bench: Bench) -> None:
    """Those that triggers change on their own account do not count: a caller asks whether its row was there."""
    trigger = """CREATE TRIGGER echo AFTER INSERT ON word WHEN new.word NOT LIKE 'echo%'
                 BEGIN INSERT INTO word VALUES ('echo of ' || new.word); END"""
    with database(bench.path) as connection:
        connection.execute(trigger)

    def work(transaction: Transaction) -> list[int]:
        return [
            transaction.write("INSERT INTO word VALUES (?)", ("one",)),
            transaction.write_each("INSERT INTO word VALUES (?)", [("two",), ("three",)]),
            transaction.write("UPDATE word SET word = word || '!' WHERE word = ?", ("four",)),
            transaction.write_each("DELETE FROM word WHERE word = ?", [("two",), ("four",)]),
            transaction.write_each("DELETE FROM word WHERE word = ?", []),
            transaction.write("INSERT INTO word VALUES (?) ON CONFLICT DO NOTHING", ("one",)),
        ]

    assert await bench.engine.run(work) == [1, 2, 0, 1, 0, 0]


async def test_a_failing_request_takes_back_its_own_writes_only(bench: Bench) -> None:
    def fail(transaction: Transaction) -> None:
        transaction.write("INSERT INTO word VALUES (?)", ("half",))
        raise ValueError("no")

    got = await outcomes(
        bench.engine.run(bench.add("one")),
        bench.engine.run(fail),
        bench.engine.run(bench.add("two")),
    )
    assert [got[0], got[2]] == ["one", "two"]
    assert isinstance(got[1], ValueError)
    assert bench.stored() == {"one", "two"}


async def test_a_failing_request_alone_leaves_no_transaction_open(bench: Bench) -> None:
    await bench.engine.run(bench.add("one"))
    with pytest.raises(ChangeDoesNotFit):
        await bench.engine.run(bench.add("one"))
    with database(bench.path) as other:
        other.execute("PRAGMA busy_timeout = 0")
        other.execute("INSERT INTO word VALUES ('theirs')")
    assert await bench.engine.run(seen) == {"one", "theirs"}


async def test_a_failing_request_in_the_queue_reaches_its_own_caller(bench: Bench) -> None:
    bench.go.clear()
    first = asyncio.ensure_future(bench.engine.run(bench.add("one")))
    await let_run()
    twice = asyncio.ensure_future(bench.engine.run(bench.add("one")))
    after = asyncio.ensure_future(bench.engine.run(bench.add("two")))
    await let_run()
    bench.go.set()
    got = await outcomes(first, twice, after)
    assert got[0::2] == ["one", "two"]
    assert isinstance(got[1], ChangeDoesNotFit)


async def test_more_requests_than_may_wait_are_turned_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "words.db", longest_queue=3)
    bench.go.clear()
    first = asyncio.ensure_future(bench.engine.run(bench.add("first")))
    await let_run()
    waiting = [asyncio.ensure_future(bench.engine.run(bench.add(f"{n}"))) for n in range(3)]
    await let_run()
    with pytest.raises(StorageBusy):
        await bench.engine.run(bench.add("too many"))
    bench.go.set()
    await asyncio.gather(first, *waiting)
    assert await bench.engine.run(bench.add("later")) == "later"
    assert "too many" not in bench.stored()
    await bench.engine.close()


async def test_a_failed_commit_fails_all_that_it_covers_and_the_next_one_works(
    bench: Bench,
) -> None:
    """(CI-04's lower half: nothing of it is stored, and the repeat succeeds)"""
    await bench.engine.run(bench.add("before"))
    Faulty.broken = {"COMMIT"}
    got = await outcomes(*(bench.engine.run(bench.add(f"{n}")) for n in range(3)))
    assert all(isinstance(one, StorageFailed) for one in got)
    assert isinstance(got[0].__cause__, apsw.IOError)
    assert bench.stored() == {"before"}
    Faulty.broken = set()
    assert await bench.engine.run(seen) == {"before"}
    assert await bench.engine.run(bench.add("0")) == "0"
    assert bench.stored() == {"before", "0"}


async def test_who_waits_behind_a_failed_commit_is_served(bench: Bench) -> None:
    bench.go.clear()
    failing = asyncio.ensure_future(bench.engine.run(bench.add("one")))
    await let_run()
    waiting = asyncio.ensure_future(bench.engine.run(seen))
    await let_run()
    Faulty.broken = {"COMMIT"}
    bench.go.set()
    with pytest.raises(StorageFailed):
        await failing
    assert await waiting == set()


async def test_a_connection_that_cannot_roll_back_is_replaced(bench: Bench) -> None:
    Faulty.broken = {"COMMIT", "ROLLBACK"}
    with pytest.raises(StorageFailed):
        await bench.engine.run(bench.add("one"))
    Faulty.broken = set()
    assert await bench.engine.run(bench.add("two")) == "two"
    assert bench.stored() == {"two"}


async def test_as_long_as_no_connection_can_be_had_requests_fail(bench: Bench) -> None:
    Faulty.broken = {"COMMIT", "ROLLBACK"}
    bench.connect_fails = True
    for _ in range(3):
        with pytest.raises(StorageFailed):
            await bench.engine.run(bench.add("one"))
    Faulty.broken = set()
    bench.connect_fails = False
    assert await bench.engine.run(bench.add("two")) == "two"


async def test_a_request_whose_savepoint_cannot_be_taken_back_fails_the_batch(
    bench: Bench,
) -> None:
    def fail(transaction: Transaction) -> None:
        transaction.write("INSERT INTO word VALUES (?)", ("half",))
        Faulty.broken = {"ROLLBACK TO request"}
        raise ValueError("no")

    got = await outcomes(
        bench.engine.run(bench.add("one")), bench.engine.run(fail), bench.engine.run(seen)
    )
    assert isinstance(got[0], StorageFailed)
    assert isinstance(got[1], ValueError)
    assert got[2] == set()
    assert bench.stored() == set()


@contextmanager
def files_no_larger_than(limit_bytes: int) -> Iterator[None]:
    """Make every write beyond this offset fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_takes_no_more_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """A real I/O error in COMMIT: nothing of the batch is there, everything before it is."""
    path = tmp_path / "words.db"
    with database(path) as connection:
        connection.execute("CREATE TABLE word (word TEXT PRIMARY KEY) STRICT")
    engine = Engine(lambda: open_writer(path))
    bench_add = Bench.add

    def add(word: str) -> Callable[[Transaction], str]:
        return bench_add(None, word)  # type: ignore[arg-type]  # it needs no bench

    await engine.run(add("before"))
    written = path.with_name("words.db-wal").stat().st_size
    with files_no_larger_than(written + 100):
        got = await outcomes(*(engine.run(add(f"{n}" * 3000)) for n in range(3)))
        assert all(isinstance(one, StorageFailed) for one in got)
        assert await engine.run(seen) == {"before"}
    assert await engine.run(add("after")) == "after"
    await engine.close()
    with database(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert {word for (word,) in connection.execute("SELECT word FROM word")} == {
            "before",
            "after",
        }


async def test_a_full_database_fails_the_request_that_does_not_fit(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "words.db")
    await bench.engine.run(bench.add("before"))
    await bench.engine.run(lambda transaction: transaction.read("PRAGMA max_page_count = 4"))
    with pytest.raises(StorageFailed):
        await bench.engine.run(bench.add("x" * 50_000))
    await bench.engine.run(lambda transaction: transaction.read("PRAGMA max_page_count = 4000"))
    assert await bench.engine.run(bench.add("after")) == "after"
    assert bench.stored() == {"before", "after"}
    await bench.engine.close()


async def test_a_caller_who_goes_away_breaks_nothing_for_the_others(bench: Bench) -> None:
    """A device may disconnect at any moment; what has run is committed."""
    bench.go.clear()
    first = asyncio.ensure_future(bench.engine.run(bench.add("first")))
    gone = asyncio.ensure_future(bench.engine.run(bench.add("ran, and went")))
    await let_run()
    in_queue = asyncio.ensure_future(bench.engine.run(bench.add("never ran")))
    last = asyncio.ensure_future(bench.engine.run(bench.add("last")))
    await let_run()
    gone.cancel()
    in_queue.cancel()
    await let_run()
    bench.go.set()
    assert [await first, await last] == ["first", "last"]
    assert bench.stored() == {"first", "ran, and went", "last"}


async def test_closing_serves_who_waits_and_refuses_who_comes_later(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "words.db")
    bench.go.clear()
    waiting = [asyncio.ensure_future(bench.engine.run(bench.add(f"{n}"))) for n in range(5)]
    await let_run()
    queued = asyncio.ensure_future(bench.engine.run(bench.add("queued")))
    await let_run()
    closing = asyncio.ensure_future(bench.engine.close())
    await let_run()
    with pytest.raises(StorageFailed):
        await bench.engine.run(bench.add("too late"))
    bench.engine.post(bench.add("too late"))
    bench.go.set()
    await closing
    await asyncio.gather(*waiting, queued)
    assert bench.stored() == {*"01234", "queued"}
    assert not bench.engine.is_alive
    await bench.engine.close()


async def test_what_nobody_waits_for_is_written_soon_and_its_failure_dropped(
    bench: Bench,
) -> None:
    written: list[str] = []

    def note(transaction: Transaction) -> None:
        bench.add("posted")(transaction)
        transaction.after_commit = lambda: written.append("posted")

    bench.engine.post(note)
    bench.engine.post(bench.add("posted"))
    await bench.engine.run(bench.add("one"))
    assert bench.stored() == {"posted", "one"}
    assert written == ["posted"]
    assert bench.steps["committed"] == 1


async def test_after_commit_is_not_told_of_what_failed(bench: Bench) -> None:
    told: list[str] = []

    def work(transaction: Transaction) -> None:
        bench.add("one")(transaction)
        transaction.after_commit = lambda: told.append("one")

    Faulty.broken = {"COMMIT"}
    with pytest.raises(StorageFailed):
        await bench.engine.run(work)
    Faulty.broken = set()
    await bench.engine.run(bench.add("two"))
    assert told == []
    await bench.engine.run(work)
    assert told == ["one"]
