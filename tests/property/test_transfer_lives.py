"""Houses that random lives of devices left, moved to PostgreSQL and back: the same state, to the last row."""

import tempfile
from pathlib import Path
from typing import ClassVar

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from typing_extensions import override

from conformance.storage_twins import assert_twins_agree
from conformance.transfer_dumps import dump_postgres, dump_sqlite
from conformance.transfer_progress import Unheard
from database_file import database
from lives.twins import Lane
from ostiary.storage.postgres.storage import open_postgres
from ostiary.storage.sqlite.storage import open_sqlite
from ostiary.storage.transfer.move import move
from postgres_server import PostgresServer
from property.test_random_lives import Lives

SHORT_LIVES, LONG_LIVES = 15, 400


class MovedLives(Lives):
    """Lives whose house is moved at their end."""

    elsewhere: ClassVar[str]
    """A PostgreSQL database that nobody else uses."""
    server: ClassVar[PostgresServer]

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane)
        self._lane = lane

    @override
    def teardown(self) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="ostiary-moved-") as folder:
                self._lane.runner.run(self._move(Path(folder)))
        finally:
            super().teardown()

    async def _move(self, folder: Path) -> None:
        twins = self.twins
        twins._sqlite.enrollments._flush_seen()
        await twins._sqlite.check()  # the writer takes one after the other
        house, back = folder / "house.db", folder / "back.db"
        with database(twins.houses[1].path) as served:
            served.execute("VACUUM INTO ?", (str(house),))
        before = dump_sqlite(house)
        await self.server.empty(self.elsewhere)
        there = await move(
            f"sqlite:///{house}", self.elsewhere, clock=self._lane.clock, progress=Unheard()
        )
        assert await dump_postgres(self.elsewhere) == before
        async with open_postgres(self.elsewhere, clock=self._lane.clock) as storage:
            await assert_twins_agree(twins._memory, storage)
        home = await move(
            self.elsewhere, f"sqlite:///{back}", clock=self._lane.clock, progress=Unheard()
        )
        assert dump_sqlite(back) == before
        assert there.rows == home.rows
        async with open_sqlite(back, clock=self._lane.clock) as storage:
            await assert_twins_agree(twins._memory, storage)


def test_a_house_after_any_life_is_the_same_on_the_other_engine_and_back(
    postgres_server: PostgresServer, long_form: bool
) -> None:
    """design.md 4: one interface, two engines."""
    lives = LONG_LIVES if long_form else SHORT_LIVES
    with Lane(postgres_server) as lane:
        MovedLives.server = postgres_server
        MovedLives.elsewhere = lane.runner.run(postgres_server.lend_database())
        run_state_machine_as_test(
            lambda: MovedLives(lane),  # type: ignore[arg-type]  # it calls it and asks no more
            settings=settings(settings.default, max_examples=lives, stateful_step_count=40),
        )
        lane.runner.run(postgres_server.take_back(MovedLives.elsewhere))
