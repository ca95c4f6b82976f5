"""SIGKILL at every named step of TokenUpdate and SetBootstrapToken: every acknowledged token is there, no half state."""

import itertools
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from e2e import crash_checkin
from e2e.crash_acts import ACT_BY_NAME, ACTS, observe
from e2e.crash_checkin import STEPS, Round, open_house
from ostiary.ports.trace import no_trace

SHORT_ROUNDS, LONG_ROUNDS = 330, 5_000
AT_ONCE = 3
"""Devices that speak at once, so that a batch is torn with several in it."""
OPENED_AFTER = 11
"""Rounds that die one after another on one file before it is looked at: recovery upon recovery."""


class Zygote:
    """The process that forks the servers."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def play(self, crash: Round) -> tuple[set[str], int]:
        """Who was acknowledged in this round, and the signal that ended it (0: it came to its end)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(crash.encode() + "\n")
        self._process.stdin.flush()
        acknowledged: set[str] = set()
        for line in self._process.stdout:
            word, rest = line.split()
            if word == "end":
                status = int(rest)
                assert os.WIFSIGNALED(status) or status == 0, (
                    "the child failed before it was killed"
                )
                return acknowledged, os.WTERMSIG(status)
            acknowledged.add(rest)
        raise AssertionError("the process that forks is gone")


@contextmanager
def zygote(path: Path) -> Iterator[Zygote]:
    tests = Path(__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, crash_checkin.__file__, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])},
    )
    try:
        yield Zygote(process)
    finally:
        process.communicate()


def plan(rounds: int) -> Iterator[Round]:
    """Every act at every step, alone and among others, again and again with new companions."""
    chance = random.Random(5)
    places = itertools.cycle([(act.name, step) for act in ACTS for step in STEPS])
    for number, (act, step) in enumerate(itertools.islice(places, rounds)):
        companions = chance.choices([other.name for other in ACTS], k=AT_ONCE - 1)
        acts = chance.sample([act, *companions], k=AT_ONCE)
        once = step in ("committing", "committed", crash_checkin.DURING_COMMIT)
        yield Round(
            number=number,
            acts=tuple(acts),
            step=step,
            occurrence=1 if once else chance.randint(1, AT_ONCE),
        )


async def check(path: Path, crash: Round, acknowledged: set[str]) -> None:
    """Each device is before or after its message, after it if it was told so; and it repeats itself unharmed."""
    house = await open_house(path, no_trace)
    try:
        for place, act_name in enumerate(crash.acts):
            act, name = ACT_BY_NAME[act_name], crash.name(place)
            said = f"{crash}: {name}"
            found = await observe(house, name)
            if name in acknowledged:
                assert found == act.after, f"{said} was acknowledged"
            else:
                assert found in (act.before, act.after), f"{said} is half done"
            await act.message.send(act.device(house, name))
            again = 1 if act.message.is_update and found == act.after else 0
            expected = replace(act.after, token_updates=act.after.token_updates + again)
            assert await observe(house, name) == expected, f"{said} repeated its message"
    finally:
        await house.storage.close()


@pytest.mark.case("CI-03", "ST-05")
async def test_whatever_was_acknowledged_survives_a_kill_at_any_step_and_nothing_is_half_done(
    tmp_path: Path, long_form: bool
) -> None:
    """CI-03, ST-05, TU-5, TU-7: all or nothing, on disk before the answer, and a repeat adds no generation."""
    path = tmp_path / "ostiary.db"
    house = await open_house(path, no_trace)
    await house.hold_topic()
    await house.storage.close()
    ended: Counter[int] = Counter()
    dead: list[tuple[Round, set[str]]] = []
    with zygote(path) as mother:
        for crash in plan(LONG_ROUNDS if long_form else SHORT_ROUNDS):
            acknowledged, by = mother.play(crash)
            ended[by] += 1
            dead.append((crash, acknowledged))
            if len(dead) == OPENED_AFTER:
                for told in dead:
                    await check(path, *told)
                dead.clear()
    for told in dead:
        await check(path, *told)
    assert ended[signal.SIGKILL] > sum(ended.values()) * 0.9, "hardly anything was killed"
