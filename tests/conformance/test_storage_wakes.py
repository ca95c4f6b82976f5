"""Which channels are to be pushed, and what a push led to, on every engine. (check-in-and-commands.md 5)"""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from conformance.storage_twins import AnyStorage, store, visible_state
from conformance.storage_values import (
    NOON,
    TOPIC,
    after,
    audit,
    command,
    device,
    key,
    pointer,
    push_certificate,
    record,
    record_id,
    user,
)
from ostiary.domain.command import CommandState, LiveCommand
from ostiary.domain.decision import Wake
from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.push_schedule import NOT_YET, PAUSED, UNREACHABLE
from ostiary.domain.push_target import PushTarget, SealedPush
from ostiary.domain.token import TokenState
from ostiary.ports.storage import DueWake, WakeStep

LEASE = timedelta(minutes=1)


def wake(number: int, due_at: datetime = NOON, **changes: Any) -> Wake:
    return Wake(**{"enrollment_key": key(number), "due_at": due_at, **changes})


def reachable(number: int, **changes: Any) -> Enrollment:
    """A device with a push token, record 100 and its number."""
    return device(number, push=pointer(100 + number), **changes)


async def furnish(storage: AnyStorage, *rows: Enrollment, wakes: tuple[Wake, ...] = ()) -> None:
    """Store rows, a push record for each, and wakes."""
    records = tuple(record(int(row.push.record_id, 16), holder=1) for row in rows if row.push)
    await store(storage, rows=rows, records=records, wakes=wakes)


async def claimed(storage: AnyStorage, now: datetime = NOON, limit: int = 10) -> list[str]:
    due = await storage.wakes.claim(now, limit=limit, lease=LEASE)
    return [one.enrollment.key for one in due]


def step(number: int, **changes: Any) -> WakeStep:
    facts: dict[str, Any] = {
        "enrollment_key": key(number),
        "record_id": record_id(100 + number),
        "at": after(seconds=5),
        "attempt": 1,
        "accepted": True,
        "next_due_at": after(minutes=5),
    }
    return WakeStep(**{**facts, **changes})


async def test_due_channels_are_claimed_earliest_first_with_all_that_a_push_needs(
    storage: AnyStorage,
) -> None:
    rows = tuple(reachable(n) for n in (1, 2, 3))
    wakes = (wake(1, attempt=2, failures=1), wake(2, after(seconds=-5)), wake(3, after(seconds=1)))
    await furnish(storage, *rows, wakes=wakes)
    due = await storage.wakes.claim(NOON, limit=10, lease=LEASE)
    assert [one.enrollment.key for one in due] == [key(2), key(1)]
    assert due[1] == DueWake(
        enrollment=PushTarget.of(reachable(1)),
        due_at=NOON,
        attempt=2,
        failures=1,
        has_work=False,
        has_new_work=False,
        push_record=SealedPush.of(record(101, holder=1)),
    )


async def test_a_claimed_channel_is_nobody_elses_until_the_lease_is_over(
    storage: AnyStorage,
) -> None:
    await furnish(storage, reachable(1), wakes=(wake(1),))
    assert await claimed(storage) == [key(1)]
    assert await claimed(storage) == []
    assert await claimed(storage, after(seconds=59)) == []
    assert await claimed(storage, after(seconds=60)) == [key(1)]


async def test_a_claim_takes_no_more_than_its_limit(storage: AnyStorage) -> None:
    rows = tuple(reachable(n) for n in range(1, 6))
    await furnish(storage, *rows, wakes=tuple(wake(n) for n in range(1, 6)))
    taken = [await claimed(storage, limit=2) for _ in range(3)]
    assert [len(keys) for keys in taken] == [2, 2, 1]
    assert {one for keys in taken for one in keys} == {key(n) for n in range(1, 6)}


