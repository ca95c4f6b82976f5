"""Random lives of single devices and their secrets: what the server believes, compared with what the device holds.

    python -m lives.escrow_lives --lives 10000 --seed 1     from tests/, in the project's environment
    python -m lives.escrow_lives --life 4711 --acts         one life again, act by act

A life is told by its number alone.
"""

import argparse
import asyncio
import contextlib
import io
import logging
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric import rsa

from lives.escrow_acts import ACTS, FIRST_ACTS
from lives.escrow_cast import Cast, Do
from lives.escrow_operators import believes, works
from lives.escrow_people import calms_down, comes, types_pin
from lives.escrow_station import (
    IN_MEMORY,
    Line,
    Station,
    Template,
    make_template,
    open_station,
    shared_keys,
)
from lives.escrow_troubles import starts_again
from lives.escrow_truth import Oracle, SecretLost, envelopes_noted, is_believed
from ostiary.domain.escrow import EscrowState
from ostiary.domain.token import DEFAULT_TENANT, Holder
from ostiary.errors import OstiaryError
from ostiary_sim.device import Device
from ostiary_sim.errors import SimulationFailed
from ostiary_sim.events import Event
from ostiary_sim.personality import PERSONALITIES
from ostiary_sim.retry import RetryPolicy

KINDS: Final = ("mac", "mac", "mac", "mac-intel", "mac-intel", "mac-10.15", "iphone")
FEWEST_ACTS, MOST_ACTS = 15, 45
PEACEFUL_WEEKS: Final = 4
POLLS_A_WEEK: Final = 4
AT_REST: Final = (EscrowState.SETTLED, EscrowState.UNCERTAIN)


class LifeFailed(AssertionError):
    """A life in which a secret was lost, told so that it can be played again."""


@dataclass
class Tally:
    """What happened in many lives, so that nobody believes in lives in which nothing happened."""

    acts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    deaths: int = 0
    lives: int = 0


class Stage:
    """What all lives share. Use `staged`."""

    def __init__(self, template: Template, folder: Path, envelopes: dict[bytes, bytes]) -> None:
        self._template = template
        self._folder = folder
        self._envelopes = envelopes
        self.tally = Tally()

    async def play(self, number: int, *, tell: bool = False) -> None:
        """One life, from enrollment on.

        Raises:
            LifeFailed
        """
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        self._envelopes.clear()
        try:
            async with open_station(self._template, folder) as station:
                life = _Life(
                    station,
                    self._template,
                    number,
                    Oracle(self._envelopes, self.tally.compared),
                    self.tally,
                )
                await life.play(tell=tell)
        finally:
            shutil.rmtree(folder)


