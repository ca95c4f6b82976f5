"""The command queue as a decision sees and moves it, on every engine. (check-in-and-commands.md 3.4)"""

import json
from typing import Any

import pytest

from conformance.storage_twins import AnyStorage, show, store, store_as, visible_state
from conformance.storage_values import (
    NOON,
    after,
    binding,
    by_certificate,
    channel,
    closed,
    command,
    device,
    key,
    record_id,
    user,
    uuid,
)
from ostiary.domain.command import CommandState, Priority, Reference
from ostiary.domain.decision import (
    Ask,
    ByKey,
    CancelCommands,
    CommandMove,
    QueueView,
    Snapshot,
)
from ostiary.domain.token import TokenKind
from ostiary.errors import Conflicting


@pytest.fixture
async def mac(storage: AnyStorage) -> AnyStorage:
    """A storage with device 1, its user 2, and device 3."""
    rows = (device(1), user(2, parent=1), device(3))
    await store(storage, rows=rows, bind=(binding(1, to=1),))
    return storage


async def see(
    storage: AnyStorage,
    number: int = 1,
    queue: QueueView = QueueView.WHOLE,
    reported: str | None = None,
) -> Snapshot:
    """What a decision on a channel sees of its queue."""
    name = None if reported is None else uuid(reported)
    return await show(storage, Ask(who=ByKey(key=key(number)), queue=queue, reported=name))


def names(snapshot: Snapshot) -> list[str]:
    return [one.uuid for one in snapshot.queue]


def move(name: str, to: CommandState, **changes: Any) -> CommandMove:
    return CommandMove(**{"uuid": uuid(name), "to": to, "sent_at": NOON, "hand_outs": 1, **changes})


async def test_a_command_comes_back_as_it_was_queued(mac: AnyStorage) -> None:
    queued = command(
        "one",
        to=1,
        priority=Priority.URGENT,
        references=(
            Reference(key="UnlockToken", kind=TokenKind.UNLOCK),
            Reference(key="A/B\x00", kind=TokenKind.RECOVERY_LOCK, record_id=record_id(1)),
            Reference(key="C", kind=TokenKind.BOOTSTRAP, optional=True),
        ),
        sent_at=after(minutes=1),
        hand_outs=3,
        state=CommandState.SENT,
    )
    await store(mac, enqueue=(queued,))
    (shown,) = (await see(mac)).queue
    assert shown.sequence > 0
    assert (await visible_state(mac))["commands"] == {(key(1), "one"): queued}


async def test_at_most_two_are_shown_sent_first_then_by_priority_then_by_arrival(
    mac: AnyStorage,
) -> None:
    """A sent command without a report stays first. (3.4 rules 1 and 9)"""
    await store(
        mac,
        enqueue=(
            command("release", to=1, priority=Priority.RELEASE),
            command("first", to=1),
            command("second", to=1, queued_at=after(minutes=-5)),
            command("urgent", to=1, priority=Priority.URGENT),
        ),
    )
    order = []
    for _ in range(4):
        shown = await see(mac)
        order.append(names(shown))
        await store(mac, close=(closed(shown.queue[0].uuid, of=1),))
    assert order == [["urgent", "first"], ["first", "second"], ["second", "release"], ["release"]]


async def test_a_sent_command_goes_before_an_urgent_one(mac: AnyStorage) -> None:
    urgent = command("urgent", to=1, priority=Priority.URGENT)
    await store(mac, enqueue=(command("one", to=1), urgent))
    await store_as(mac, Ask(who=ByKey(key=key(1))), moves=(move("one", CommandState.SENT),))
    shown = await see(mac)
    assert names(shown) == ["one", "urgent"]
    assert (shown.queue[0].sent_at, shown.queue[0].hand_outs) == (NOON, 1)


async def test_no_view_shows_no_queue(mac: AnyStorage) -> None:
    deferred = command("two", to=1, state=CommandState.DEFERRED)
    await store(mac, enqueue=(command("one", to=1), deferred))
    shown = await see(mac, queue=QueueView.NONE)
    assert (shown.queue, shown.has_deferred) == ((), False)


async def test_channels_do_not_see_each_others_commands(mac: AnyStorage) -> None:
    """(CQ-13)"""
    await store(mac, enqueue=(command("device's", to=1), command("user's", to=2)))
    assert names(await see(mac, 1)) == ["device's"]
    assert names(await see(mac, 2)) == ["user's"]
    assert names(await see(mac, 3)) == []
    by_user = Ask(who=by_certificate(1, channel(1, user_number=2)), queue=QueueView.WHOLE)
    assert names(await show(mac, by_user)) == ["user's"]
    by_stranger = Ask(who=by_certificate(1, channel(1, user_number=9)), queue=QueueView.WHOLE)
    assert names(await show(mac, by_stranger)) == []


async def test_deferred_commands_are_shown_in_the_whole_view_only(mac: AnyStorage) -> None:
    """Not re-offered in the same session, offered again at the next Idle. (3.4 rule 6)"""
    deferred = command("one", to=1, state=CommandState.DEFERRED)
    await store(mac, enqueue=(deferred, command("two", to=1)))
    whole = await see(mac)
    assert (names(whole), whole.has_deferred) == (["one", "two"], True)
    rest = await see(mac, queue=QueueView.WITHOUT_DEFERRED)
    assert (names(rest), rest.has_deferred) == (["two"], True)


