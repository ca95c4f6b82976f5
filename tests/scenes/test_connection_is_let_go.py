"""Whatever a request did, no statement of it is open when it is done: the connection is the commit thread's then."""

from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

import apsw
import pytest

from ostiary.storage.sqlite import storage
from ostiary.storage.sqlite.connection import open_writer
from ostiary.storage.sqlite.engine import AnswerT, Engine, Work
from scenes.house import IPHONE
from scenes.test_cost_at_size import ACTS, house_at


class Watched(apsw.Cursor):
    """A cursor that is remembered for as long as somebody holds it."""

    held: ClassVar[WeakSet["Watched"]] = WeakSet()

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self.held.add(self)

    @property
    def is_open(self) -> bool:
        """Whether a statement of it has still to be reset, which uses the connection."""
        try:
            return self.is_readonly is not None
        except apsw.Error:
            return False


async def test_no_statement_is_open_once_the_work_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hot-path.md: nobody touches the connection before the thread is done with it; closing a cursor does."""

    def opened(path: Path) -> apsw.Connection:
        connection = open_writer(path)
        connection.cursor_factory = Watched
        return connection

    left: list[object] = []
    perform = Engine._perform

    def performed(engine: Engine, work: Work[AnswerT]) -> AnswerT:
        try:
            return perform(engine, work)
        finally:
            seen.append(work)
            if any(cursor.is_open for cursor in Watched.held):
                left.append(work)

    seen: list[object] = []
    monkeypatch.setattr(storage, "open_writer", opened)
    monkeypatch.setattr(Engine, "_perform", performed)
    async with house_at(tmp_path / "house.db") as house:
        device = await house.enrolled(IPHONE, udid="00000000-ONE", serial="C02ONE")
        for act in ACTS:
            house.clock.advance(hours=1)
            await act(house, device)
        assert len(seen) > len(ACTS)
        assert not left
        engine = house.storage.enrollments._engine  # type: ignore[attr-defined]  # this storage is SQLite's
        assert await engine.run(lambda transaction: transaction.read("SELECT 1"))
        assert left, "one that does leave a statement open is found"
