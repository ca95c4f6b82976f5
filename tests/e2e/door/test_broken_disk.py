"""A disk that is full, fails, or is slow: devices see 503, nothing is half done, and it goes on once it is mended."""

import asyncio
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from conformance.storage_values import record
from database_file import database
from e2e.broken_disk import FAULT_BY_NAME, FAULTS, Fault
from e2e.door.conftest import Door, SignedDevice
from fuzz.pki import NOW
from ostiary.domain.decision import Ask, ByKey, Change, Snapshot
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.token import DEFAULT_TENANT, Holder, SealedValue, TokenKind, TokenRecord
from ostiary.formats import plist
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.storage.sqlite.commit_thread import CommitThread

FAR_AWAY = 20.0
CHECKPOINTS_AFTER = 45
"""Commits of fifty pages each: two checkpoints."""


class Disk:
    """The disk under a door's SQLite."""

    def __init__(self, door: Door) -> None:
        self._engine: Any = door.house.storage.enrollments._engine  # type: ignore[attr-defined]  # no port breaks disks
        self.path = Path(door.house.settings.database_url.removeprefix("sqlite:///"))

    async def break_down(self, fault: Fault) -> None:
        """Let every COMMIT from now on meet this fault."""
        await self._in_thread(fault.strike)

    async def break_down_under_the_database_alone(self, fault: Fault) -> None:
        """Only what is done to the database itself fails, which is at checkpoints; the log beside it is written well."""
        for file in self._descriptors():
            await self._in_thread(partial(fault.strike, file=file))

    def _descriptors(self) -> list[int]:
        """By which this process knows the database file."""
        found = []
        for one in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # the one by which we look is gone already
                if one.readlink() == self.path:
                    found.append(int(one.name))
        return found

    def mend(self) -> None:
        """What fails is the thread, so another one takes its place."""
        broken, self._engine._thread = self._engine._thread, CommitThread()
        broken.stop()

    def hold(self) -> threading.Event:
        """Let the next COMMIT wait until the event is set."""
        go = threading.Event()
        loop = asyncio.get_running_loop()
        self._engine._thread.start(lambda: go.wait(FAR_AWAY) and None, loop, lambda _: None)
        return go

    def let_wait(self, *, at_most: int) -> None:
        self._engine._longest_queue = at_most

    def look_away(self) -> None:
        """What is written last, at closing, would be refused as well."""
        self._engine._inspect = lambda _: None

    def give_connection_up(self) -> None:
        """As the engine does when not even a ROLLBACK works."""
        self._engine._abandon()

    async def _in_thread(self, job: Any) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[BaseException | None] = loop.create_future()
        self._engine._thread.start(job, loop, done.set_result)
        assert await done is None

    def bootstrap_of(self, device: SignedDevice) -> int:
        """How many generations another connection finds in the file."""
        with database(self.path) as connection:
            found = connection.execute(
                "SELECT count(*) FROM token WHERE holder = ? AND kind = 'bootstrap'", (device.udid,)
            ).fetchone()
        return int(found[0])


@pytest.fixture
def disk(door: Door) -> Disk:
    return Disk(door)


def assert_told_to_come_again(answer: httpx.Response) -> None:
    """503 with Retry-After: the device repeats it; never anything that would make it leave. (TU-7, 3.7)"""
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


async def escrow(device: SignedDevice, value: bytes) -> httpx.Response:
    return await device.send("SetBootstrapToken", BootstrapToken=value)


async def escrowed(device: SignedDevice) -> bytes:
    answer = await device.send("GetBootstrapToken")
    assert answer.status_code == 200
    return plist.read_dict(answer.content).data("BootstrapToken")