@pytest.mark.parametrize("view", [QueueView.WHOLE, QueueView.WITHOUT_DEFERRED])
async def test_the_reported_command_is_shown_apart(mac: AnyStorage, view: QueueView) -> None:
    deferred = command("one", to=1, state=CommandState.DEFERRED)
    await store(mac, enqueue=(deferred, command("two", to=1)))
    shown = await see(mac, queue=view, reported="one")
    assert shown.reported is not None
    assert shown.reported.uuid == "one"
    assert (names(shown), shown.has_deferred) == (["two"], False)
    assert not shown.reported_is_closed


async def test_a_report_for_a_closed_or_unknown_command_is_told_apart(mac: AnyStorage) -> None:
    """A second report changes nothing, an unknown one is logged. (CQ-07, CQ-08)"""
    await store(mac, enqueue=(command("one", to=1), command("two", to=1)))
    await store(mac, close=(closed("one", of=1),))
    for reported, is_closed in (("one", True), ("never", False)):
        shown = await see(mac, reported=reported)
        assert (shown.reported, shown.reported_is_closed) == (None, is_closed)
        elsewhere = await see(mac, 3, reported=reported)
        assert not elsewhere.reported_is_closed
    await store(mac, close=(closed("two", of=1),))
    assert (await see(mac, reported="two")).reported_is_closed


async def test_a_closed_command_leaves_the_queue_for_history(mac: AnyStorage) -> None:
    await store(mac, enqueue=(command("one", to=1),))
    done = closed("one", of=1, state=CommandState.FAILED, result='{"error": "no"}')
    await store(mac, close=(done,))
    state = await visible_state(mac)
    assert (state["commands"], state["closed"]) == ({}, [done])


async def test_lifting_puts_deferred_commands_back_in_their_place(mac: AnyStorage) -> None:
    """DEFERRED, Idle, QUEUED: it keeps its place. (3.4)"""
    first = command("one", to=1, state=CommandState.DEFERRED)
    other = command("user's", to=2, state=CommandState.DEFERRED)
    await store(mac, enqueue=(first, command("two", to=1), other))
    await store(mac, lift_deferred=key(1))
    shown = await see(mac, queue=QueueView.WITHOUT_DEFERRED)
    assert (names(shown), shown.has_deferred) == (["one", "two"], False)
    assert (await see(mac, 2)).has_deferred


async def test_one_uuid_may_be_queued_for_many_channels(mac: AnyStorage) -> None:
    """NanoMDM's enqueue takes one command for many ids; each channel answers for itself."""
    await store(mac, enqueue=tuple(command("same", to=n) for n in (1, 2, 3)))
    await store_as(mac, Ask(who=ByKey(key=key(2))), moves=(move("same", CommandState.SENT),))
    states = {name: one.state for (name, _), one in (await visible_state(mac))["commands"].items()}
    assert states == {
        key(1): CommandState.QUEUED,
        key(2): CommandState.SENT,
        key(3): CommandState.QUEUED,
    }
    await store(mac, close=(closed("same", of=1),))
    assert (await see(mac, 1, reported="same")).reported_is_closed
    assert not (await see(mac, 2, reported="same")).reported_is_closed


async def test_a_command_is_moved_only_on_its_own_channel(mac: AnyStorage) -> None:
    await store(mac, enqueue=(command("one", to=1),))
    for who in (ByKey(key=key(3)), ByKey(key=key(99))):
        with pytest.raises(Conflicting):
            await store_as(mac, Ask(who=who), moves=(move("one", CommandState.SENT),))


@pytest.mark.parametrize(("users", "left"), [(True, {3}), (False, {2, 3})])
async def test_cancelling_closes_the_devices_queue_and_if_asked_its_users(
    mac: AnyStorage, users: bool, left: set[int]
) -> None:
    """(2.3: pending commands DEV and USR)"""
    await store(mac, enqueue=tuple(command(f"for {n}", to=n) for n in (1, 2, 3)))
    cancel = CancelCommands(enrollment_key=key(1), users=users, cause="Enrolled again.")
    await store(mac, cancel=(cancel,), at=after(hours=1))
    state = await visible_state(mac)
    assert {name for name, _ in state["commands"]} == {key(n) for n in left}
    gone = [n for n in (1, 2, 3) if n not in left]
    assert state["closed"] == [
        closed(
            f"for {n}",
            of=n,
            state=CommandState.CANCELLED,
            closed_at=after(hours=1),
            result=json.dumps({"cause": "Enrolled again."}),
            hand_outs=0,
        )
        for n in gone
    ]


async def test_a_command_cancelled_and_answered_in_one_change_is_answered(
    mac: AnyStorage,
) -> None:
    await store(mac, enqueue=(command("one", to=1), command("two", to=1)))
    cancel = CancelCommands(enrollment_key=key(1), users=True, cause="Erased.")
    await store(mac, cancel=(cancel,), close=(closed("one", of=1),))
    ended = {one.uuid: one.state for one in (await visible_state(mac))["closed"]}
    assert ended == {"two": CommandState.CANCELLED, "one": CommandState.DONE}


async def test_a_place_in_the_queue_is_never_given_again(mac: AnyStorage) -> None:
    await store(mac, enqueue=(command("one", to=1),))
    first = (await see(mac)).queue[0].sequence
    await store(mac, close=(closed("one", of=1),))
    await store(mac, enqueue=(command("two", to=1),))
    assert (await see(mac)).queue[0].sequence > first


async def test_commands_queued_in_one_change_stand_in_its_order(mac: AnyStorage) -> None:
    names_ = [f"command {number}" for number in (3, 1, 2)]
    await store_as(
        mac, Ask(who=ByKey(key=key(1))), enqueue=tuple(command(name, to=1) for name in names_)
    )
    order = (await visible_state(mac))["order"]
    assert order == [(key(1), name) for name in names_]
