"""What every storage shows and remembers of identities that end."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from conformance.storage_twins import AnyStorage, store, visible_state
from conformance.storage_values import (
    NOON,
    after,
    binding,
    closed,
    command,
    device,
    fingerprint,
    key,
)
from ostiary.domain.command import CommandState
from ostiary.domain.decision import Alert, Supersede
from ostiary.domain.enrollment import Standing
from ostiary.domain.renewal import Renewal, RenewalPhase
from ostiary.domain.renewal_wave import Tally
from ostiary.domain.retention import Aged
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.ports.renewals import EndingPlace
from ostiary.protocol.mdm.connect import CommandUuid

FAR = after(days=10_000)


def renewal(number: int, **changes: Any) -> Renewal:
    facts: dict[str, Any] = {
        "enrollment_key": key(number),
        "tenant": DEFAULT_TENANT,
        "phase": RenewalPhase.SCHEDULED,
        "fingerprint": fingerprint(number),
        "look_at": NOON,
    }
    return Renewal(**{**facts, **changes})


def asked(number: int, at: datetime = NOON, **changes: Any) -> Renewal:
    uuid = CommandUuid(f"RENEW-{number}")
    facts = {"phase": RenewalPhase.ASKED, "asked_at": at, "command_uuid": uuid}
    return renewal(number, **{**facts, **changes})


async def enroll(storage: AnyStorage, *numbers: int) -> None:
    await store(storage, rows=tuple(device(number) for number in numbers))


async def remembered(storage: AnyStorage, number: int) -> Renewal | None:
    (sight,) = await storage.renewals.look([key(number)])
    return sight.renewal


async def test_certificates_in_force_are_walked_in_the_order_in_which_they_end(
    storage: AnyStorage,
) -> None:
    ends = {1: 30, 2: 10, 3: 20, 4: 20, 5: 400}
    bindings = tuple(binding(n, 1, not_after=after(days=days)) for n, days in ends.items())
    await store(storage, rows=(device(1),), bind=bindings)
    first = await storage.renewals.list_ending(None, after(days=100), limit=2)
    assert [one.fingerprint for one in first] == [fingerprint(2), fingerprint(3)]
    place = EndingPlace(not_after=first[-1].not_after, fingerprint=first[-1].fingerprint)
    rest = await storage.renewals.list_ending(place, after(days=100), limit=5)
    assert [one.fingerprint for one in rest] == [fingerprint(4), fingerprint(1)]
    assert rest[0] == bindings[3]


async def test_a_certificate_that_was_replaced_is_walked_past(storage: AnyStorage) -> None:
    await store(storage, rows=(device(1),), bind=(binding(1, 1), binding(2, 1)))
    gone = Supersede(enrollment_key=key(1), keep=fingerprint(2), cause="renewed")
    await store(storage, supersede=(gone,))
    found = await storage.renewals.list_ending(None, FAR, limit=5)
    assert [one.fingerprint for one in found] == [fingerprint(2)]
    (sight,) = await storage.renewals.look([key(1)])
    assert [one.fingerprint for one in sight.bindings] == [fingerprint(2)]


async def test_certificates_of_which_nothing_is_remembered_are_walked_apart(
    storage: AnyStorage,
) -> None:
    bindings = tuple(binding(n, n, not_after=after(days=n)) for n in range(1, 6))
    await store(storage, rows=tuple(device(n) for n in range(1, 6)), bind=bindings)
    await storage.renewals.schedule([renewal(1), asked(3)])
    found = await storage.renewals.list_unscheduled(None, FAR, limit=2)
    assert found == (bindings[1], bindings[3])
    place = EndingPlace(not_after=found[-1].not_after, fingerprint=found[-1].fingerprint)
    assert await storage.renewals.list_unscheduled(place, FAR, limit=2) == (bindings[4],)
    assert await storage.renewals.list_unscheduled(place, after(days=4), limit=2) == ()


async def test_a_look_shows_the_relationship_its_certificates_and_what_is_remembered(
    storage: AnyStorage,
) -> None:
    ending = binding(2, 1, not_after=after(days=5))
    await store(storage, rows=(device(1), device(2)), bind=(binding(1, 1), ending))
    await storage.renewals.schedule([renewal(1)])
    one, other = await storage.renewals.look([key(1), key(9), key(2), key(1)])
    assert (one.enrollment.id, other.enrollment.id) == (device(1).id, device(2).id)
    assert one.bindings == (ending, binding(1, 1))
    assert one.renewal == renewal(1)
    assert (other.bindings, other.renewal, other.command) == ((), None, None)


async def test_a_look_shows_what_became_of_the_command(storage: AnyStorage) -> None:
    live = command("RENEW-1", 1, state=CommandState.QUEUED)
    ended = closed(
        "RENEW-2", 2, state=CommandState.FAILED, closed_at=NOON, result='{"ErrorChain": []}'
    )
    await store(storage, rows=(device(1), device(2), device(3)), enqueue=(live,), close=(ended,))
    await storage.renewals.schedule([asked(1), asked(2), asked(3)])
    sights = await storage.renewals.look([key(1), key(2), key(3)])
    first, second, third = [sight.command for sight in sights]
    assert first is not None
    assert second is not None
    assert third is None
    assert (first.state, first.closed_at, first.result) == (CommandState.QUEUED, None, "")
    assert (second.state, second.closed_at, second.result) == (
        CommandState.FAILED, NOON, '{"ErrorChain": []}',
    )  # fmt: skip


async def test_those_who_want_a_turn_and_all_others_are_listed_apart_the_longest_due_first(
    storage: AnyStorage,
) -> None:
    await enroll(storage, 1, 2, 3, 4, 5, 6)
    await storage.renewals.schedule(
        [
            renewal(1, look_at=after(hours=-1)),
            renewal(2, look_at=after(hours=-2), phase=RenewalPhase.FAILED),
            renewal(3, look_at=after(hours=1)),
            asked(4, look_at=after(hours=-3)),
            asked(5, look_at=after(hours=3)),
            renewal(6, look_at=after(hours=-4), phase=RenewalPhase.UNANSWERED),
        ]
    )
    assert await storage.renewals.list_due(NOON, limit=5) == (key(2), key(1))
    assert await storage.renewals.list_due(NOON, limit=1) == (key(2),)
    assert await storage.renewals.list_looks(NOON, limit=5) == (key(6), key(4))


async def test_what_is_known_is_not_scheduled_again(storage: AnyStorage) -> None:
    await enroll(storage, 1)
    await storage.renewals.schedule([asked(1)])
    await storage.renewals.schedule([renewal(1), renewal(7)])
    assert await remembered(storage, 1) == asked(1)


async def test_only_one_of_two_who_saw_the_same_moves_on(storage: AnyStorage) -> None:
    """Never two renewals under way for one enrollment: the second finds the note of the first."""
    await enroll(storage, 1)
    assert await storage.renewals.move(None, renewal(1), NOON)
    assert not await storage.renewals.move(None, renewal(1), NOON)
    seen = await remembered(storage, 1)
    assert seen is not None
    assert await storage.renewals.move(seen, asked(1), NOON)
    assert not await storage.renewals.move(seen, asked(1, after(hours=1)), NOON)
    now = await remembered(storage, 1)
    assert now == replace(asked(1), version=2)
    assert not await storage.renewals.move(seen, None, NOON)
    assert await storage.renewals.move(now, None, NOON)
    assert await remembered(storage, 1) is None


async def test_of_many_who_move_at_once_one_does(storage: AnyStorage) -> None:
    await enroll(storage, 1)
    begun = await asyncio.gather(*(storage.renewals.move(None, renewal(1), NOON) for _ in range(4)))
    assert sum(begun) == 1
    seen = await remembered(storage, 1)
    moved = await asyncio.gather(*(storage.renewals.move(seen, asked(1), NOON) for _ in range(4)))
    assert sum(moved) == 1


async def test_nothing_is_remembered_of_a_relationship_that_is_gone(storage: AnyStorage) -> None:
    assert not await storage.renewals.move(None, renewal(1), NOON)
    assert await storage.renewals.list_due(NOON, limit=5) == ()


async def test_alerts_are_raised_with_the_move_and_not_without_it(storage: AnyStorage) -> None:
    await enroll(storage, 1)
    told = Alert(tenant=DEFAULT_TENANT, subject="UDID-1", kind="told", sentence="Look.")
    assert await storage.renewals.move(None, renewal(1), NOON, (told,))
    assert not await storage.renewals.move(None, renewal(1), NOON, (told,))
    assert await storage.renewals.move(None, None, NOON, (replace(told, kind="alone"),))
    found = (await visible_state(storage))["alerts"]
    assert {place[2]: line.count for place, line in found.items()} == {"told": 1, "alone": 1}


async def test_canaries_are_listed(storage: AnyStorage) -> None:
    await enroll(storage, 1, 2, 3)
    canaries = [asked(3, is_canary=True), renewal(1, is_canary=True)]
    await storage.renewals.schedule([*canaries, renewal(2)])
    assert await storage.renewals.list_canaries(limit=5) == (canaries[1], canaries[0])
    assert await storage.renewals.list_canaries(limit=1) == (canaries[1],)


async def test_what_was_asked_and_what_came_of_it_lately_is_counted(storage: AnyStorage) -> None:
    await enroll(storage, *range(1, 9))
    minutes, hours, days = (after(minutes=-5), after(hours=-5), after(days=-5))
    ended = {"phase": RenewalPhase.COMPLETED, "asked_at": days}
    await storage.renewals.schedule(
        [
            asked(1, minutes),
            asked(2, hours),
            asked(3, days),
            asked(4, after(minutes=5)),
            renewal(5, finished_at=hours, **ended),
            renewal(6, finished_at=days, **ended),
            renewal(7, finished_at=minutes, phase=RenewalPhase.FAILED, asked_at=days),
            renewal(8),
        ]
    )
    assert await storage.renewals.tally(NOON) == Tally(
        asked_last_hour=1, asked_last_day=2, completed_last_day=1, failed_last_day=1
    )


async def test_what_is_remembered_goes_with_its_relationship(storage: AnyStorage) -> None:
    long_ago = NOON - timedelta(days=900)
    row = device(
        1,
        standing=Standing.ENDED,
        authenticated_at=long_ago,
        last_seen_at=None,
        created_at=long_ago,
    )
    await store(storage, rows=(row,))
    await storage.renewals.schedule([renewal(1)])
    assert await storage.retention.drop_aged(Aged.RELATIONSHIPS, NOON, limit=5) == 1
    assert await storage.renewals.list_due(FAR, limit=5) == ()
