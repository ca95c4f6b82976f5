"""Requests that ask together: each gets its own answer, and nobody pays for another's mistake."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from conformance.storage_twins import show, store, visible_state
from conformance.storage_values import MovedClock, command, device, key, record, uuid
from ostiary.domain.decision import Ask, ByKey, Change, CommandMove, Snapshot
from ostiary.ports.storage import StorageBusy
from ostiary.storage.errors import ChangeDoesNotFit
from ostiary.storage.postgres.batches import Batches
from ostiary.storage.postgres.session import Row, Session
from ostiary.storage.postgres.storage import PostgresStorage, open_postgres

DEVICES = 12
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
ECHO = "SELECT $1::text, $2::int4"


@pytest.fixture
async def storage(postgres_url: str) -> AsyncIterator[PostgresStorage]:
    async with open_postgres(f"{postgres_url}&pool_size=4", clock=MovedClock()) as opened:
        await store(opened, rows=tuple(device(number) for number in range(1, DEVICES + 1)))
        yield opened


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many asked together, batch by batch."""
    sizes: list[int] = []
    send = Session.many

    async def counted(self: Session, statement: str, values: Sequence[Sequence[Any]]) -> list[Row]:
        sizes.append(len(values))
        return await send(self, statement, values)

    monkeypatch.setattr(Session, "many", counted)
    return sizes


def renamed(number: int, name: str) -> Any:
    """A rule that gives the device a name."""

    def rule(seen: Snapshot) -> Change[None]:
        assert seen.device is not None
        facts = replace(seen.device.facts, device_name=name)
        return Change(
            at=device(number).created_at, answer=None, rows=(replace(seen.device, facts=facts),)
        )

    return rule


async def decide(storage: PostgresStorage, number: int, rule: Any) -> None:
    await storage.enrollments.decide(Ask(who=ByKey(key=key(number))), rule)


async def name_of(storage: PostgresStorage, number: int) -> str | None:
    seen = await show(storage, Ask(who=ByKey(key=key(number))))
    assert seen.device is not None
    return seen.device.facts.device_name


async def test_who_asks_at_the_same_time_asks_together(
    storage: PostgresStorage, sent: list[int]
) -> None:
    numbers = range(1, DEVICES + 1)
    await asyncio.gather(*(decide(storage, n, renamed(n, f"name {n}")) for n in numbers))
    assert sent == [DEVICES, DEVICES]  # a load and a write
    assert [await name_of(storage, n) for n in numbers] == [f"name {n}" for n in numbers]


async def test_each_is_shown_its_own_also_if_it_is_nothing(storage: PostgresStorage) -> None:
    asked = [3, 99, 1, 98, 2]
    shown = await asyncio.gather(*(show(storage, Ask(who=ByKey(key=key(n)))) for n in asked))
    assert [seen.device.key if seen.device else None for seen in shown] == [
        key(3), None, key(1), None, key(2),
    ]  # fmt: skip


async def test_two_decisions_on_one_row_in_one_batch_are_both_made(
    storage: PostgresStorage, sent: list[int]
) -> None:
    """The second finds the turn taken and is made again on what the first left."""

    def one_more(seen: Snapshot) -> Change[None]:
        assert seen.device is not None
        row = replace(seen.device, token_updates=seen.device.token_updates + 1)
        return Change(at=device(1).created_at, answer=None, rows=(row,))

    await asyncio.gather(*(decide(storage, 1, one_more) for _ in range(5)))
    assert max(sent) == 5
    seen = await show(storage, Ask(who=ByKey(key=key(1))))
    assert seen.device is not None
    assert seen.device.token_updates == device(1).token_updates + 5


