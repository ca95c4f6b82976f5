"""A process that is killed anywhere keeps every change that it acknowledged, and no half of any other."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from database_file import Database, database
from e2e import crash_storage
from e2e.crash_storage import (
    DEVICES,
    KINDS,
    Order,
    command_uuid,
    device_key,
    kinds_of,
    record_id,
)
from ostiary.storage.sqlite.schema import shipped_migrations

STEPS = ("loaded", "ruled", "written", "released", "committing", "committed")
DEATHS = {-signal.SIGKILL, -signal.SIGALRM}


class Victim:
    """A process that forks a child for each order and says what the child acknowledged."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, crash_storage.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def obey(self, order: Order) -> tuple[dict[int, int], int]:
        """The last number acknowledged for each device, and the child's exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order.encode() + "\n")
        self._process.stdin.flush()
        acknowledged: dict[int, int] = {}
        for line in self._process.stdout:
            subject, number = line.split()
            if subject == "died":
                return acknowledged, int(number)
            acknowledged[int(subject)] = int(number)
        raise AssertionError("the victim's parent died")

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def victim() -> Iterator[Victim]:
    made = Victim()
    yield made
    made.close()


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return 3_000 if request.config.getoption("--long", default=False) else 100


def test_whatever_was_acknowledged_survives_a_kill_anywhere(
    victim: Victim, rounds: int, tmp_path: Path
) -> None:
    """All or nothing, and on disk before the answer. (design.md 4; TU-5 of check-in-and-commands.md 1.4)"""
    dice = random.Random(410)
    kept: dict[int, int] = {}
    deaths = 0
    for number in range(rounds):
        path = tmp_path / f"{number // 10}.db"
        if number % 10 == 0:
            kept = {}
        order = draw(dice, path)
        acknowledged, code = victim.obey(order)
        deaths += code in DEATHS
        assert code in (*DEATHS, 0), order
        kept = verify(path, {**kept, **acknowledged}, order)
    assert deaths > rounds // 2


def draw(dice: random.Random, path: Path) -> Order:
    """A death at some passing of some step, or after up to a fortieth of a second."""
    if dice.random() < 0.25:
        step, count = "any-moment", dice.randrange(500, 25_000)
    else:
        step = dice.choice(STEPS)
        # Commits are rarer than decisions.
        count = dice.randrange(1, 12) if step.startswith("commit") else dice.randrange(1, 80)
    return Order(path=str(path), decisions=100, step=step, count=count)


def verify(path: Path, acknowledged: dict[int, int], order: Order) -> dict[int, int]:
    """Check every device; the number of updates that each has now."""
    if not path.exists():
        assert not acknowledged, order
        return {}
    with database(path) as connection:
        assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)], order
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == [], order
        if steps_taken(connection) < len(shipped_migrations()):
            assert not acknowledged, order
            return {}
        return {
            device: verify_device(connection, device, acknowledged.get(device, 0), order)
            for device in range(DEVICES)
        }


def steps_taken(connection: Database) -> int:
    """How much of the schema there is: each step is there or not."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if "migration" not in tables:
        return 0
    ((number,),) = connection.execute("SELECT count(*) FROM migration")
    return int(number)


def verify_device(connection: Database, device: int, acknowledged: int, order: Order) -> int:
    """Row, ledger, queue, history, wake, escrow, facts and alert tell of the same updates; the last of these is returned."""
    row = connection.execute(
        """SELECT token_updates, push_record, unlock_record, bootstrap_record
             FROM enrollment WHERE key = ?""",
        (device_key(device),),
    ).fetchone()
    number: int = 0 if row is None else row[0]
    # A device is served by one caller, so at most one change was under way.
    assert acknowledged <= number <= acknowledged + 1, (order, device)
    assert ledger_of(connection, device) == expected_ledger(device, number), (order, device)
    newest = [
        max((n for n in range(1, number + 1) if kind in kinds_of(n)), default=0) for kind in KINDS
    ]
    pointed = [
        record_id(device, n, kind) if n else None for n, kind in zip(newest, KINDS, strict=True)
    ]
    assert list(row[1:] if row else (None, None, None)) == pointed, (order, device)
    assert around(connection, device) == {
        "live": [command_uuid(device, number)] if number else [],
        "closed": [command_uuid(device, n) for n in range(1, number)],
        "wake": [number] if number else [],
        "facts": [f'{{"n":{number}}}'] if number else [],
        "escrow": [str(number)] if number else [],
        "alert": [number] if number else [],
    }, (order, device)
    return number


def ledger_of(connection: Database, device: int) -> set[Any]:
    return set(
        connection.execute(
            "SELECT id, kind, generation, state FROM token WHERE holder = ?", (f"UDID-{device}",)
        )
    )


def expected_ledger(device: int, number: int) -> set[Any]:
    """Generations without a gap, every one but the newest superseded."""
    expected = set()
    for kind in KINDS:
        brought = [n for n in range(1, number + 1) if kind in kinds_of(n)]
        for generation, n in enumerate(brought, 1):
            state = "ok" if generation == len(brought) else "superseded"
            expected.add((record_id(device, n, kind), kind.value, generation, state))
    return expected


def around(connection: Database, device: int) -> dict[str, list[Any]]:
    """What other tables tell of a device."""
    statements = {
        "live": "SELECT uuid FROM command WHERE enrollment_key = ?",
        "closed": "SELECT uuid FROM command_closed WHERE enrollment_key = ? ORDER BY number",
        "wake": "SELECT attempt FROM wake WHERE enrollment_key = ?",
        "facts": "SELECT facts FROM fact WHERE enrollment_key = ?",
    }
    found = {
        name: [value for (value,) in connection.execute(statement, (device_key(device),))]
        for name, statement in statements.items()
    }
    by_name = {
        "escrow": "SELECT trouble FROM escrow WHERE holder = ?",
        "alert": "SELECT count FROM alert WHERE subject = ?",
    }
    for name, statement in by_name.items():
        rows = connection.execute(statement, (f"UDID-{device}",))
        found[name] = [value for (value,) in rows]
    return found
