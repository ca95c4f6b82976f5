"""Two nodes on one database: whatever they do at the same moment is as if they had done it one after the other."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from conformance.storage_twins import show, store, visible_state
from conformance.storage_values import (
    NOON,
    MovedClock,
    after,
    audit,
    binding,
    by_certificate,
    challenge,
    channel,
    command,
    credential,
    device,
    digest,
    escrow,
    fingerprint,
    invitation,
    key,
    pointer,
    record,
    user,
)
from ostiary.domain.command import CommandState
from ostiary.domain.decision import (
    Ask,
    ByKey,
    CancelCommands,
    Change,
    CommandMove,
    EscrowView,
    QueueView,
    Snapshot,
    Wake,
)
from ostiary.domain.enrollment import Standing, State
from ostiary.domain.escrow import EscrowState
from ostiary.domain.invitation import Challenge, Invitation, Spend
from ostiary.errors import Conflicting, Refused
from ostiary.storage.audit_chain import FIRST_HASH, next_hash
from ostiary.storage.postgres.storage import PostgresStorage, open_postgres

Nodes = tuple[PostgresStorage, PostgresStorage]


@pytest.fixture
async def nodes(postgres_url: str) -> AsyncIterator[Nodes]:
    async with (
        open_postgres(postgres_url, clock=MovedClock()) as one,
        open_postgres(postgres_url, clock=MovedClock()) as other,
    ):
        yield one, other


def hand_out(snapshot: Snapshot) -> Change[str | None]:
    """A rule that hands out what is queued first, once."""
    queued = [one for one in snapshot.queue if one.state is CommandState.QUEUED]
    if not queued:
        return Change(at=NOON, answer=None)
    move = CommandMove(uuid=queued[0].uuid, to=CommandState.SENT, sent_at=NOON, hand_outs=1)
    return Change(at=NOON, answer=queued[0].uuid, moves=(move,))


@pytest.mark.case("CQ-15")
async def test_a_command_is_handed_out_once_by_however_many_nodes(nodes: Nodes) -> None:
    """Two Idles of one device at the same moment, through two nodes. (3.4)"""
    names = [f"command {number}" for number in range(12)]
    await store(nodes[0], rows=(device(1),), enqueue=tuple(command(n, to=1) for n in names))
    # Two are shown at a time and sent ones come first, so each is closed by being deferred here.
    ask = Ask(who=ByKey(key=key(1)), queue=QueueView.WITHOUT_DEFERRED)

    def defer(snapshot: Snapshot) -> Change[str | None]:
        change = hand_out(snapshot)
        moves = tuple(replace(move, to=CommandState.DEFERRED) for move in change.moves)
        return replace(change, moves=moves)

    changes = await asyncio.gather(
        *(node.enrollments.decide(ask, defer) for node in nodes for _ in range(10))
    )
    handed_out = [change.answer for change in changes if change.answer is not None]
    assert sorted(handed_out) == sorted(names)


@pytest.mark.case("CQ-15")
async def test_two_idles_at_once_are_not_told_two_commands(nodes: Nodes) -> None:
    """The second sees what the first was told, and is told the same again."""
    await store(nodes[0], rows=(device(1),), enqueue=(command("a", to=1), command("b", to=1)))
    ask = Ask(who=ByKey(key=key(1)), queue=QueueView.WHOLE)

    def again(snapshot: Snapshot) -> Change[str]:
        first = snapshot.queue[0]
        move = CommandMove(
            uuid=first.uuid, to=CommandState.SENT, sent_at=NOON, hand_outs=first.hand_outs + 1
        )
        return Change(at=NOON, answer=first.uuid, moves=(move,))

    changes = await asyncio.gather(
        *(node.enrollments.decide(ask, again) for node in nodes for _ in range(8))
    )
    assert {change.answer for change in changes} == {"a"}
    commands = (await visible_state(nodes[1]))["commands"]
    assert commands[key(1), "a"].hand_outs == 16
    assert commands[key(1), "b"].state is CommandState.QUEUED


async def test_decisions_on_one_row_are_counted_each(nodes: Nodes) -> None:
    await store(nodes[0], rows=(device(1),))

    def count(snapshot: Snapshot) -> Change[int]:
        row = snapshot.device
        assert row is not None
        counted = replace(row, token_updates=row.token_updates + 1)
        return Change(at=NOON, answer=counted.token_updates, rows=(counted,))

    ask = Ask(who=ByKey(key=key(1)))
    changes = await asyncio.gather(
        *(node.enrollments.decide(ask, count) for node in nodes for _ in range(25))
    )
    assert sorted(change.answer for change in changes) == list(range(1, 51))


async def test_decisions_about_an_escrow_are_made_one_after_the_other(nodes: Nodes) -> None:
    """On the device's channel and on its user's, by two nodes: none is made on what another has changed since."""
    await store(nodes[0], rows=(device(1), user(2, parent=1)), escrows=(escrow(1, trouble="0"),))

    def count(snapshot: Snapshot) -> Change[int]:
        (seen,) = snapshot.escrows
        counted = int(seen.trouble or "") + 1
        return Change(at=NOON, answer=counted, escrows=(replace(seen, trouble=str(counted)),))

    changes = await asyncio.gather(
        *(
            node.enrollments.decide(Ask(who=ByKey(key=key(of)), escrows=EscrowView.ALWAYS), count)
            for node in nodes
            for of in (1, 2)
            for _ in range(8)
        )
    )
    assert sorted(change.answer for change in changes) == list(range(1, 33))


async def test_who_only_looked_at_an_escrow_decides_on_what_it_says_now(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a user's channel queues because of it is queued on the escrow as it is then, or not at all."""
    settled, under_way = EscrowState.SETTLED, EscrowState.IN_FLIGHT
    await store(nodes[0], rows=(device(1), user(2, parent=1)), escrows=(escrow(1),))
    view = EscrowView.ALWAYS
    shown: list[EscrowState] = []

    def begin(snapshot: Snapshot) -> Change[None]:
        (seen,) = snapshot.escrows
        return Change(at=NOON, answer=None, escrows=(replace(seen, state=under_way),))

    def look(snapshot: Snapshot) -> Change[EscrowState]:
        (seen,) = snapshot.escrows
        shown.append(seen.state)
        enqueue = (command("one", to=2),) if seen.state is settled else ()
        wake = Wake(enrollment_key=key(2), due_at=NOON)
        return Change(at=NOON, answer=seen.state, enqueue=enqueue, wakes=(wake,))

    loaded = asyncio.Event()
    go_on = asyncio.Event()
    write = nodes[1].enrollments._write

    async def write_later(*parts: Any) -> None:
        if not loaded.is_set():
            loaded.set()
            await go_on.wait()
        await write(*parts)

    monkeypatch.setattr(nodes[1].enrollments, "_write", write_later)
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(
            nodes[1].enrollments.decide(Ask(who=ByKey(key=key(2)), escrows=view), look)
        )
        await loaded.wait()
        await nodes[0].enrollments.decide(Ask(who=ByKey(key=key(1)), escrows=view), begin)
        go_on.set()
    assert shown == [settled, under_way]
    assert looking.result().answer is under_way
    assert (await visible_state(nodes[0]))["commands"] == {}


