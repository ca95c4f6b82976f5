"""Pushes and what storage keeps of them: claimed, sent, settled, claimed again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from conformance.recording_pusher import RecordingPusher
from ostiary.domain.decision import Ask, AuditEntry, ByKey, ByName, Change, Wake
from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.token import DEFAULT_TENANT, RecordId, SealedValue, TokenRecord, TokenState
from ostiary.domain.wake import first_wake
from ostiary.ports.storage import Enrollments, PushCertificate, PushCertificates, Wakes
from ostiary.protocol.mdm.checkin import Topic
from ostiary.services.push import PushService
from ostiary.storage.memory.storage import MemoryStorage
from ostiary.storage.opening import open_storage
from ostiary.worker.push_loop import PushPace, push_due
from unit.services.push_world import NOON, UDID, LabelledSealer, MovedClock, PushWorld


@dataclass
class Scene:
    """One engine with one enrolled device, and pushes that somebody scripts."""

    enrollments: Enrollments
    wakes: Wakes
    certificates: PushCertificates
    clock: MovedClock
    pusher: RecordingPusher = field(default_factory=RecordingPusher)

    def __post_init__(self) -> None:
        self.service = PushService(
            enrollments=self.enrollments,
            certificates=self.certificates,
            pusher=self.pusher,
            sealer=LabelledSealer(),
            clock=self.clock,
            jitter=lambda: 0.0,
        )

    def answer(self, status: int, **fields: object) -> None:
        self.pusher.reply = lambda _request: (status, json.dumps(fields).encode())

    async def enroll(self, **changes: object) -> tuple[Enrollment, TokenRecord]:
        world = PushWorld()
        row = world.add(**changes)  # type: ignore[arg-type]  # fields of the test's choice
        record = world.record_by_id[world.due(row).push_record.id]
        wake = Wake(enrollment_key=row.key, due_at=first_wake(self.clock.now()))
        change = Change(
            at=self.clock.now(), answer=None, rows=(row,), records=(record,), wakes=(wake,)
        )
        who = ByName(tenant=DEFAULT_TENANT, enrollment_id=UDID)
        await self.enrollments.decide(Ask(who=who), lambda _found: change)
        return row, record

    async def push_due(self) -> int:
        stop = asyncio.Event()
        return await push_due(self.wakes, self.service, self.clock, stop, PushPace())

    async def stored(self, row: Enrollment) -> Enrollment:
        change = await self.enrollments.decide(
            Ask(who=ByKey(key=row.key)),
            lambda found: Change(at=self.clock.now(), answer=found.channel),
        )
        assert change.answer is not None
        return change.answer


@asynccontextmanager
async def in_memory(_folder: Path) -> AsyncIterator[Scene]:
    storage = MemoryStorage()
    yield Scene(storage.enrollments, storage.wakes, storage.push_certificates, MovedClock())


@asynccontextmanager
async def on_sqlite(folder: Path) -> AsyncIterator[Scene]:
    clock = MovedClock()
    storage = open_storage(f"sqlite:///{folder}/ostiary.db", clock)
    yield Scene(storage.enrollments, storage.wakes, storage.push_certificates, clock)
    await storage.close()


@pytest.fixture(params=[in_memory, on_sqlite], ids=["memory", "sqlite"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    async with request.param(tmp_path) as opened:
        yield opened


def milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


@pytest.mark.case("AP-12")
async def test_a_new_device_is_pushed_after_a_moment_and_again_after_thirty_seconds(
    scene: Scene,
) -> None:
    """TU-19's delay first, then 30 s if it was never seen. (check-in-and-commands.md 5.2)"""
    row, _ = await scene.enroll(enrolled_at=NOON, last_seen_at=None)
    assert await scene.push_due() == 0
    scene.clock.advance(timedelta(seconds=2))
    assert await scene.push_due() == 1
    assert (await scene.stored(row)).pushed_at == scene.clock.now()
    scene.clock.advance(timedelta(seconds=29))
    assert await scene.push_due() == 0
    scene.clock.advance(timedelta(seconds=1))
    assert await scene.push_due() == 1
    assert len(scene.pusher.pushed) == 2


@pytest.mark.case("AP-02")
async def test_a_dead_token_is_pushed_no_more_and_the_device_stays_enrolled(scene: Scene) -> None:
    """410 with a timestamp after the token arrived. (5.5)"""
    row, record = await scene.enroll()
    scene.clock.advance(timedelta(seconds=2))
    scene.answer(410, reason="Unregistered", timestamp=milliseconds(NOON))
    assert await scene.push_due() == 1
    after = await scene.stored(row)
    assert (after.state, after.push_dead_reason) == (State.ENROLLED, "Unregistered")
    assert (after.push, after.unlock, after.bootstrap) == (row.push, row.unlock, row.bootstrap)
    kept = await scene.enrollments.load_record(record.id)
    assert kept is not None
    assert (kept.state, kept.value) == (TokenState.DEAD, record.value)
    for _ in range(10):
        scene.clock.advance(timedelta(days=1))
        assert await scene.push_due() == 0
    assert len(scene.pusher.pushed) == 1


@pytest.mark.case("AP-03")
async def test_an_older_410_leaves_the_token_alive_and_pushed_again(scene: Scene) -> None:
    """410 with a timestamp before the current token arrived. (5.5)"""
    row, record = await scene.enroll()
    assert row.push is not None
    scene.clock.advance(timedelta(seconds=2))
    before = row.push.arrived_at - timedelta(minutes=1)
    scene.answer(410, reason="Unregistered", timestamp=milliseconds(before))
    await scene.push_due()
    assert (await scene.stored(row)).push_dead_since is None
    kept = await scene.enrollments.load_record(record.id)
    assert kept is not None
    assert kept.state is TokenState.OK
    scene.answer(200)
    scene.clock.advance(timedelta(seconds=60))
    assert await scene.push_due() == 1


