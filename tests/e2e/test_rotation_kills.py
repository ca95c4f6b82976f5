"""Keys are rotated, and the process is killed: at every restart all values open, and the work goes on from where it was.

Real processes, real SIGKILL, SQLite and PostgreSQL. Source: escrowed-secrets.md 4.0.2 rule 3, ST-03; users.md, "keys
can be rotated while running, interrupted at any point, and continued".
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.storage_values import NOON, MovedClock
from e2e import crash_rotation
from e2e.crash_rotation import BETWEEN_LIVES, NOT_PLAYED, Order, opened
from ostiary import house as house_wiring
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.keys.file import create_root_key
from ostiary.keys.root_file import RootKeyFile
from ostiary.ports.storage import EpochRow
from ostiary.services.resealing import Standing
from ostiary.storage.opening import open_storage
from sealed_world import Place, fill, rows
from sealed_world import opened as values_in_clear

DEATHS = {-signal.SIGKILL, -signal.SIGALRM}
DEVICES = 4
MOST_INSTANTS = 500
MOST_REFUSALS = 20


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/ostiary.db"


class Victim:
    """A process that forks a child for each order and says what the child acknowledged."""

    def __init__(self) -> None:
        tests = Path(__file__).parents[1]
        self._process = subprocess.Popen(
            [sys.executable, crash_rotation.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])},
        )

    def obey(self, order: Order) -> tuple[dict[str, str], int]:
        """What the child said, and its exit code; again, if the machine was too busy for it."""
        for _ in range(MOST_REFUSALS):
            said, code = self._obey(order)
            if code != NOT_PLAYED:
                return said, code
        raise AssertionError("the database takes nothing")

    def _obey(self, order: Order) -> tuple[dict[str, str], int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order.encode() + "\n")
        self._process.stdin.flush()
        said: dict[str, str] = {}
        for line in self._process.stdout:
            word, rest = line.split()
            if word == "died":
                assert int(rest) in (*DEATHS, 0, NOT_PLAYED), order
                return said, int(rest)
            said[word] = rest
        raise AssertionError("the victim's parent died")

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def victim() -> Iterator[Victim]:
    made = Victim()
    yield made
    made.close()


class Installation:
    """A database and its keys, opened between the lives that are lost on them."""

    def __init__(self, database_url: str, root_key: Path) -> None:
        self.url, self.root_key = database_url, root_key
        self.number = 0
        self.clear: dict[Place, bytes] = {}

    async def begin(self) -> None:
        create_root_key(self.root_key)
        storage = open_storage(self.url, MovedClock())
        sealer, _ = await house_wiring._open_keys(RootKeyFile(self.root_key), storage, MovedClock())
        self.clear = await fill(storage, sealer, devices=DEVICES)
        await storage.close()

    def order(self, **how: int | bool) -> Order:
        self.number += 1
        return Order(database_url=self.url, root_key=str(self.root_key), number=self.number, **how)  # type: ignore[arg-type]  # when to die

    async def look(self) -> tuple[int, set[Place], Standing]:
        """As a start finds it: the newest epoch, what is sealed under it, how far it is. All values open."""
        clock = MovedClock(NOON + self.number * BETWEEN_LIVES)
        storage = open_storage(self.url, clock)
        try:
            sealer, _ = await house_wiring._open_keys(RootKeyFile(self.root_key), storage, clock)
            assert await values_in_clear(storage.sealed_values, sealer) == self.clear
            newest = sealer.newest_epoch(DEFAULT_TENANT)
            found = await rows(storage.sealed_values)
            under = {
                place for place, row in found.items() if sealer.epoch_of(row.value[:5]) == newest
            }
            _, service = await opened(storage, self.root_key, clock)
            return newest, under, await service.stand()
        finally:
            await storage.close()


@pytest.mark.case("ST-03")
async def test_a_rotation_killed_anywhere_loses_nothing_and_goes_on(
    victim: Victim, database_url: str, tmp_path: Path, long_form: bool
) -> None:
    """Death upon death on one database: each life goes on where the last one ended, and rotates again once it is through."""
    house = Installation(database_url, tmp_path / "root.key")
    await house.begin()
    dice = random.Random(3)
    deaths = finished = 0
    epoch, under, standing = await house.look()
    for _ in range(600 if long_form else 40):
        by_time = dice.random() < 0.25
        order = (
            house.order(microseconds=dice.randrange(500, 60_000))
            if by_time
            else house.order(instant=dice.randrange(1, 60))
        )
        said, code = victim.obey(order)
        deaths += code in DEATHS
        now_epoch, now_under, standing = await house.look()
        if now_epoch == epoch:
            assert now_under >= under, f"{order}: what was sealed anew is old again"
        else:
            assert under == set(house.clear), f"{order}: rotated before the work was done"
            assert now_epoch == epoch + 1, order
        if "epoch" in said:
            assert now_epoch == int(said["epoch"]), f"{order}: an acknowledged key is gone"
        if "done" in said:
            assert standing.is_done, order
            finished += 1
        epoch, under = now_epoch, now_under
    assert deaths > (300 if long_form else 20)
    while not standing.is_done:
        victim.obey(house.order())
        epoch, under, standing = await house.look()
    assert epoch > 2 or finished
    assert under == set(house.clear)


@pytest.mark.case("ST-03")
async def test_a_restart_does_only_what_is_left(
    victim: Victim, database_url: str, tmp_path: Path
) -> None:
    """Killed in the middle, at the instants after about a third and two thirds of the values."""
    house = Installation(database_url, tmp_path / "root.key")
    await house.begin()
    grown: list[int] = []
    begun = set()
    for _ in range(MOST_INSTANTS):
        said, _ = victim.obey(house.order(instant=45))
        epoch, under, standing = await house.look()
        assert epoch == 2
        grown.append(len(under))
        if standing.progress is not None:
            begun.add(standing.progress.since)
        if standing.is_done or "done" in said:
            break
    else:
        pytest.fail("the work never ends: each life begins again")
    assert grown == sorted(grown)
    assert len(begun) == 1, "it began again"
    assert len(set(grown)) > 3, "it was not killed half-way"
    assert grown[-1] == len(house.clear)


@pytest.mark.case("ST-03")
async def test_a_change_of_the_root_key_killed_at_each_instant_leaves_a_start_that_works(
    victim: Victim, database_url: str, tmp_path: Path
) -> None:
    """Every instant there is, one after the other: files flushed, rows committed, names changed."""
    keys = tmp_path / "keys"
    keys.mkdir()
    house = Installation(database_url, keys / "root.key")
    await house.begin()
    first = house.root_key.read_bytes()
    deaths = 0
    for instant in range(1, MOST_INSTANTS):
        said, code = victim.obey(house.order(rotates_root=True, instant=instant))
        await house.look()
        deaths += code in DEATHS
        if "root" in said:
            assert (keys / said["root"]).exists()
        if code == 0:
            break
    else:
        pytest.fail("it passes more instants than that")
    assert deaths > 20
    assert house.root_key.read_bytes() != first
    assert first in [one.read_bytes() for one in keys.glob("root.key.*")], "backups need it"


async def test_a_start_in_the_middle_of_a_change_reads_the_keys_again(tmp_path: Path) -> None:
    """It has read the old rows, and the file is the new one by then."""
    house = Installation(f"sqlite:///{tmp_path}/ostiary.db", tmp_path / "root.key")
    await house.begin()
    storage = open_storage(house.url, MovedClock())
    old = await storage.epochs.load_epochs()
    _, rotation = await house_wiring._open_keys(RootKeyFile(house.root_key), storage, MovedClock())
    await rotation.rotate_root(DEFAULT_TENANT, "test")

    class Behind:
        """What it tells first is of a moment ago."""

        def __init__(self) -> None:
            self.told = [old]

        async def load_epochs(self) -> tuple[EpochRow, ...]:
            return self.told.pop() if self.told else await storage.epochs.load_epochs()

    behind = replace(storage, epochs=Behind())  # type: ignore[arg-type]  # it is only read
    sealer, _ = await house_wiring._open_keys(RootKeyFile(house.root_key), behind, MovedClock())
    assert await values_in_clear(storage.sealed_values, sealer) == house.clear
    await storage.close()
