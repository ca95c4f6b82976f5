"""A request costs what it costs, whoever else is enrolled and whatever they have waiting: counted in SQLite's own steps.

A plan may name an index and still walk through half of it. Steps cannot be argued with: each row that is looked at is
some of them, and going down a deeper tree is none.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from database_file import database
from ostiary.domain.token import DEFAULT_TENANT, Holder, TokenKind
from ostiary.keys.sealer import open_sealer
from ostiary.ports.storage import WakeStep
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.storage import open_storage
from ostiary.storage.sqlite import readers, storage
from scenes.house import IPHONE, MAC, OPERATOR, START, Device, House, MovedClock

OTHERS, COMMANDS_EACH = 1_000, 10
LONG_OTHERS = 20_000
MANY = 3_000
"""More than the queue before the writer holds."""
MAY_DIFFER = 1.1
"""Where a value lies in a page decides about some steps."""

Act = Callable[[House, Device], Awaitable[object]]
OF_AN_OTHER = "printf('%08X', n * 2654435761 & 4294967295) || substr({column}, 9)"
NAMES = {"key", "id", "fingerprint", "enrollment_key", "holder", "relationship", "uuid"} | {
    f"{kind}_record" for kind in ("push", "unlock", "bootstrap")
}
LATER = 14 * 3600 * 1_000_000
"""Microseconds from now until the others are due, at the earliest."""


class Steps:
    """Counts the steps of every connection."""

    def __init__(self) -> None:
        self.count = 0

    def watch(self, connection: apsw.Connection) -> apsw.Connection:
        connection.set_progress_handler(self._step, 1)
        return connection

    def _step(self) -> bool:
        self.count += 1
        return False


@asynccontextmanager
async def house_at(path: Path) -> AsyncIterator[House]:
    """A house on this file, which may be there already."""
    clock = MovedClock()
    opened = open_storage(f"sqlite:///{path}", clock)
    there = await opened.epochs.load_epochs()
    sealer, rows = open_sealer(Secret(b"k" * 32), there, now=START, tenants=[DEFAULT_TENANT])
    for row in rows:
        await opened.epochs.add_epoch(row)
    house = House(path=path, storage=opened, clock=clock, sealer=sealer)
    try:
        if not there:
            await house.hold_topic()
        yield house
    finally:
        await opened.close()


def add_others(path: Path, count: int) -> None:
    """As many copies of the one device in there, with its tokens, a queue, and a history."""
    with database(path) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for table, each in (
            ("enrollment", 1),
            ("binding", 1),
            ("token", 1),
            ("wake", 1),
            ("command", COMMANDS_EACH),
            ("command_closed", COMMANDS_EACH),
        ):
            columns = [
                row[1]
                for row in connection.execute(f"PRAGMA table_info({table})")
                if row[1] not in ("sequence", "number")
            ]
            values = ", ".join(copied(table, column) for column in columns)
            connection.execute(
                "WITH RECURSIVE copy (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < ?),"
                " each (m) AS (SELECT 1 UNION ALL SELECT m + 1 FROM each WHERE m < ?)"
                f" INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, copy, each",
                (count, each),
            )


def copied(table: str, column: str) -> str:
    if column == "uuid":
        return f"{OF_AN_OTHER.format(column=column)} || '-' || m"
    if column in NAMES:
        return OF_AN_OTHER.format(column=column)
    if (table, column) == ("wake", "due_at"):
        return f"due_at + {LATER} + n * 10000"
    if (table, column) == ("command", "state"):
        return "CASE m % 3 WHEN 0 THEN 'deferred' ELSE 'queued' END"
    return column


async def idle(_: House, device: Device) -> None:
    assert await device.report("Idle") is None


async def idle_of_a_stranger(house: House, device: Device) -> None:
    with pytest.raises(Exception, match="certificate"):
        await device.with_certificate("nobody knows it").report("Idle")
    assert await house.row(device.udid)


async def token_update(_: House, device: Device) -> None:
    await device.token_update(Token=b"\x02" * 32)


async def bootstrap(_: House, device: Device) -> None:
    await device.set_bootstrap(b"secret")
    await device.get_bootstrap()


async def enroll(house: House, _: Device) -> None:
    await house.enrolled(MAC, udid="11111111-NEW", serial="C02NEW")


async def enroll_again(_: House, device: Device) -> None:
    await device.with_certificate("its next one").authenticate()


async def check_out(_: House, device: Device) -> None:
    await device.send("CheckOut", Topic=device.topic)


async def commands(house: House, device: Device) -> None:
    for _ in range(3):
        await house.enqueue(device.id, "ProfileList")
    command = await device.report("Idle")
    assert command is not None
    following = await device.report("NotNow", command["CommandUUID"])
    assert following is not None
    await device.report("Error", following["CommandUUID"])
    await device.drain()


async def push(house: House, device: Device) -> None:
    await house.enqueue(device.id, "ProfileList")
    await house.storage.wakes.next_due_at()
    now = house.clock.now() + timedelta(seconds=5)
    due = await house.storage.wakes.claim(now, limit=500, lease=timedelta(minutes=1))
    assert device.id in {one.enrollment.id for one in due}
    steps = [
        WakeStep(
            enrollment_key=one.enrollment.key,
            record_id=one.push_record.id,
            at=now,
            attempt=1,
            accepted=True,
            next_due_at=now + timedelta(minutes=1),
        )
        for one in due
    ]
    await house.storage.wakes.settle(steps)


async def cancel(house: House, device: Device) -> None:
    uuid = await house.enqueue(device.id, "ProfileList")
    lines = await house.storage.reports.list_commands(
        DEFAULT_TENANT, EnrollmentId(device.id), live_only=False, limit=5
    )
    assert uuid in {line.uuid for line in lines}


async def look_at_one(house: House, device: Device) -> None:
    reports = house.storage.reports
    assert await reports.find_enrollments(DEFAULT_TENANT, EnrollmentId(device.id))
    assert await reports.token_history(DEFAULT_TENANT, Holder(device.id))
    assert (await house.require_row(device.id)).pointer(TokenKind.PUSH)


ACTS: tuple[Act, ...] = (
    idle,
    idle_of_a_stranger,
    token_update,
    bootstrap,
    enroll,
    commands,
    push,
    cancel,
    look_at_one,
    enroll_again,
    check_out,
)


async def steps_of_acts(path: Path, steps: Steps) -> dict[str, int]:
    """How many steps each act takes in this database."""
    taken = {}
    async with house_at(path) as house:
        device = house.device(IPHONE, udid="00000000-ONE", serial="C02ONE")
        await device.report("Idle")
        for act in ACTS:
            house.clock.advance(hours=1)
            before = steps.count
            await act(house, device)
            taken[act.__name__] = steps.count - before
    return taken


async def test_no_request_costs_more_for_a_larger_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_form: bool
) -> None:
    """docs/design.md 4: an index for each hot query; 8: no growth with other devices or answered commands."""
    small, large = tmp_path / "small.db", tmp_path / "large.db"
    async with house_at(small) as house:
        await house.enrolled(IPHONE, udid="00000000-ONE", serial="C02ONE")
        await house.enqueue("00000000-ONE", "ProfileList")
    large.write_bytes(small.read_bytes())
    add_others(large, LONG_OTHERS if long_form else OTHERS)
    for path in (small, large):
        async with house_at(path) as house:
            await house.device(IPHONE, udid="00000000-ONE", serial="C02ONE").drain()

    steps = Steps()
    for room, name in ((storage, "open_writer"), (readers, "open_reader")):
        opened = getattr(room, name)
        monkeypatch.setattr(room, name, lambda path, opened=opened: steps.watch(opened(path)))
    alone, among_others = await steps_of_acts(small, steps), await steps_of_acts(large, steps)
    assert all(alone.values())
    grown = {
        act: (alone[act], count)
        for act, count in among_others.items()
        if count > alone[act] * MAY_DIFFER
    }
    assert not grown


async def test_a_command_for_thousands_leaves_room_for_devices(tmp_path: Path) -> None:
    """Orders queue up among themselves: not one is refused, and a device that polls meanwhile stands behind a few."""
    path = tmp_path / "many.db"
    async with house_at(path) as house:
        await house.enrolled(IPHONE, udid="00000000-ONE", serial="C02ONE")
    add_others(path, MANY)
    async with house_at(path) as house:
        rows = await house.storage.reports.list_enrollments(
            DEFAULT_TENANT, state=None, limit=MANY + 1, after=None
        )
        ids = [row.id for row in rows]
        done = await house.desk.enqueue(ids, {"RequestType": "ProfileList"}, OPERATOR)
    assert len(done.refused) == MANY + 1
    assert not [error for error in done.refused.values() if error is not None]