async def test_what_cannot_be_pushed_is_left_out_and_does_not_stand_in_the_way(
    storage: AnyStorage,
) -> None:
    """Push only after the first TokenUpdate, never to a dead token or a paused topic. (TU-1, 5.5, CI-02)"""
    paused = push_certificate(900).topic
    await storage.push_certificates.save_push_certificate(push_certificate(900), audit("import"))
    await storage.push_certificates.pause_topic(
        paused, "BadCertificate", NOON, shown=record_id(900)
    )
    elsewhere = "com.apple.mgmt.External.other"
    rows = (
        reachable(1, topic=elsewhere, state=State.PENDING),
        reachable(2, topic=elsewhere, state=State.OUT),
        reachable(3, topic=elsewhere, push_dead_since=NOON, push_dead_reason="Unregistered"),
        device(4, topic=elsewhere),
        reachable(5, topic=TOPIC),
        reachable(6, topic=elsewhere, state=State.RENEWING),
    )
    wakes = tuple(wake(n, after(seconds=n - 60)) for n in range(1, 7))
    await furnish(storage, *rows, wakes=wakes)
    assert await claimed(storage, limit=1) == [key(6)]
    assert await claimed(storage, limit=1) == []
    held = (await visible_state(storage))["wakes"]
    assert held[key(5)] == wake(5, NOON + PAUSED, failures=1)
    assert held[key(1)] == wake(1, NOON + NOT_YET, failures=1)
    for number in (2, 3, 4):
        assert held[key(number)] == wake(number, NOON + UNREACHABLE, failures=1)


async def test_a_user_of_a_device_that_is_still_enrolling_is_looked_at_again_soon(
    storage: AnyStorage,
) -> None:
    """2.4: a user's TokenUpdate before the device's first is held; the device is reachable a minute later."""
    phone = device(1, state=State.PENDING)
    user_row = user(2, parent=1, push=pointer(2), topic=TOPIC)
    await furnish(storage, phone, user_row, wakes=(wake(2),))
    assert await claimed(storage) == []
    assert (await visible_state(storage))["wakes"][key(2)] == wake(2, NOON + NOT_YET, failures=1)


async def test_a_resumed_topics_channels_are_due_within_minutes_and_paced(
    storage: AnyStorage,
) -> None:
    """They count as having failed, so they are repeats: a fleet does not come back in one second. (5.2, 5.5)"""
    await storage.push_certificates.save_push_certificate(push_certificate(900), audit("import"))
    await storage.push_certificates.pause_topic(TOPIC, "BadCertificate", NOON, shown=record_id(900))
    await furnish(storage, reachable(1), wakes=(wake(1),))
    assert await claimed(storage) == []
    await storage.push_certificates.save_push_certificate(push_certificate(900), audit("resume"))
    (due,) = await storage.wakes.claim(NOON + PAUSED, limit=1, lease=LEASE)
    assert (due.enrollment.key, due.attempt, due.failures) == (key(1), 0, 1)


@pytest.mark.parametrize(
    ("commands", "has_work", "has_new_work"),
    [
        ((), False, False),
        ((command("seven", to=1),), True, True),
        ((command("seven", to=1, state=CommandState.SENT, hand_outs=1),), True, False),
        (
            (
                command("seven", to=1, state=CommandState.DEFERRED, hand_outs=1),
                command("eight", to=2),
            ),
            True,
            False,
        ),
        (
            (
                command("seven", to=1, state=CommandState.DEFERRED, hand_outs=1),
                command("eight", to=1),
            ),
            True,
            True,
        ),
    ],
    ids=["nothing", "new", "lost on the way", "said NotNow, another's new", "NotNow and new"],
)
async def test_a_claim_tells_whether_work_waits_and_whether_it_is_new(
    storage: AnyStorage, commands: tuple[LiveCommand, ...], has_work: bool, has_new_work: bool
) -> None:
    """Only new work is pushed without waiting for a turn. (5.2, docs/decisions/0015)"""
    await furnish(storage, reachable(1), reachable(2), wakes=(wake(1),))
    await store(storage, enqueue=commands)
    (due,) = await storage.wakes.claim(NOON, limit=5, lease=LEASE)
    assert (due.has_work, due.has_new_work) == (has_work, has_new_work)


