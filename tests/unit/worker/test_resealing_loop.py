"""The loop that seals old values anew: on one node at a time, whatever happens, until it is told to stop."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from ostiary.errors import Unavailable
from ostiary.worker.resealing_loop import run_resealing_loop


@dataclass
class Resealing:
    """A service that remembers what it was asked, and ends the loop after so many turns."""

    stop: asyncio.Event
    turns: int
    has_turn: bool = True
    fails: bool = False
    asked: list[str] = field(default_factory=list)

    async def take_turn(self) -> bool:
        self.turns -= 1
        if self.turns < 0:
            self.stop.set()
            await asyncio.Event().wait()
        self.asked.append("turn")
        return self.has_turn

    async def run_round(self) -> bool:
        self.asked.append("round")
        if self.fails:
            raise Unavailable
        return len(self.asked) > 2


async def played(turns: int, *, has_turn: bool = True, fails: bool = False) -> list[str]:
    """What the loop asks for in so many turns."""
    stop = asyncio.Event()
    service = Resealing(stop=stop, turns=turns, has_turn=has_turn, fails=fails)
    await asyncio.wait_for(run_resealing_loop(service, stop, every=timedelta(0)), timeout=60)
    return service.asked


async def test_a_round_follows_each_turn() -> None:
    assert await played(2) == ["turn", "round"] * 2


async def test_another_node_has_the_turn() -> None:
    assert await played(2, has_turn=False) == ["turn"] * 2


async def test_a_round_that_fails_does_not_end_the_loop() -> None:
    assert await played(3, fails=True) == ["turn", "round"] * 3