async def test_an_escrow_is_claimed_by_one_node(nodes: Nodes) -> None:
    due = tuple(escrow(number, due_at=NOON) for number in range(1, 61))
    await store(nodes[0], escrows=due)

    async def claim_all(node: PostgresStorage) -> list[str]:
        taken: list[str] = []
        while some := await node.escrows.claim_due(NOON, limit=7, lease=timedelta(minutes=1)):
            taken += [one.holder for one in some]
        return taken

    taken = await asyncio.gather(*(claim_all(node) for node in nodes for _ in range(3)))
    claimed = [one for holders in taken for one in holders]
    assert sorted(claimed) == sorted(one.holder for one in due)


async def test_a_command_queued_while_the_device_polls_keeps_its_wake(nodes: Nodes) -> None:
    """An Idle that saw an empty queue must not take away the wake of what was queued meanwhile."""
    await store(nodes[0], rows=(device(1),))
    ask = Ask(who=ByKey(key=key(1)), queue=QueueView.WHOLE)

    def settle(snapshot: Snapshot) -> Change[None]:
        drops = () if snapshot.queue else (key(1),)
        return Change(at=NOON, answer=None, drop_wakes=drops)

    def enqueue(name: str) -> Any:
        wake = Wake(enrollment_key=key(1), due_at=NOON)
        return lambda _: Change(at=NOON, answer=None, enqueue=(command(name, to=1),), wakes=(wake,))

    await asyncio.gather(
        *(nodes[0].enrollments.decide(ask, settle) for _ in range(10)),
        nodes[1].enrollments.decide(ask, enqueue("one")),
        *(nodes[1].enrollments.decide(ask, settle) for _ in range(10)),
    )
    assert (await visible_state(nodes[0]))["wakes"] == {
        key(1): Wake(enrollment_key=key(1), due_at=NOON)
    }