@pytest.mark.case("CI-04")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_failing_disk_is_answered_503_and_served_again_once_it_is_mended(
    door: Door, disk: Disk, fault: Fault
) -> None:
    """TU-7, CI-04: all of a burst is refused, what was held stays, what is repeated is stored once."""
    devices = [await door.device().enroll() for _ in range(3)]
    for device in devices:
        assert (await escrow(device, b"before")).status_code == 200
    await disk.break_down(fault)
    for _ in range(2):
        burst = [escrow(device, b"after") for device in devices]
        for answer in await asyncio.gather(*burst, door.device().authenticate()):
            assert_told_to_come_again(answer)
    for device in devices:
        assert_told_to_come_again(await device.token_update(Token=b"\x02" * 32))
        assert await escrowed(device) == b"before", "what was refused is not offered"
    disk.mend()
    for device in devices:
        assert disk.bootstrap_of(device) == 1
        assert (await escrow(device, b"after")).status_code == 200
        assert await escrowed(device) == b"after"
        assert disk.bootstrap_of(device) == 2


async def test_what_an_fsync_error_left_in_the_page_cache_is_written_anew(
    door: Door, disk: Disk
) -> None:
    """Linux drops pages that it could not write, and the next fsync says that all is well. SQLite writes them again.

    The next commit overwrites what the failed one had appended to the write-ahead log, so nothing that is told to be
    stored hangs on a page which the kernel gave up.
    """
    wal = disk.path.with_name(f"{disk.path.name}-wal")
    device = await door.device().enroll()
    assert (await escrow(device, b"before" * 700)).status_code == 200
    size = wal.stat().st_size
    await disk.break_down(FAULT_BY_NAME["fsync error"])
    assert_told_to_come_again(await escrow(device, b"after!" * 700))
    left = wal.read_bytes()[size:]
    assert left, "the failed commit left its frames in the file"
    disk.mend()
    assert (await escrow(device, b"after?" * 700)).status_code == 200
    written = wal.read_bytes()[size:]
    assert len(written) == len(left), "appended behind what may never have reached the disk"
    frame = 24 + 4096
    for start in range(0, len(written), frame):
        salted = slice(start + 8, start + 24)  # the salts, and a checksum over all frames before
        assert written[salted] != left[salted]


async def test_a_checkpoint_that_cannot_be_flushed_keeps_the_log_that_it_copied(
    door: Door, disk: Disk, tmp_path: Path
) -> None:
    """What was acknowledged is in the log, and stays there until the database itself is known to be on the disk."""
    device = await door.device().enroll()
    row = await door.house.storage.reports.find_enrollments(
        DEFAULT_TENANT, EnrollmentId(device.udid)
    )
    lost_in_the_cache = disk.path.read_bytes()
    await disk.break_down_under_the_database_alone(FAULT_BY_NAME["fsync error"])
    for number in range(CHECKPOINTS_AFTER):
        change = Change(at=NOW, answer=None, records=(large_record(number, row[0]),))
        await door.house.storage.enrollments.decide(
            Ask(who=ByKey(key=row[0].key)), partial(_just, change)
        )
    assert disk.path.read_bytes() != lost_in_the_cache, "no checkpoint was tried"
    crashed = tmp_path / "crashed.db"
    crashed.write_bytes(lost_in_the_cache)
    log = disk.path.with_name(f"{disk.path.name}-wal").read_bytes()
    crashed.with_name("crashed.db-wal").write_bytes(log)
    with database(crashed) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = connection.execute("SELECT count(*) FROM token WHERE source = 'large'").fetchone()
    assert found == (CHECKPOINTS_AFTER,)
    disk.mend()


def _just(change: Change[None], _: Snapshot) -> Change[None]:
    return change


def large_record(number: int, row: Enrollment) -> TokenRecord:
    """A record of two hundred kilobytes: some twenty of them make SQLite try a checkpoint."""
    return replace(
        record(number, holder=1, kind=TokenKind.UNLOCK),
        holder=Holder(row.id),
        relationship=row.key,
        value=SealedValue(bytes(200_000)),
        source="large",
    )


