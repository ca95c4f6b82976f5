"""A clock that was a year ahead leaves nothing behind that is not due for a year."""

from datetime import timedelta

from conformance.storage_twins import AnyStorage, store
from conformance.storage_values import NOON, device, key, pointer, record
from ostiary.domain.decision import Wake
from ostiary.domain.push_schedule import FURTHEST

A_YEAR, LEASE = timedelta(days=365), timedelta(minutes=2)


async def woken(storage: AnyStorage) -> list[str]:
    return [one.enrollment.id for one in await storage.wakes.claim(NOON, limit=10, lease=LEASE)]


async def plan(storage: AnyStorage, *due_in: timedelta) -> None:
    numbers = range(1, len(due_in) + 1)
    await store(
        storage,
        rows=tuple(device(number, push=pointer(number)) for number in numbers),
        records=tuple(record(number, holder=number) for number in numbers),
        wakes=tuple(
            Wake(enrollment_key=key(number), due_at=NOON + due)
            for number, due in zip(numbers, due_in, strict=True)
        ),
    )


async def test_a_wake_planned_by_a_clock_that_was_ahead_is_due(storage: AnyStorage) -> None:
    """check-in-and-commands.md 5.2: no plan reaches further than a week, and what does is none of ours."""
    await plan(storage, A_YEAR, FURTHEST - timedelta(hours=1), timedelta(hours=1))
    assert await woken(storage) == [device(1).id]
    assert await woken(storage) == [], "and is leased from then on as any other"


async def test_a_wake_that_was_taken_by_a_clock_that_was_ahead_is_due_again(
    storage: AnyStorage,
) -> None:
    """Its pusher died, and its lease would have ended in a year."""
    await plan(storage, timedelta(0))
    assert await storage.wakes.claim(NOON + A_YEAR, limit=10, lease=LEASE)
    assert await woken(storage) == [device(1).id]