async def test_devices_that_were_silent_for_a_week_are_woken_once(storage: AnyStorage) -> None:
    """Neither heard of nor pushed; dead tokens, users and whoever has a wake are left alone. (5.2)"""
    old, young = after(days=-8), after(days=-6)
    rows = (
        reachable(1, last_seen_at=old),
        reachable(2, last_seen_at=young),
        reachable(3, last_seen_at=old, pushed_at=young),
        reachable(4, last_seen_at=old, pushed_at=old),
        reachable(5, last_seen_at=old, push_dead_since=old, push_dead_reason="Unregistered"),
        reachable(6, last_seen_at=old, state=State.OUT),
        reachable(7, last_seen_at=old),
        device(8, last_seen_at=old),
        reachable(9, last_seen_at=None, enrolled_at=old),
        user(10, parent=1, push=pointer(110), last_seen_at=old),
    )
    await furnish(storage, *rows, wakes=(wake(7, after(days=1)),))
    since = after(days=-7)
    assert await storage.wakes.wake_silent(NOON, silent_since=since, limit=2) == 2
    assert await storage.wakes.wake_silent(NOON, silent_since=since, limit=2) == 1
    assert await storage.wakes.wake_silent(NOON, silent_since=since, limit=2) == 0
    assert (await visible_state(storage))["wakes"] == {
        **{key(n): wake(n, NOON, failures=1) for n in (1, 4, 9)},
        key(7): wake(7, after(days=1)),
    }


async def test_a_user_channel_is_pushed_by_its_own_token(storage: AnyStorage) -> None:
    await furnish(storage, reachable(1), user(2, parent=1, push=pointer(102)), wakes=(wake(2),))
    (due,) = await storage.wakes.claim(NOON, limit=1, lease=LEASE)
    assert (due.enrollment.key, due.push_record.id) == (key(2), record_id(102))


async def test_a_user_whose_device_is_not_served_is_not_pushed(storage: AnyStorage) -> None:
    """A user channel lives no longer than its device. (2.4)"""
    out = reachable(1, state=State.OUT)
    await furnish(storage, out, user(2, parent=1, push=pointer(102)), wakes=(wake(2),))
    assert await storage.wakes.next_due_at() is None
    assert await claimed(storage) == []


async def test_a_token_that_the_ledger_does_not_hold_is_not_pushed_to(
    storage: AnyStorage,
) -> None:
    await store(storage, rows=(reachable(1),), wakes=(wake(1),))
    assert await storage.wakes.next_due_at() is None
    assert await claimed(storage) == []


async def test_an_accepted_push_is_noted_and_the_wake_put_off(storage: AnyStorage) -> None:
    await furnish(storage, reachable(1), wakes=(wake(1),))
    await claimed(storage)
    await storage.wakes.settle([step(1, attempt=3, failures=2)])
    state = await visible_state(storage)
    assert state["enrollments"][key(1)] == replace(
        reachable(1), pushed_at=after(seconds=5), version=2
    )
    assert state["wakes"] == {key(1): wake(1, after(minutes=5), attempt=3, failures=2)}


async def test_a_settled_wake_without_a_next_time_is_gone(storage: AnyStorage) -> None:
    await furnish(storage, reachable(1), wakes=(wake(1),))
    await claimed(storage)
    await storage.wakes.settle([step(1, accepted=False, next_due_at=None)])
    state = await visible_state(storage)
    assert state["wakes"] == {}
    assert state["enrollments"][key(1)].pushed_at is None


@pytest.mark.parametrize("next_due_at", [None, after(hours=1)])
async def test_a_wake_renewed_since_it_was_claimed_stays_as_it_is(
    storage: AnyStorage, next_due_at: datetime | None
) -> None:
    """New work came in while the push was under way; it wants a push of its own."""
    await furnish(storage, reachable(1), wakes=(wake(1),))
    await claimed(storage)
    renewed = wake(1, after(seconds=3))
    await store(storage, wakes=(renewed,))
    await storage.wakes.settle([step(1, next_due_at=next_due_at)])
    assert (await visible_state(storage))["wakes"] == {key(1): renewed}
    assert await claimed(storage, after(seconds=3)) == [key(1)]