async def test_frames_of_a_refused_commit_are_found_after_a_crash_or_not_but_never_in_part(
    door: Door, disk: Disk, tmp_path: Path
) -> None:
    """A crash right after an fsync error may find what was refused: all of it, or nothing; what was acknowledged stays."""
    devices = [await door.device().enroll() for _ in range(3)]
    for device in devices:
        assert (await escrow(device, b"before")).status_code == 200
    await disk.break_down(FAULT_BY_NAME["fsync error"])
    burst = [escrow(device, b"after") for device in devices]
    for answer in await asyncio.gather(*burst):
        assert_told_to_come_again(answer)
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for end in ("", "-wal"):
        name = f"{disk.path.name}{end}"
        (crashed / name).write_bytes(disk.path.with_name(name).read_bytes())
    with database(crashed / disk.path.name) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute(
            "SELECT generation, count(*) FROM token WHERE kind = 'bootstrap' GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert rows in ([(1, 3)], [(1, 3), (2, 3)])
    disk.mend()


async def test_a_slow_disk_lets_devices_wait_in_a_bounded_queue(door: Door, disk: Disk) -> None:
    """design.md 4: beyond the queue 503; who waits is answered 200 once it is on disk, and not before."""
    devices = [await door.device().enroll() for _ in range(5)]
    disk.let_wait(at_most=2)
    go = disk.hold()
    # The first is being committed, the next two wait, and there is no room for the others.
    async with asyncio.TaskGroup() as group:
        waiting: list[asyncio.Task[httpx.Response]] = []
        for device in devices[:3]:
            waiting.append(group.create_task(escrow(device, b"value")))
            await _until_told(disk, len(waiting))
        for device in devices[3:]:
            assert_told_to_come_again(await escrow(device, b"value"))
        assert [disk.bootstrap_of(device) for device in devices] == [0] * 5
        assert not any(task.done() for task in waiting)
        go.set()
    assert [task.result().status_code for task in waiting] == [200] * 3
    assert [disk.bootstrap_of(device) for device in devices] == [1, 1, 1, 0, 0]
    for device in devices[3:]:
        assert (await escrow(device, b"value")).status_code == 200
    assert await door.house.storage.reports.token_history(DEFAULT_TENANT, Holder(devices[4].udid))


async def _until_told(disk: Disk, number: int) -> None:
    """Until that many decisions are in the engine's hands."""
    engine = disk._engine
    # The engine has no event for this.
    while len(engine._unwritten) + len(engine._queue) < number or not engine._is_committing:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_a_write_ahead_log_that_somebody_removed_loses_nothing_that_was_acknowledged(
    door: Door, disk: Disk, tmp_path: Path
) -> None:
    """SQLite goes on writing to a file without a name. What it holds is moved into the database, and no more is promised."""
    device = await door.device().enroll()
    assert (await escrow(device, b"acknowledged")).status_code == 200
    disk.path.with_name(f"{disk.path.name}-wal").unlink()
    assert_told_to_come_again(await escrow(device, b"not promised"))
    assert (await door.client.get("/readyz")).status_code == 503
    crashed = tmp_path / "crashed.db"
    crashed.write_bytes(disk.path.read_bytes())
    with database(crashed) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = connection.execute("SELECT count(*) FROM token WHERE kind = 'bootstrap'").fetchone()
    assert found in ((1,), (2,))
    disk.look_away()


@pytest.mark.parametrize("is_replaced", [False, True], ids=["removed", "replaced"])
async def test_a_database_that_somebody_removed_is_neither_written_to_nor_made_anew(
    door: Door, disk: Disk, *, is_replaced: bool
) -> None:
    """An empty database in its place would know no device, and refuse them all from then on."""
    device = await door.device().enroll()
    disk.path.rename(disk.path.with_name("moved.db"))
    if is_replaced:
        disk.path.write_bytes(b"")
    for _ in range(2):
        assert_told_to_come_again(await escrow(device, b"value"))
        assert (await door.client.get("/readyz")).status_code == 503
    disk.give_connection_up()
    assert_told_to_come_again(await escrow(device, b"value"))
    assert disk.path.exists() is is_replaced
    assert not is_replaced or disk.path.stat().st_size == 0
    disk.path.with_name("moved.db").rename(disk.path)