async def test_nothing_is_queued_for_a_device_that_is_leaving(nodes: Nodes) -> None:
    """Every command is refused or cancelled, none stays behind on a device that is out. (2.3)"""
    await store(nodes[0], rows=(device(1), user(2, parent=1)))

    def leave(snapshot: Snapshot) -> Change[None]:
        assert snapshot.device is not None
        gone = replace(snapshot.device, state=State.OUT)
        cancel = CancelCommands(enrollment_key=key(1), users=True, cause="Left.")
        return Change(at=NOON, answer=None, rows=(gone,), cancel=(cancel,))

    def enqueue(name: str, to: int) -> Any:
        def rule(snapshot: Snapshot) -> Change[None]:
            assert snapshot.device is not None
            if not snapshot.device.state.is_served:
                return Change(at=NOON, answer=None)
            return Change(at=NOON, answer=None, enqueue=(command(name, to=to),))

        return rule

    await asyncio.gather(
        *(
            node.enrollments.decide(Ask(who=ByKey(key=key(to))), enqueue(f"{number}-{to}", to))
            for node, number in ((nodes[0], 1), (nodes[1], 2), (nodes[0], 3), (nodes[1], 4))
            for to in (1, 2)
        ),
        nodes[1].enrollments.decide(Ask(who=ByKey(key=key(1))), leave),
        nodes[0].enrollments.decide(Ask(who=ByKey(key=key(2))), enqueue("late", 2)),
    )
    state = await visible_state(nodes[0])
    assert state["commands"] == {}


async def test_a_newcomer_that_comes_through_two_nodes_is_one_relationship(nodes: Nodes) -> None:
    """A device repeats its Authenticate; each attempt would make a row with a key of its own."""

    def arrive(number: int) -> Any:
        def rule(snapshot: Snapshot) -> Change[str]:
            if snapshot.device is not None:
                return Change(at=NOON, answer=snapshot.device.key)
            row = device(number, id=device(1).id, standing=Standing.CONTESTED)
            bound = binding(1, to=number)
            return Change(at=NOON, answer=row.key, rows=(row,), bind=(bound,))

        return rule

    ask = Ask(who=by_certificate(1, channel(1)), relationships=True)
    changes = await asyncio.gather(
        *(nodes[number % 2].enrollments.decide(ask, arrive(number)) for number in range(1, 13))
    )
    assert len({change.answer for change in changes}) == 1
    assert len((await visible_state(nodes[0]))["enrollments"]) == 1


async def test_a_wake_is_claimed_by_one_node(nodes: Nodes) -> None:
    rows = tuple(device(number, push=pointer(1)) for number in range(1, 61))
    wakes = tuple(Wake(enrollment_key=row.key, due_at=NOON) for row in rows)
    await store(nodes[0], rows=rows, records=(record(1, holder=1),), wakes=wakes)

    async def claim_all(node: PostgresStorage) -> list[str]:
        taken: list[str] = []
        while due := await node.wakes.claim(NOON, limit=7, lease=timedelta(minutes=1)):
            taken += [one.enrollment.key for one in due]
        return taken

    taken = await asyncio.gather(*(claim_all(node) for node in nodes for _ in range(3)))
    claimed = [one for keys in taken for one in keys]
    assert sorted(claimed) == sorted(row.key for row in rows)