async def test_what_does_not_fit_for_one_is_stored_for_the_others(
    storage: PostgresStorage,
) -> None:
    await store(storage, enqueue=(command("known", to=2),))

    def moves(name: str) -> Any:
        move = CommandMove(uuid=uuid(name), to="sent", sent_at=device(1).created_at, hand_outs=1)
        return lambda _: Change(at=device(1).created_at, answer=None, moves=(move,))

    outcomes = await asyncio.gather(
        decide(storage, 1, moves("unknown")),
        decide(storage, 2, moves("known")),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [ChangeDoesNotFit, type(None)]
    seen = await show(storage, Ask(who=ByKey(key=key(2)), reported=uuid("known")))
    assert seen.reported is not None
    assert seen.reported.hand_outs == 1


async def test_a_value_that_no_database_takes_fails_alone(storage: PostgresStorage) -> None:
    """A lone surrogate cannot be sent as text; the driver refuses the batch, and we only that value."""
    outcomes = await asyncio.gather(
        *(
            decide(storage, n, renamed(n, name))
            for n, name in ((1, "one"), (2, "\ud800"), (3, "three"))
        ),
        return_exceptions=True,
    )
    assert [outcome is None for outcome in outcomes] == [True, False, True]
    assert [await name_of(storage, n) for n in (1, 3)] == ["one", "three"]


async def test_who_goes_away_changes_nothing_for_the_others(storage: PostgresStorage) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(decide(storage, n, renamed(n, f"name {n}"))) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
    assert tasks[1].cancelled()
    assert [await name_of(storage, n) for n in (1, 3)] == ["name 1", "name 3"]
    await decide(storage, 2, renamed(2, "name 2"))


async def test_everybody_hears_of_a_database_that_is_gone_and_is_served_once_it_is_back(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise OSError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "many", refuse)
        outcomes = await asyncio.gather(
            *(decide(storage, n, renamed(n, "never")) for n in (1, 2, 3)), return_exceptions=True
        )
    assert all(isinstance(outcome, OSError) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == len(outcomes)
    await decide(storage, 1, renamed(1, "again"))
    assert await name_of(storage, 1) == "again"


async def test_more_than_the_queue_holds_are_turned_away_at_once(
    storage: PostgresStorage,
) -> None:
    batches = Batches(storage._pool, longest_queue=3)
    outcomes = await asyncio.gather(
        *(batches.rows(ECHO, str(n), 0) for n in range(5)), return_exceptions=True
    )
    assert [isinstance(outcome, StorageBusy) for outcome in outcomes] == [False] * 3 + [True] * 2
    assert [rows[0][0] for rows in outcomes[:3] if not isinstance(rows, BaseException)] == [
        "0", "1", "2",
    ]  # fmt: skip
    assert (await batches.rows(ECHO, "later", 0))[0][0] == "later"


async def test_generations_are_numbered_one_after_the_other_within_a_batch(
    storage: PostgresStorage,
) -> None:
    """Two relationships of one device may hand over a token in the same moment."""

    def hands_over(number: int) -> Any:
        return lambda _: Change(
            at=device(1).created_at,
            answer=None,
            records=(record(number, holder=1),),
        )

    await asyncio.gather(*(decide(storage, n, hands_over(n)) for n in (1, 2, 3)))
    state = await visible_state(storage)
    assert sorted(one.generation for one in state["records"].values()) == [1, 2, 3]


async def test_a_batch_that_waits_for_a_row_is_passed_by(
    storage: PostgresStorage, postgres_url: str
) -> None:
    """Somebody holds one device's row; the others' messages of the same kind need not wait with it."""
    holder = await asyncpg.connect(postgres_url)
    try:
        await holder.execute("BEGIN")
        await holder.execute("SELECT 1 FROM enrollment WHERE key = $1 FOR UPDATE", key(1))
        async with asyncio.TaskGroup() as group:
            stuck = group.create_task(decide(storage, 1, renamed(1, "one")))
            while not await holder.fetchval(WAITS):
                pass
            await asyncio.gather(*(decide(storage, n, renamed(n, "on time")) for n in (2, 3)))
            assert not stuck.done()
            await holder.execute("ROLLBACK")
    finally:
        await holder.close()
    assert [await name_of(storage, n) for n in (1, 2, 3)] == ["one", "on time", "on time"]
