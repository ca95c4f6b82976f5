"""SIGKILL at every named step of what devices say: whatever was acknowledged is there, nothing is half done."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.crash_acts import ACT_BY_NAME
from e2e.crash_checkin import COMMIT_STEPS, DURING_COMMIT, STEPS, Round, open_house
from e2e.crash_rounds import LOOKED_AT_AFTER, NotPlayed, check, plan, zygote
from ostiary.errors import Unavailable
from ostiary.ports.trace import no_trace
from ostiary.storage.postgres.enrollments import PostgresEnrollments
from postgres_server import PATIENCE_SECONDS, PostgresServer
from scenes.house import Device, House

SHORT_ROUNDS = {"sqlite": 120, "postgresql": 60}
LONG_ROUNDS = 3_000
SHORT_DEATHS, LONG_DEATHS = 8, 500
"""Of a whole database."""
DATABASE_STEPS = ("sealed", "loaded", "ruled", *COMMIT_STEPS)
DEVICES_AT_ONCE = 12
DEATHS = (signal.SIGKILL, signal.SIGALRM)
OTHERS_AT_WORK = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture(scope="module")
def durable_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that waits for the disk, as one in production does."""
    server = PostgresServer(fsync="on", full_page_writes="on", recovery_init_sync_method="syncfs")
    asyncio.run(server.make_template())
    yield server
    server.stop()


@pytest.mark.case("CI-03", "ST-05")
async def test_whatever_was_acknowledged_on_sqlite_survives_a_kill_at_any_step(
    tmp_path: Path, long_form: bool
) -> None:
    """CI-03, ST-05, TU-5, TU-7: all or nothing, on disk before the answer, and a repeat adds no generation."""
    await kill_again_and_again(f"sqlite:///{tmp_path}/ostiary.db", long_form=long_form)


@pytest.mark.case("CI-03", "ST-05")
async def test_whatever_was_acknowledged_on_postgresql_survives_a_kill_of_the_node_at_any_step(
    durable_server: PostgresServer, long_form: bool
) -> None:
    """CI-03, ST-05, TU-5, TU-7: as on SQLite, while the database goes on without its node."""
    url = await durable_server.make_database()
    await kill_again_and_again(f"{url}&pool_size=3", long_form=long_form)


@pytest.mark.case("CI-03", "ST-05")
async def test_whatever_was_acknowledged_survives_a_kill_of_the_database_and_the_node_goes_on(
    durable_server: PostgresServer, long_form: bool
) -> None:
    """CI-03, ST-05, TU-7: the postmaster and all its children die at once; one node lives through all of it."""
    trap = Trigger()
    house = await open_house(await durable_server.make_database(), trap)
    await house.hold_topic()
    told: Counter[str] = Counter()
    deaths = LONG_DEATHS if long_form else SHORT_DEATHS
    for crash in plan(deaths, DATABASE_STEPS, at_once=DEVICES_AT_ONCE):
        acknowledged = await speak_while_it_dies(house, durable_server, trap, crash)
        told.update(acknowledged=len(acknowledged), refused=DEVICES_AT_ONCE - len(acknowledged))
        await asyncio.to_thread(durable_server.restart)  # meanwhile the node hears that it died
        await check(house, crash, acknowledged)
    await house.storage.close()
    assert told["acknowledged"], "nobody was answered before any of the deaths"
    assert told["refused"], "nobody was there when the database died"


class Trigger:
    """Counts the steps of a node, and calls what it was loaded with at the chosen one."""

    def __init__(self) -> None:
        self._step, self._left = "", 0
        self._act: Callable[[], object] = int

    def load(self, crash: Round, act: Callable[[], object]) -> None:
        """Wait for the step of this round; whatever is loaded already is forgotten."""
        self._step = "committing" if crash.step == DURING_COMMIT else crash.step
        self._left, self._act = crash.occurrence, act

    def __call__(self, step: str) -> None:
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                self._act()


async def speak_while_it_dies(
    house: House, server: PostgresServer, trap: Trigger, crash: Round
) -> set[str]:
    """Let the devices of a round speak at once while the database dies; who was acknowledged."""
    acts = [ACT_BY_NAME[name] for name in crash.acts]
    devices = [act.device(house, crash.name(place)) for place, act in enumerate(acts)]
    await asyncio.gather(*(act.begin(device) for act, device in zip(acts, devices, strict=True)))
    loop = asyncio.get_running_loop()
    soon = random.Random(crash.number).random() * 0.004
    now = server.kill if crash.step != DURING_COMMIT else lambda: loop.call_later(soon, server.kill)
    trap.load(crash, now)

    async def speak(place: int, device: Device) -> str:
        await acts[place].message.send(device)
        return device.udid

    said = [speak(place, device) for place, device in enumerate(devices)]
    outcomes = await asyncio.gather(*said, return_exceptions=True)
    server.kill()  # if everybody was faster
    refusals = [one for one in outcomes if isinstance(one, BaseException)]
    assert all(isinstance(one, Unavailable) for one in refusals), refusals
    return {one for one in outcomes if isinstance(one, str)}


async def kill_again_and_again(database_url: str, *, long_form: bool) -> None:
    """Play the rounds, and look at what each left, some rounds later."""
    engine = database_url.partition(":")[0]
    rounds = LONG_ROUNDS if long_form else SHORT_ROUNDS[engine]
    house = await open_house(database_url, no_trace)
    await house.hold_topic()
    await house.storage.close()
    ended: Counter[int] = Counter()
    dead: list[tuple[Round, set[str]]] = []
    with zygote(database_url) as mother:
        for crash in plan(rounds, STEPS[engine], shares_commits=engine == "sqlite"):
            try:
                acknowledged, by = mother.play(crash)
            except NotPlayed:
                ended[0] += 1
                continue
            ended[by] += 1
            dead.append((crash, acknowledged))
            if len(dead) == LOOKED_AT_AFTER:
                await look(database_url, dead)
                dead.clear()
    await look(database_url, dead)
    assert sum(ended[by] for by in DEATHS) > sum(ended.values()) * 0.9, "hardly anything was killed"


async def look(database_url: str, dead: list[tuple[Round, set[str]]]) -> None:
    """Check every round with a fresh process' eyes."""
    house = await open_house(database_url, no_trace)
    try:
        if isinstance(house.storage.enrollments, PostgresEnrollments):
            await _until_the_dead_rest(house.storage.enrollments)
        for told in dead:
            await check(house, *told)
    finally:
        await house.storage.close()


async def _until_the_dead_rest(enrollments: PostgresEnrollments) -> None:
    """A statement whose node died may still be running in the database, and end either way."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            row = await enrollments._pool.row(OTHERS_AT_WORK)
            if row is not None and row[0] == 0:
                return
            await asyncio.sleep(0.002)