@pytest.mark.case("AP-05")
async def test_a_throttled_push_is_one_success_later(scene: Scene) -> None:
    """429 twice, then 200. (5.5)"""
    row, _ = await scene.enroll()
    scene.clock.advance(timedelta(seconds=2))
    scene.answer(429, reason="TooManyRequests")
    assert await scene.push_due() == 1
    scene.clock.advance(timedelta(seconds=59))
    assert await scene.push_due() == 0
    scene.clock.advance(timedelta(seconds=1))
    assert await scene.push_due() == 1
    assert (await scene.stored(row)).pushed_at is None
    scene.answer(200)
    scene.clock.advance(timedelta(seconds=120))
    assert await scene.push_due() == 1
    assert (await scene.stored(row)).pushed_at == scene.clock.now()
    scene.clock.advance(timedelta(seconds=59))
    assert await scene.push_due() == 0


@pytest.mark.case("AP-06")
async def test_a_push_that_met_trouble_comes_again_within_seconds(scene: Scene) -> None:
    """503, then 200. (5.5)"""
    await scene.enroll()
    scene.clock.advance(timedelta(seconds=2))
    scene.answer(503, reason="ServiceUnavailable")
    assert await scene.push_due() == 1
    scene.answer(200)
    scene.clock.advance(timedelta(seconds=5))
    assert await scene.push_due() == 1


async def test_a_push_asked_for_is_the_first_of_the_schedule(scene: Scene) -> None:
    """The one that was about to go has gone with it; and a token it finds dead is dead for the schedule too."""
    row, _ = await scene.enroll()
    (result,) = await scene.service.push_now(DEFAULT_TENANT, [UDID])
    assert result.error is None
    scene.clock.advance(timedelta(seconds=2))
    assert await scene.push_due() == 0
    scene.clock.advance(timedelta(seconds=60))
    assert await scene.push_due() == 1
    scene.answer(410, reason="Unregistered", timestamp=milliseconds(NOON))
    await scene.service.push_now(DEFAULT_TENANT, [UDID])
    assert (await scene.stored(row)).push_dead_reason == "Unregistered"
    scene.clock.advance(timedelta(days=2))
    assert await scene.push_due() == 0
    assert (await scene.stored(row)).state is State.ENROLLED


@pytest.mark.case("AP-07")
async def test_a_paused_topic_is_left_alone_until_it_works_again(scene: Scene) -> None:
    """DeviceTokenNotForTopic: no more pushes, the token kept, pending work pushed after. (5.5)"""
    row, _ = await scene.enroll()
    audit = AuditEntry(tenant=DEFAULT_TENANT, actor="anna", verb="x", subject="x", reason="")
    await scene.certificates.save_push_certificate(push_certificate(row.topic), audit)
    scene.pusher.shown = push_certificate(row.topic).record_id
    scene.clock.advance(timedelta(seconds=2))
    scene.answer(400, reason="DeviceTokenNotForTopic")
    assert await scene.push_due() == 1
    held = await scene.certificates.load_push_certificate(row.topic)
    assert held is not None
    assert held.paused_reason == "DeviceTokenNotForTopic"
    scene.answer(200)
    for _ in range(5):
        scene.clock.advance(timedelta(hours=1))
        assert await scene.push_due() == 0
    assert (await scene.stored(row)).push_dead_since is None
    renewed = replace(push_certificate(row.topic), record_id=RecordId("d" * 32))
    await scene.certificates.save_push_certificate(renewed, audit)
    scene.clock.advance(timedelta(minutes=5))
    assert await scene.push_due() == 1


async def test_an_accepted_push_proves_the_push_certificate_once_a_day(scene: Scene) -> None:
    """Stored is not proven. (design.md 2)"""
    row, _ = await scene.enroll()
    certificate = push_certificate(row.topic)
    audit = AuditEntry(
        tenant=DEFAULT_TENANT, actor="test", verb="import", subject=row.topic, reason=""
    )
    await scene.certificates.save_push_certificate(certificate, audit)

    async def proven_at() -> datetime | None:
        record = await scene.enrollments.load_record(certificate.record_id)
        assert record is not None
        return record.proven_at

    scene.clock.advance(timedelta(seconds=2))
    scene.answer(503, reason="ServiceUnavailable")
    await scene.push_due()
    assert await proven_at() is None
    scene.pusher.reply = RecordingPusher().reply
    scene.clock.advance(timedelta(minutes=1))
    await scene.push_due()
    first = scene.clock.now()
    assert await proven_at() == first
    scene.clock.advance(timedelta(hours=2))
    await scene.push_due()
    assert await proven_at() == first
    scene.clock.advance(timedelta(days=2))
    await scene.push_due()
    assert await proven_at() == scene.clock.now()


def push_certificate(topic: Topic) -> PushCertificate:
    """A stored push certificate, as far as proofs care."""
    return PushCertificate(
        topic=topic,
        tenant=DEFAULT_TENANT,
        record_id=RecordId("c" * 32),
        certificate_pem=b"a certificate",
        sealed_key=SealedValue(b"a sealed key"),
        not_before=NOON,
        not_after=NOON + timedelta(days=365),
        imported_at=NOON,
    )
