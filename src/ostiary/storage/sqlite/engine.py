"""The writer: requests run on the event loop, each in its savepoint, and many share one commit.

A statement takes less time than a thread hop, so statements run on the loop; only COMMIT, which waits for
the disk, runs in a thread. Requests that arrive meanwhile wait in a queue and make the next batch; nobody
touches the connection before the thread is done with it. (hot-path.md)
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

import apsw

from ostiary.ports.storage import StorageBusy, StorageFailed
from ostiary.ports.trace import Trace, no_trace
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.sqlite.commit_thread import CommitThread
from ostiary.storage.sqlite.readers import DAMAGED_TEXT, Read

AnswerT = TypeVar("AnswerT")

BEGIN: Final = "BEGIN IMMEDIATE"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"
SAVEPOINT: Final = "SAVEPOINT request"
RELEASE: Final = "RELEASE request"
UNDO: Final = "ROLLBACK TO request"
LONGEST_GATHERING: Final = 0.002
"""Seconds that a batch waits for those who came along with the one before it. A commit costs as much processor time as
a request, however many share it. (bench/README.md)"""


class Transaction:
    """One request's use of the write connection. Its savepoint opens with its first write."""

    __slots__ = ("_connection", "after_commit", "is_writing", "read")

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.read: Read = connection.execute
        """Run a statement that only reads. Its rows are read to the end, or let go of, before the work is done: after that
        the connection belongs to the commit thread."""
        self.is_writing = False
        self.after_commit: Callable[[], object] | None = None
        """Called once what this request wrote is on disk."""

    def write(self, statement: str, parameters: tuple[Any, ...]) -> int:
        """Run a statement that writes; how many rows it changed."""
        if not self.is_writing:
            self.open_savepoint()
        self._connection.execute(statement, parameters)
        return self._connection.changes()

    def write_each(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> int:
        """Run a statement that writes once for each of these; how many rows all together changed."""
        changed = 0
        for row in rows:
            changed += self.write(statement, row)
        return changed

    def open_savepoint(self) -> None:
        """From here on, all or nothing."""
        if not self._connection.in_transaction:
            self._connection.execute(BEGIN)
        self._connection.execute(SAVEPOINT)
        self.is_writing = True

    def release(self) -> None:
        """Hand what was written over to the batch."""
        self._connection.execute(RELEASE)

    def undo(self) -> None:
        """Take back what this request wrote, and nothing else; a no-op if SQLite undid the whole batch itself."""
        if self.is_writing and self._connection.in_transaction:
            self._connection.execute(UNDO)
            self._connection.execute(RELEASE)


Work = Callable[[Transaction], AnswerT]


class _Waiting(Generic[AnswerT]):
    """A request in the queue. Without a future, nobody asks what becomes of it."""

    __slots__ = ("future", "work")

    def __init__(self, work: Work[AnswerT], future: asyncio.Future[AnswerT] | None) -> None:
        self.work = work
        self.future = future


class Engine:
    """One write connection, shared by every request of the process."""

    def __init__(
        self,
        connect: Callable[[], apsw.Connection],
        *,
        trace: Trace = no_trace,
        longest_queue: int = 2048,
        largest_batch: int = 256,
        inspect: Callable[[apsw.Connection], None] = lambda _: None,
    ) -> None:
        self._inspect = inspect
        """Called in the commit thread after each COMMIT: what it raises, everybody in the batch is told."""
        self._connect = connect
        self._connection: apsw.Connection | None = connect()
        self._trace = trace
        self._longest_queue = longest_queue
        self._largest_batch = largest_batch
        self._thread = CommitThread()
        self._queue: deque[_Waiting[Any]] = deque()
        self._unwritten: list[tuple[asyncio.Future[Any], object, Exception | None]] = []
        """Who waits for the commit of the open transaction, and the answer or refusal for each."""
        self._after_commit: list[Callable[[], object]] = []
        self._is_dirty = False
        """Whether the open transaction holds what some request wrote."""
        self._commit_is_due = False
        self._waits_until: asyncio.TimerHandle | None = None
        self._expected = 1
        """How many are at work at once, as far as the last commit showed: those in it, and those who came meanwhile."""
        self._is_committing = False
        self._is_closed = False
        self.before_close: Callable[[Transaction], None] | None = None
        """What else is to be written before the file is closed."""

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive and not self._is_closed

    async def run(self, work: Work[AnswerT]) -> AnswerT:
        """Do the work on fresh state; its answer, or what it raised, once everything that it wrote or saw is on disk.

        A caller who goes away while waiting changes nothing for the others: work that has run is committed.

        Raises:
            StorageBusy: too many requests wait already.
            StorageFailed: the database did not take it.
        """
        if self._is_closed:
            raise StorageFailed("the database is closed")
        if len(self._queue) >= self._longest_queue:
            raise StorageBusy(waiting=len(self._queue))
        return await self._submit(work)

    def post(self, work: Work[object]) -> None:
        """Do the work soon; nobody waits for it, and what it raises is dropped."""
        if self._is_closed:
            return
        self._queue.append(_Waiting(work, None))
        if not self._is_committing and not self._commit_is_due:
            asyncio.get_running_loop().call_soon(self._run_queue)

    async def close(self) -> None:
        """Commit what is under way, take nothing new, and close the file."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._submit(self._write_remains)
        finally:
            await self._stop()

    def _write_remains(self, transaction: Transaction) -> None:
        """The last request: everything queued before it has run by now."""
        if self.before_close is not None:
            self.before_close(transaction)

    async def _stop(self) -> None:
        loop = asyncio.get_running_loop()
        closed: asyncio.Future[None] = loop.create_future()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._thread.start(connection.close, loop, lambda _: closed.set_result(None))
            await closed
        self._thread.stop()

    async def _submit(self, work: Work[AnswerT]) -> AnswerT:
        loop = asyncio.get_running_loop()
        covered: asyncio.Future[AnswerT] = loop.create_future()
        if self._is_committing or self._queue or len(self._unwritten) >= self._largest_batch:
            self._queue.append(_Waiting(work, covered))
            return await covered
        try:
            answer = self._perform(work)
        except Exception as error:
            if not self._is_dirty:
                raise
            self._unwritten.append((covered, None, error))
        else:
            if not self._is_dirty:
                return answer
            self._unwritten.append((covered, answer, None))
        self._commit_soon(loop)
        return await covered

    def _commit_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Plan the commit: once everybody who is expected has come, or none of them came in time.

        Whoever works alone waits for nobody but those who are ready in the same turn of the loop.
        """
        if self._waits_until is not None and len(self._unwritten) >= self._expected:
            self._waits_until.cancel()
            self._waits_until = None
            loop.call_soon(self._start_commit)
        elif self._commit_is_due:
            return
        elif len(self._unwritten) >= self._expected:
            loop.call_soon(self._start_commit)
        else:
            self._waits_until = loop.call_later(LONGEST_GATHERING, self._start_commit)
        self._commit_is_due = True

    def _perform(self, work: Work[AnswerT]) -> AnswerT:
        """Run one request in a savepoint of its own."""
        transaction = Transaction(self._connection or self._reopen())
        try:
            answer = work(transaction)
            if transaction.is_writing:
                transaction.release()
                self._is_dirty = True
                self._trace("released")
        except apsw.Error as error:
            self._undo(transaction)
            raise _explained(error) from error
        except UnicodeDecodeError:
            self._undo(transaction)
            raise StorageFailed(DAMAGED_TEXT) from None  # its own words show the text
        except BaseException:
            self._undo(transaction)
            raise
        if transaction.after_commit is not None:
            self._after_commit.append(transaction.after_commit)
        return answer

    def _undo(self, transaction: Transaction) -> None:
        try:
            transaction.undo()
        except apsw.Error as error:
            self._fail_batch(error)
            return
        if not self._is_dirty:
            self._recover()
        elif self._connection is None or not self._connection.in_transaction:
            # A full disk or an I/O error makes SQLite take back the whole transaction, the others' work included.
            self._fail_batch(None)

    def _start_commit(self) -> None:
        self._commit_is_due = False
        self._waits_until = None
        if self._is_committing or not self._is_dirty:
            self._run_queue()
            return
        self._is_committing = True
        self._thread.start(self._commit, asyncio.get_running_loop(), self._finish_commit)

    def _commit(self) -> None:
        """In the commit thread; nobody else uses the connection until `_finish_commit`."""
        self._trace("committing")
        if self._connection is not None:
            self._connection.execute(COMMIT)
            self._inspect(self._connection)

    def _finish_commit(self, error: BaseException | None) -> None:
        self._is_committing = False
        if error is not None:
            self._fail_batch(error)
        else:
            self._is_dirty = False
            self._trace("committed")
            covered, self._unwritten = self._unwritten, []
            self._expected = len(covered)
            told, self._after_commit = self._after_commit, []
            for future, answer, refusal in covered:
                _settle(future, answer, refusal)
            for tell in told:
                tell()
        self._run_queue()

    def _run_queue(self) -> None:
        """Run what waited, as far as one batch goes, and commit it."""
        if self._is_committing or self._commit_is_due:
            return
        loop = asyncio.get_running_loop()
        for _ in range(min(len(self._queue), self._largest_batch)):
            self._run_waiting(self._queue.popleft())
        if self._is_dirty:
            self._expected = min(self._expected + len(self._unwritten), self._largest_batch)
            self._commit_soon(loop)
        elif self._queue:
            loop.call_soon(self._run_queue)

    def _run_waiting(self, waiting: _Waiting[Any]) -> None:
        future = waiting.future
        if future is not None and future.done():
            return
        answer: object = None
        refusal: Exception | None = None
        try:
            answer = self._perform(waiting.work)
        except Exception as error:  # noqa: BLE001 - it belongs to the one who asked, and only to them
            refusal = error
        if future is None:
            return
        if self._is_dirty:
            self._unwritten.append((future, answer, refusal))
        else:
            _settle(future, answer, refusal)

    def _fail_batch(self, error: BaseException | None) -> None:
        """Nothing of the open transaction is stored: say so to everybody in it, and make the connection usable."""
        failed, self._unwritten = self._unwritten, []
        self._after_commit = []
        self._is_dirty = False
        self._recover()
        for future, *_ in failed:
            failure = StorageFailed()
            failure.__cause__ = error
            _settle(future, None, failure)

    def _recover(self) -> None:
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute(ROLLBACK)
        except apsw.Error:
            self._abandon()

    def _abandon(self) -> None:
        """Give the connection up; the next request opens another."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                connection.close()
        except apsw.Error:
            # It holds no lock that outlives the process, and there is nothing left to tell it.
            return

    def _reopen(self) -> apsw.Connection:
        try:
            self._connection = self._connect()
        except apsw.Error as error:
            raise StorageFailed from error
        return self._connection


def _settle(future: asyncio.Future[Any], answer: object, refusal: Exception | None) -> None:
    if future.done():  # its caller has gone away
        return
    if refusal is None:
        future.set_result(answer)
    else:
        future.set_exception(refusal)


def _explained(error: apsw.Error) -> ChangeDoesNotFit | StorageFailed:
    """Constraints are about the change, everything else about the database."""
    if isinstance(error, apsw.ConstraintError):
        return ChangeDoesNotFit(str(error))
    return StorageFailed()