async def test_a_wake_written_on_one_node_rings_on_the_other(nodes: Nodes) -> None:
    await store(nodes[0], rows=(device(1),))
    assert await nodes[1]._bell._listen()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(nodes[1].wakes.wait(600))
        await store(nodes[0], wakes=(Wake(enrollment_key=key(1), due_at=NOON),))


async def test_many_wakes_in_a_moment_are_one_notification(nodes: Nodes) -> None:
    await store(nodes[0], rows=(device(1),))
    heard: list[object] = []
    bell = nodes[1]._bell
    bell._hear = lambda *told: heard.append(told)  # type: ignore[method-assign]  # counts
    await bell._listen()
    for _ in range(30):
        nodes[0]._bell.ring()
    await nodes[0]._bell.close()  # what is still to be told is told
    session = bell._session
    assert session is not None
    await session.rows("SELECT 1")  # what was notified before arrives before this answer
    assert len(heard) == 1


def spend(number: int) -> Any:
    def rule(held: Challenge, asked: Invitation | None) -> Spend | None:
        if held.issued is not None:
            return None
        if asked is not None and asked.uses_left < 1:
            raise UsedUp
        return Spend(
            challenge=replace(held, spent_at=after(minutes=1), issued=fingerprint(number)),
            credential=credential(number, challenge_id=held.id),
            certificate=b"der %d" % number,
        )

    return rule


class UsedUp(Refused):
    """The invitation is used up."""


async def test_a_challenge_is_spent_once_and_all_get_the_same_certificate(nodes: Nodes) -> None:
    """(6.3 rule 2, SC-01)"""
    await nodes[0].challenges.add_challenge(challenge(2))
    answers = await asyncio.gather(
        *(nodes[number % 2].challenges.spend(digest(2), spend(number)) for number in range(12))
    )
    assert len(set(answers)) == 1
    assert len((await visible_state(nodes[0]))["credentials"]) == 1


async def test_an_invitation_is_used_no_more_often_than_it_may(nodes: Nodes) -> None:
    asked = invitation(1, uses_left=3)
    await nodes[0].challenges.add_invitation(asked, audit("invite"))
    for number in range(10, 20):
        await nodes[0].challenges.add_challenge(challenge(number, invitation_id=asked.id))
    answers = await asyncio.gather(
        *(
            nodes[number % 2].challenges.spend(digest(number), spend(number))
            for number in range(10, 20)
        ),
        return_exceptions=True,
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["UsedUp"] * 7 + ["bytes"] * 3


async def test_two_nodes_chain_one_audit(nodes: Nodes) -> None:
    entries = [audit(f"verb {number}") for number in range(20)]
    await asyncio.gather(
        *(store(nodes[number % 2], audit=entry) for number, entry in enumerate(entries))
    )
    chain = (await visible_state(nodes[0]))["audit"]
    assert sorted(entry.verb for entry, _ in chain) == sorted(entry.verb for entry in entries)
    previous = FIRST_HASH
    for number, (entry, stored) in enumerate(chain, 1):
        previous = next_hash(previous, entry, number, NOON)
        assert stored == previous


async def test_what_one_node_still_keeps_in_memory_does_not_put_last_seen_back(
    nodes: Nodes,
) -> None:
    await store(nodes[0], rows=(device(1),))
    await store(nodes[0], seen=key(1), at=after(minutes=1))
    await store(nodes[1], seen=key(1), at=after(minutes=2))
    await nodes[1].enrollments.flush_seen()
    await nodes[0].enrollments.flush_seen()
    shown = await show(nodes[0], Ask(who=ByKey(key=key(1))))
    assert shown.device == device(1, last_seen_at=after(minutes=2), version=1)


async def test_a_change_that_never_fits_is_refused_in_the_end(nodes: Nodes) -> None:
    with pytest.raises(Conflicting):
        await store(nodes[0], rows=(device(1, version=7),))
