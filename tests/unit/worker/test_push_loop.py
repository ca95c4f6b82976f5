"""The loop that wakes devices."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from ostiary.domain.enrollment import EnrollmentKey
from ostiary.ports.sealer import SealBroken
from ostiary.ports.storage import DueWake, StorageFailed, WakeStep
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.worker.push_loop import (
    PushPace,
    RepeatPace,
    push_due,
    run_push_loop,
    wake_silent_devices,
)
from unit.services.push_world import NOON, MovedClock, PushWorld


@dataclass
class SlowService:
    """A PushService of which each push waits until it is let go, or fails as told."""

    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    failing: dict[EnrollmentKey, Exception] = field(default_factory=dict)
    stuck: set[EnrollmentKey] = field(default_factory=set)
    """Whose pushes are never answered."""
    under_way: int = 0
    most_under_way: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def push(self, due: DueWake) -> WakeStep:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.started.set()
        try:
            if trouble := self.failing.get(due.enrollment.key):
                raise trouble
            await asyncio.sleep(0)
            await (asyncio.Event() if due.enrollment.key in self.stuck else self.let_go).wait()
        finally:
            self.under_way -= 1
        return WakeStep(
            enrollment_key=due.enrollment.key,
            record_id=due.push_record.id,
            at=NOON,
            attempt=due.attempt + 1,
            accepted=True,
            next_due_at=NOON + timedelta(minutes=1),
        )


@dataclass
class Scene:
    """A world with wakes, a service, and the loop between them."""

    world: PushWorld = field(default_factory=PushWorld)
    service: SlowService = field(default_factory=SlowService)
    clock: MovedClock = field(default_factory=MovedClock)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    pace: PushPace = field(default_factory=lambda: PushPace(gather=timedelta(0)))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(
                run_push_loop(
                    self.world, self.service, self.clock, self.stop, self.pace, RepeatPace(10)
                )
            )
            yield
            self.stop.set()

    async def world_waits(self) -> None:
        """Return once the loop waits anew."""
        self.world.waited.clear()
        await self.world.waited.wait()

    async def until_settled(self, count: int) -> None:
        while len(self.world.settled) < count:
            self.world.was_settled.clear()
            await self.world.was_settled.wait()


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_what_is_due_is_pushed_together_and_settled_in_one_go(scene: Scene) -> None:
    """One commit for a batch. (hot-path.md, Push)"""
    for number in range(5):
        scene.world.wake(scene.world.add(EnrollmentId(f"device-{number}")))
    scene.service.let_go.set()
    taken = await push_due(scene.world, scene.service, scene.clock, scene.stop, scene.pace)
    assert taken == 5
    assert len(scene.world.settled) == 5


async def test_what_is_not_due_waits(scene: Scene) -> None:
    scene.world.wake(scene.world.add(), NOON + timedelta(seconds=1))
    assert (await push_due(scene.world, scene.service, scene.clock, scene.stop, scene.pace)) == 0


async def test_the_loop_sleeps_until_the_next_is_due(scene: Scene) -> None:
    """A wake debounced by a second is not found out half a minute later. (check-in-and-commands.md 5.2)"""
    scene.service.let_go.set()
    async with scene.running():
        await scene.world_waits()
        scene.world.wake(scene.world.add(), NOON + timedelta(seconds=1))
        await scene.world_waits()
    assert scene.world.waits[:2] == [30.0, 1.0]


async def test_a_written_wake_ends_the_wait(scene: Scene) -> None:
    scene.service.let_go.set()
    async with scene.running():
        await scene.world_waits()
        scene.world.wake(scene.world.add())
        await scene.until_settled(1)


async def test_one_channels_trouble_is_not_the_others(scene: Scene) -> None:
    """A record that does not open is logged; its channel comes again after the lease."""
    broken, fine = scene.world.add(EnrollmentId("broken")), scene.world.add(EnrollmentId("fine"))
    scene.world.wake(broken)
    scene.world.wake(fine)
    scene.service.failing[broken.key] = SealBroken()
    scene.service.let_go.set()
    with capture_logs() as logs:
        await push_due(scene.world, scene.service, scene.clock, scene.stop, scene.pace)
    assert [step.enrollment_key for step in scene.world.settled] == [fine.key]
    assert scene.world.due_at[broken.key] == NOON + scene.pace.lease
    assert [(entry["event"], entry["error"]) for entry in logs] == [("push_failed", "seal_broken")]


async def test_a_foreign_exceptions_words_are_not_logged(scene: Scene) -> None:
    """They could hold a token. (style.md 8)"""
    row = scene.world.add()
    scene.world.wake(row)
    scene.service.failing[row.key] = RuntimeError("token deadbeef")
    with capture_logs() as logs:
        await push_due(scene.world, scene.service, scene.clock, scene.stop, scene.pace)
    assert "deadbeef" not in str(logs)
    assert logs[0]["error"] == "RuntimeError"


async def test_storage_that_fails_does_not_end_the_loop(scene: Scene) -> None:
    """Waited out, then on. (users.md 5.4, 14)"""

    class OnceFailing(PushWorld):
        failures_left = 1

        @override
        async def claim(
            self, now: datetime, *, limit: int, lease: timedelta
        ) -> tuple[DueWake, ...]:
            if self.failures_left:
                self.failures_left -= 1
                raise StorageFailed
            return await super().claim(now, limit=limit, lease=lease)

    scene.world = OnceFailing()
    scene.pace = PushPace(gather=timedelta(0), first_back_off=timedelta(0))
    scene.world.wake(scene.world.add())
    scene.service.let_go.set()
    with capture_logs() as logs:
        async with scene.running():
            await scene.until_settled(1)
    assert ("push_loop_failed", "storage_failed") in [(e["event"], e.get("error")) for e in logs]


async def test_a_storm_is_taken_in_batches(scene: Scene) -> None:
    """However many are due after an outage, so many are under way. (users.md 5.4, 36)"""
    scene.pace = PushPace(gather=timedelta(0), batch=10)
    for number in range(35):
        scene.world.wake(scene.world.add(EnrollmentId(f"device-{number}")))
    scene.service.let_go.set()
    async with scene.running():
        await scene.until_settled(35)
    assert scene.service.most_under_way == 10
    assert len({step.enrollment_key for step in scene.world.settled}) == 35


async def test_a_stopped_loop_settles_what_was_answered_and_leaves_the_rest_to_its_lease(
    scene: Scene,
) -> None:
    """Stopping waits a little for APNs, not for ever."""
    scene.pace = PushPace(gather=timedelta(0), drain=timedelta(0))
    scene.world.wake(scene.world.add())
    with capture_logs() as logs:
        async with scene.running():
            await scene.service.started.wait()
    assert scene.world.settled == []
    assert scene.service.under_way == 0
    assert [entry["event"] for entry in logs] == ["push_batch_cut_short"]


async def test_a_loop_told_to_stop_while_it_waits_stops(scene: Scene) -> None:
    async with scene.running():
        await scene.world_waits()


async def test_what_could_not_be_settled_is_pushed_again_after_its_lease(scene: Scene) -> None:
    """One push too many does no harm; a lost one would. (5.2)"""

    class Unsettled(PushWorld):
        @override
        async def settle(self, steps: Sequence[WakeStep]) -> None:
            raise StorageFailed(steps=len(steps))

    scene.world = Unsettled()
    row = scene.world.add()
    scene.world.wake(row)
    scene.service.let_go.set()
    with pytest.raises(StorageFailed):
        await push_due(scene.world, scene.service, scene.clock, scene.stop, scene.pace)
    assert scene.world.due_at[row.key] == NOON + scene.pace.lease


async def test_a_command_just_queued_does_not_stand_behind_a_storm_of_repeats(
    scene: Scene,
) -> None:
    """However many said NotNow, or were silent, or come after an outage. (5.2, docs/decisions/0015)"""
    for number in range(60):
        row = scene.world.add(EnrollmentId(f"repeat-{number}"))
        scene.world.wake(row)
        scene.world.wakes[-1] = replace(scene.world.wakes[-1], attempt=1)
    fresh = scene.world.add(EnrollmentId("fresh"))
    scene.world.wake(fresh)
    scene.service.let_go.set()
    scene.pace = PushPace(gather=timedelta(0), batch=20)
    with capture_logs() as logs:
        async with scene.running():
            await scene.until_settled(61)
    pushed = [step.enrollment_key for step in scene.world.settled if step.accepted]
    assert fresh.key in pushed
    assert len(pushed) == 1 + 10
    put_off = [step for step in scene.world.settled if not step.accepted]
    assert {(step.attempt, step.failures, step.dead_reason) for step in put_off} == {(1, 0, None)}
    turns = [step.next_due_at for step in put_off if step.next_due_at is not None]
    assert turns == [NOON + timedelta(seconds=(1 + n) / 10) for n in range(50)]
    assert sum(e["channels"] for e in logs if e["event"] == "push_repeats_put_off") == 50


async def test_a_push_that_is_never_answered_holds_up_its_own_batch_alone(scene: Scene) -> None:
    """APNs is slow for one, and the others are pushed and settled meanwhile. (users.md 5.4, 35)"""
    stuck = scene.world.add(EnrollmentId("stuck"))
    scene.world.wake(stuck)
    scene.service.stuck.add(stuck.key)
    scene.service.let_go.set()
    scene.pace = PushPace(gather=timedelta(0), batch=1, slow_after=timedelta(0), drain=timedelta(0))
    with capture_logs():
        async with scene.running():
            await scene.service.started.wait()
            for number in range(5):
                scene.world.wake(scene.world.add(EnrollmentId(f"device-{number}")))
            await scene.until_settled(5)
    assert stuck.key not in {step.enrollment_key for step in scene.world.settled}


async def test_no_more_batches_are_under_way_than_allowed(scene: Scene) -> None:
    """A silent APNs does not gather a fleet in memory. (users.md 5.4, 35)"""
    scene.pace = PushPace(
        gather=timedelta(0), batch=5, batches=2, slow_after=timedelta(0), drain=timedelta(0)
    )
    for number in range(50):
        scene.world.wake(scene.world.add(EnrollmentId(f"device-{number}")))
    with capture_logs():
        async with scene.running():
            for _ in range(1000):
                await asyncio.sleep(0)
            assert scene.service.most_under_way == 10


async def test_devices_silent_for_a_week_are_woken(scene: Scene) -> None:
    """Weekly where nothing is pending. (5.2)"""
    scene.world.add(EnrollmentId("silent"), last_seen_at=NOON - timedelta(days=8))
    scene.world.add(EnrollmentId("heard"), last_seen_at=NOON - timedelta(days=6))
    assert await wake_silent_devices(scene.world, scene.clock) == 1
    assert [due.enrollment.id for due in scene.world.wakes] == ["silent"]
