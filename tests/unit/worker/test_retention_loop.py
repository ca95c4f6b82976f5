"""The loop that forgets: one node at a time, whatever happens, until it is told to stop."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from ostiary.errors import Unavailable
from ostiary.worker.retention_loop import RetentionRhythm, run_retention_loop

AT_ONCE = timedelta(0)


@dataclass(frozen=True)
class Done:
    is_done: bool


@dataclass
class Forgetful:
    """A service that remembers what it was asked, and ends the loop after so many turns."""

    stop: asyncio.Event
    turns: int
    has_turn: bool = True
    fails: bool = False
    left: int = 0
    """Sweeps that do not come to an end."""
    asked: list[str] = field(default_factory=list)

    async def take_turn(self) -> bool:
        self.turns -= 1
        if self.turns < 0:
            self.stop.set()
            await asyncio.Event().wait()
        self.asked.append("turn")
        return self.has_turn

    async def tend(self) -> Done:
        self.asked.append("tend")
        if self.fails:
            raise Unavailable
        return Done(is_done=True)

    async def sweep(self) -> Done:
        self.asked.append("sweep")
        self.left -= 1
        return Done(is_done=self.left < 0)


async def played(turns: int, **facts: bool | int) -> list[str]:
    """What the loop asks for in so many turns."""
    stop = asyncio.Event()
    service = Forgetful(stop=stop, turns=turns, **facts)  # type: ignore[arg-type]  # by their names
    rhythm = RetentionRhythm(tend_every=AT_ONCE, sweep_each=3)
    await asyncio.wait_for(run_retention_loop(service, stop, rhythm), timeout=60)
    return service.asked


async def test_it_tends_each_time_and_sweeps_now_and_then() -> None:
    asked = await played(8)
    assert [word for word in asked if word != "turn"] == [
        "tend", "sweep", "tend", "tend", "tend", "tend", "sweep", "tend", "tend", "tend",
    ]  # fmt: skip


async def test_what_a_sweep_left_is_swept_the_next_time() -> None:
    asked = await played(4, left=2)
    assert [word for word in asked if word != "turn"] == ["tend", "sweep"] * 3 + ["tend"]


async def test_a_node_without_the_turn_does_nothing() -> None:
    assert await played(5, has_turn=False) == ["turn"] * 5


async def test_it_outlives_a_database_that_is_away() -> None:
    """design.md 4: a worker comes back by itself."""
    assert await played(3, fails=True) == ["turn", "tend"] * 3