class _Life:
    def __init__(
        self, station: Station, template: Template, number: int, oracle: Oracle, tally: Tally
    ) -> None:
        self._station = station
        self._number = number
        self._oracle = oracle
        self._tally = tally
        self._choose = random.Random(number)
        keys = template.device_keys

        def new_key(bits: int) -> rsa.RSAPrivateKey:
            assert bits <= 2048
            return self._choose.choice(keys)

        kind = self._choose.choice(KINDS)
        device = Device(
            PERSONALITIES[kind],
            http=Line(station),
            clock=station.clock.now,
            listener=self._hear,
            seed=number,
            sleeper=_at_once,
            retry=RetryPolicy(attempts=2),
            new_key=new_key,
            awaiting=kind != "iphone" and self._choose.random() < 0.5,
        )
        self._cast = Cast(station, device, None, self._choose)
        self._told = [f"a {kind}"]

    async def play(self, *, tell: bool) -> None:
        try:
            await self._begin()
            acts = [act for act in ACTS if self._cast.is_mac or not act.mac]
            weights = [act.weight for act in acts]
            for _ in range(self._choose.randint(FEWEST_ACTS, MOST_ACTS)):
                (act,) = self._choose.choices(acts, weights)
                await self._act(act.name, act.do)
                if tell:
                    say(f"{len(self._told):3} {self._told[-1]}")
            await self._end()
        except SecretLost as lost:
            raise LifeFailed(self._whole_story(str(lost))) from lost
        except Exception as fault:
            raise LifeFailed(self._whole_story(f"{type(fault).__name__}: {fault}")) from fault
        self._tally.lives += 1
        self._tally.deaths += self._station.deaths

    def _whole_story(self, end: str) -> str:
        acts = "\n".join(f"  {line}" for line in self._told)
        again = f"Again: python -m lives.escrow_lives --life {self._number}"
        return f"life {self._number}: {end}\n{acts}\n{again}"

    def _hear(self, event: Event) -> None:
        self._oracle.watch(self._cast.device, event)

    async def _begin(self) -> None:
        """Most lives begin with a device that holds secrets already; what is worth testing comes after."""
        for act in FIRST_ACTS:
            if (self._cast.is_mac or not act.mac) and self._choose.random() < act.weight / 10:
                await self._act(act.name, act.do)

    async def _end(self) -> None:
        """Weeks in which nothing goes wrong any more: nothing is left hanging, and everything can be shown."""
        self._station.trouble.failures, self._station.trouble.dies_at = 0, None
        self._station.loses_answers = 0
        await self._act("calms down", calms_down)
        if self._cast.double is None:
            await self._act("the contest is settled", believes)
        for _ in range(PEACEFUL_WEEKS):
            self._station.clock.advance(days=8)
            await self._act("the worker works", works)
            await self._act("somebody types the PIN", types_pin)
            await self._act("the device restarts and is asked", starts_again)
            for _ in range(POLLS_A_WEEK):
                await self._act("the device comes", comes)
                # What it was told may have been to lock itself.
                await self._act("somebody types the PIN", types_pin)
        house, device = await self._station.house(), self._cast.device
        await self._oracle.reveal(house, device)
        if self._cast.double is not None or not await is_believed(house, device):
            return  # what waits for one that does not come any more, or whose word does not count, waits
        for escrow in await house.storage.escrows.find(DEFAULT_TENANT, Holder(device.udid)):
            if escrow.state not in AT_REST:
                raise SecretLost(f"{escrow.kind}: still {escrow.state} ({escrow.trouble})")

    async def _act(self, name: str, do: Do) -> None:
        self._station.clock.advance(seconds=1)
        try:
            came = await do(self._cast)
            said = f"{name}" if came is None else f"{name}: {came}"
        except (OstiaryError, SimulationFailed) as refusal:
            said = f"{name}: refused, {type(refusal).__name__}: {refusal}"
            self._tally.refused[f"{name}: {type(refusal).__name__}"] += 1
        self._told.append(f"{said} ({self._station.clock.now():%d %H:%M:%S})")
        self._tally.acts[name] += 1
        await self._compare()

    async def _compare(self) -> None:
        """After every act. The disk and the line hold for as long as the oracle looks."""
        trouble, station = self._station.trouble, self._station
        kept = trouble.failures, trouble.dies_at
        trouble.failures, trouble.dies_at = 0, None
        house = await station.house()
        for message, status in station.heard:
            self._oracle.hear(message, status)
            what = message.get("MessageType") or message.get("Status")
            self._tally.answers[f"{status} {what}"] += 1
            assert status != HTTPStatus.INTERNAL_SERVER_ERROR, f"a bug, on {what}"
        station.heard.clear()
        cast = self._cast
        for one in (cast.device, cast.double):
            if one is not None:
                await self._oracle.check(
                    house, one, station.clock.now(), is_double=cast.double is not None
                )
        trouble.failures, trouble.dies_at = kept


async def _at_once(_seconds: float) -> None:
    """Wait for nothing, but let others run."""
    await asyncio.sleep(0)


@contextmanager
def staged() -> Iterator[Stage]:
    """All that lives need, made once; quiet."""
    parent = IN_MEMORY if IN_MEMORY.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="ostiary-escrow-lives-", dir=parent))
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            template = make_template(folder)
        structlog.configure(wrapper_class=quiet)
        with shared_keys(template), envelopes_noted() as envelopes:
            yield Stage(template, folder, envelopes)
    finally:
        structlog.reset_defaults()
        shutil.rmtree(folder)


def main(arguments: list[str]) -> int:
    """Play lives and show progress; the exit code says whether every secret was kept."""
    parser = argparse.ArgumentParser(prog="lives.escrow_lives", description=__doc__)
    parser.add_argument("--lives", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first life")
    parser.add_argument("--life", type=int, help="this one life, again, act by act")
    parser.add_argument("--go-on", action="store_true", help="report lives that fail, and go on")
    asked = parser.parse_args(arguments)
    numbers = (
        [asked.life] if asked.life is not None else range(asked.seed, asked.seed + asked.lives)
    )
    failed, began = 0, time.monotonic()
    with staged() as stage, asyncio.Runner() as runner:
        for done, number in enumerate(numbers, 1):
            try:
                runner.run(stage.play(number, tell=asked.life is not None))
            except LifeFailed as failure:
                say(str(failure))
                failed += 1
                if not asked.go_on:
                    break
            if done % 100 == 0:
                seconds = time.monotonic() - began
                say(f"{done} lives, {failed} failed, {seconds:.0f} s")
        tell(stage.tally)
    return 1 if failed else 0


def tell(tally: Tally) -> None:
    """Print what happened."""
    say(f"{tally.lives} lives, {tally.deaths} deaths and restarts of the server")
    for title, counted in (
        ("compared", tally.compared),
        ("answers", tally.answers),
        ("acts", tally.acts),
        ("refused", tally.refused),
    ):
        told = ", ".join(f"{name}: {number}" for name, number in counted.most_common())
        say(f"{title}: {told}")


def say(line: str) -> None:
    """Tell whoever watches, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
