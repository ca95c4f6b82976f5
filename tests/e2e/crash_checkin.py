"""A process that forks a server for each round and lets it die: run as a script by test_crash_checkin.py.

It reads one round a line, as JSON, and writes what its child acknowledged: `ack NAME` for each device, only
after the service had returned, and `end STATUS` once the child is gone.
"""

import asyncio
import faulthandler
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.broken_disk import FAULT_BY_NAME
from e2e.crash_acts import ACT_BY_NAME
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.errors import Unavailable
from ostiary.keys.drawn import SystemDraws
from ostiary.keys.sealer import open_sealer
from ostiary.secret import Secret
from ostiary.services.admin_account import AdminAccounts
from ostiary.services.checkin import CheckinService
from ostiary.services.network_users import NetworkUsers
from ostiary.storage import open_storage
from scenes.house import START, Device, House, MovedClock

PATIENCE_SECONDS = 120.0
"""After which a round that neither ends nor dies says where it stands, and fails."""
NOT_PLAYED = 75
"""How a child ends that could not bring its devices to where their acts begin: the machine was too busy."""
ROOT_KEY = Secret(b"k" * 32)
DURING_COMMIT = "during-commit"
"""Not a step of ours: at a moment of chance, while the COMMIT is under way elsewhere."""
ANY_MOMENT = "any-moment"
"""Nor is this: whenever the time is over, in whatever line the process is."""
COMMIT_STEPS = ("committing", DURING_COMMIT, "committed")
COMMON_STEPS = (
    "decoded", "sealed", "loaded", "ruled", *COMMIT_STEPS, "answered", "acknowledged", ANY_MOMENT,
)  # fmt: skip
DISK_FAULTS = ("fsync error", "disk full")
"""From the n-th commit on the disk fails, devices are refused, and at last the process dies of it."""
STEPS = {
    "sqlite": (*COMMON_STEPS, "written", "released", *DISK_FAULTS),
    "postgresql": COMMON_STEPS,
}
"""By engine: where a process may die."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """Devices that send their message at once, and where the process dies: at the n-th time it passes the step."""

    number: int
    acts: tuple[str, ...]
    step: str
    occurrence: int

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def decode(line: str) -> "Round":
        fields = json.loads(line)
        return Round(**{**fields, "acts": tuple(fields["acts"])})

    def name(self, place: int) -> str:
        """The id of the device that plays the act at this place."""
        return f"ROUND-{self.number}-{place}-{self.acts[place]}"


class Trap:
    """Counts the steps once it is armed, and kills this very process at the chosen one."""

    def __init__(self, crash: Round) -> None:
        acts = {DURING_COMMIT: self._kill_soon}
        acts |= {name: FAULT_BY_NAME[name].strike for name in DISK_FAULTS}
        self._step = "committing" if crash.step in acts else crash.step
        self._left = crash.occurrence
        self._act = acts.get(crash.step, kill_now)
        self._patience_ns = random.Random(crash.number).randrange(2_000_000)
        self._is_armed = False

    def arm(self) -> None:
        """From now on."""
        self._is_armed = True
        if self._step == ANY_MOMENT:
            # Nobody handles SIGALRM, so the kernel ends the process wherever it is.
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + 6e-9 * self._patience_ns)

    def __call__(self, step: str) -> None:
        if not self._is_armed or step != self._step:
            return
        self._left -= 1
        if self._left == 0:
            self._act()  # in the thread that commits, if that is the step

    def _kill_soon(self) -> None:
        until = time.perf_counter_ns() + self._patience_ns

        def spin() -> None:
            while time.perf_counter_ns() < until:
                pass
            kill_now()

        threading.Thread(target=spin, daemon=True).start()


def kill_now() -> None:
    """Nothing runs after this: no handler, no buffer is flushed, no lock is given back by us."""
    os.kill(os.getpid(), signal.SIGKILL)


async def open_house(database_url: str, trace: Callable[[str], None]) -> House:
    """The services on a real database, with listeners at their named steps."""
    clock = MovedClock()
    storage = open_storage(database_url, clock, trace)
    known = await storage.epochs.load_epochs()
    sealer, rows = open_sealer(ROOT_KEY, known, now=START, tenants=[DEFAULT_TENANT])
    for row in rows:
        await storage.epochs.add_epoch(row)
    house = House(path=Path(), storage=storage, clock=clock, sealer=sealer)
    house.checkin = CheckinService(
        storage.enrollments,
        sealer,
        clock,
        lambda: house.policy,
        network_users=NetworkUsers({}),
        admins=AdminAccounts(sealer, SystemDraws()),
        make_profile=house.enrollment.return_profile,
        trace=trace,
    )
    return house


async def play(database_url: str, crash: Round) -> None:
    """Bring the devices to where their acts begin, arm the trap, and let all of them speak at once."""
    trap = Trap(crash)
    house = await open_house(database_url, trap)
    acts = [ACT_BY_NAME[name] for name in crash.acts]
    devices = [act.device(house, crash.name(place)) for place, act in enumerate(acts)]
    await asyncio.gather(*(act.begin(device) for act, device in zip(acts, devices, strict=True)))
    trap.arm()

    async def speak(place: int, device: Device) -> None:
        trap("decoded")
        try:
            await acts[place].message.send(device)
        except Unavailable:
            return  # by a broken disk, or a database that was too busy: not acknowledged
        trap("answered")
        os.write(1, f"ack {device.udid}\n".encode())
        trap("acknowledged")

    await asyncio.gather(*(speak(place, device) for place, device in enumerate(devices)))
    if crash.step in DISK_FAULTS:
        kill_now()
    await house.storage.close()


def fork_and_wait(database_url: str, crash: Round) -> int:
    """Play one round in a child; how it ended, as `os.waitpid` tells it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True)
    try:
        asyncio.run(play(database_url, crash))
    except Unavailable:
        os._exit(NOT_PLAYED)
    except BaseException as error:  # noqa: BLE001 - the child must never become a second parent
        os.write(2, f"round {crash.number}: {error!r}\n".encode())
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Serve rounds until standard input ends."""
    for line in sys.stdin:
        status = fork_and_wait(sys.argv[1], Round.decode(line))
        os.write(1, f"end {status}\n".encode())


if __name__ == "__main__":
    main()
