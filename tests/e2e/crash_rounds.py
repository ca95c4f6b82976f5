"""What the crash loops of both engines share: which rounds to play, the process that plays them, and the reckoning."""

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from e2e import crash_checkin
from e2e.crash_acts import ACT_BY_NAME, ACTS, Act, World, observe
from e2e.crash_checkin import COMMIT_STEPS, DISK_FAULTS, NOT_PLAYED, Round
from ostiary.errors import Unavailable
from scenes.house import House

SHARED_STEPS = (*COMMIT_STEPS, *DISK_FAULTS)
"""Which a batch passes once, however many are in it."""
MOST_REFUSALS = 5
"""On a machine so busy that the database gave a connection up."""
AT_ONCE = 3
"""Devices that speak at once, so that a batch is torn with several in it."""
LOOKED_AT_AFTER = 11
"""Rounds that die one after another on one database before it is looked at: recovery upon recovery."""


class NotPlayed(Exception):
    """The machine was too busy for this round to begin."""


class Zygote:
    """The process that forks the servers."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def play(self, crash: Round) -> tuple[set[str], int]:
        """Who was acknowledged in this round, and the signal that ended it (0: it came to its end). Raises NotPlayed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(crash.encode() + "\n")
        self._process.stdin.flush()
        acknowledged: set[str] = set()
        for line in self._process.stdout:
            word, rest = line.split()
            if word == "end":
                status = int(rest)
                if os.WIFEXITED(status) and os.WEXITSTATUS(status) == NOT_PLAYED:
                    raise NotPlayed
                assert os.WIFSIGNALED(status) or status == 0, (
                    "the child failed before it was killed"
                )
                return acknowledged, os.WTERMSIG(status)
            acknowledged.add(rest)
        raise AssertionError("the process that forks is gone")


@contextmanager
def zygote(database_url: str) -> Iterator[Zygote]:
    tests = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, crash_checkin.__file__, database_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])},
    )
    try:
        yield Zygote(process)
    finally:
        process.communicate()


def plan(
    rounds: int, steps: tuple[str, ...], *, at_once: int = AT_ONCE, shares_commits: bool = False
) -> Iterator[Round]:
    """Every act at every step, among others, again and again with new companions."""
    chance = random.Random(5)
    places = [
        (act.name, step) for act in ACTS for step in steps if step != "sealed" or act.message.seals
    ]
    chance.shuffle(places)
    for number, (act, step) in enumerate(itertools.islice(itertools.cycle(places), rounds)):
        companions = chance.choices([other.name for other in ACTS], k=at_once - 1)
        acts = chance.sample([act, *companions], k=at_once)
        passing = sum(_seals(one) for one in acts) if step == "sealed" else at_once
        yield Round(
            number=number,
            acts=tuple(acts),
            step=step,
            occurrence=1 if shares_commits and step in SHARED_STEPS else chance.randint(1, passing),
        )


def _seals(act: str) -> bool:
    return ACT_BY_NAME[act].message.seals


async def check(house: House, crash: Round, acknowledged: set[str]) -> None:
    """Each device is before or after its message, after it if it was told so; and it repeats itself unharmed."""
    for place, act_name in enumerate(crash.acts):
        act, name = ACT_BY_NAME[act_name], crash.name(place)
        said = f"{crash}: {name}"
        found = await observe(house, name)
        if name in acknowledged:
            assert found == act.after, f"{said} was acknowledged"
        else:
            assert found in (act.before, act.after), f"{said} is half done"
        expected = await repeat(act, house, name)
        assert await observe(house, name) == expected, f"{said} repeated its message"


async def repeat(act: Act, house: House, name: str) -> World:
    """Let the device say it again until it is served, as devices do; the world to expect then."""
    for _ in range(MOST_REFUSALS):
        expected = act.after_a_repeat(await observe(house, name))
        with suppress(Unavailable):
            await act.message.send(act.device(house, name))
            return expected
    raise AssertionError(f"{name} is refused for ever")