async def test_a_wake_dropped_since_it_was_claimed_does_not_come_back(
    storage: AnyStorage,
) -> None:
    await furnish(storage, reachable(1), wakes=(wake(1),))
    await claimed(storage)
    await store(storage, drop_wakes=(key(1),))
    await storage.wakes.settle([step(1)])
    assert (await visible_state(storage))["wakes"] == {}


async def test_a_dead_token_is_marked_on_its_row_and_in_the_ledger(storage: AnyStorage) -> None:
    """Not an unenrollment: state and secrets stay. (5.5, AP-02)"""
    await furnish(storage, reachable(1), wakes=(wake(1),))
    await claimed(storage)
    dead = step(
        1, accepted=False, next_due_at=None, dead_reason="Unregistered", dead_before=after(days=1)
    )
    await storage.wakes.settle([dead])
    state = await visible_state(storage)
    assert state["enrollments"][key(1)] == replace(
        reachable(1),
        push_dead_since=after(seconds=5),
        push_dead_reason="Unregistered",
        version=2,
    )
    assert state["records"][record_id(101)] == record(
        101,
        holder=1,
        generation=1,
        state=TokenState.DEAD,
        cause="Unregistered",
        changed_at=after(seconds=5),
    )
    await storage.wakes.settle([replace(dead, at=after(hours=2), dead_reason="again")])
    assert await visible_state(storage) == state


@pytest.mark.parametrize(
    "changes",
    [
        {"record_id": record_id(555)},
        {"dead_before": NOON},
        {"dead_before": after(seconds=-1)},
    ],
    ids=["another generation", "it arrived at that moment", "it arrived since"],
)
async def test_a_death_of_another_or_an_earlier_token_is_ignored(
    storage: AnyStorage, changes: dict[str, Any]
) -> None:
    """(5.5, AP-03)"""
    await furnish(storage, reachable(1), wakes=(wake(1),))
    before = await visible_state(storage)
    dead = step(1, accepted=False, dead_reason="Unregistered", **changes)
    await storage.wakes.settle([dead])
    assert await visible_state(storage) == before


async def test_a_death_without_a_moment_holds_for_the_current_token(storage: AnyStorage) -> None:
    await furnish(storage, reachable(1))
    await storage.wakes.settle([step(1, accepted=False, dead_reason="BadDeviceToken")])
    assert (await visible_state(storage))["enrollments"][key(1)].push_dead_since is not None


async def test_the_next_due_moment_is_that_of_the_earliest_wake_that_can_be_pushed(
    storage: AnyStorage,
) -> None:
    assert await storage.wakes.next_due_at() is None
    rows = (reachable(1), reachable(2), device(3), reachable(4, push_dead_since=NOON))
    await furnish(storage, *rows, wakes=(wake(3), wake(4)))
    assert await storage.wakes.next_due_at() is None
    await store(storage, wakes=(wake(1, after(hours=2)), wake(2, after(hours=1))))
    assert await storage.wakes.next_due_at() == after(hours=1)


async def test_settling_nothing_is_nothing(storage: AnyStorage) -> None:
    before = await visible_state(storage)
    await storage.wakes.settle([])
    assert await visible_state(storage) == before


async def test_who_waits_is_told_of_a_wake_that_was_written(storage: AnyStorage) -> None:
    await furnish(storage, reachable(1))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(storage.wakes.wait(60))
        await asyncio.sleep(0)
        assert not waiting.done()
        await store(storage, wakes=(wake(1),))
    # One that was written before anybody waited is not forgotten, and told once.
    await store(storage, wakes=(wake(1),))
    await storage.wakes.wait(60)
    await storage.wakes.wait(0)
