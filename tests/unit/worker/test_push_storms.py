"""What would be a storm and is none: a fleet of one storage, a pusher by script, a clock that is moved."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from conformance.recording_pusher import RecordingPusher
from conformance.storage_twins import store
from conformance.storage_values import command, device, key, pointer, record, record_id
from ostiary.domain.command import CommandState
from ostiary.domain.decision import AuditEntry, Wake
from ostiary.domain.push_value import encode_push_value
from ostiary.domain.token import DEFAULT_TENANT, Holder, RecordId, SealedValue, TokenKind
from ostiary.ports.sealer import SealLabel
from ostiary.ports.storage import PushCertificate
from ostiary.protocol.apns.request import PushRequest
from ostiary.secret import Secret
from ostiary.services.push import PushService
from ostiary.storage.memory.storage import MemoryStorage
from ostiary.worker.push_loop import PushPace, RepeatPace, push_due
from unit.services.push_world import NOON, LabelledSealer, MovedClock

PER_SECOND = 10
FLEET = 300


@dataclass
class Fleet:
    """So many devices with a command each, all due at noon."""

    storage: MemoryStorage = field(default_factory=MemoryStorage)
    clock: MovedClock = field(default_factory=MovedClock)
    pusher: RecordingPusher = field(default_factory=RecordingPusher)
    pushed: Counter[int] = field(default_factory=Counter)
    """By second since noon."""

    def __post_init__(self) -> None:
        self.repeats = RepeatPace(PER_SECOND)
        self.service = PushService(
            enrollments=self.storage.enrollments,
            certificates=self.storage.push_certificates,
            pusher=self.pusher,
            sealer=LabelledSealer(),
            clock=self.clock,
        )

    async def begin(self, state: CommandState, size: int = FLEET) -> None:
        hand_outs = 0 if state is CommandState.QUEUED else 1
        for number in range(1, size + 1):
            row = device(number, push=pointer(1000 + number), last_seen_at=NOON)
            label = SealLabel(
                tenant=DEFAULT_TENANT,
                holder=Holder(row.id),
                kind=TokenKind.PUSH,
                record_id=record_id(1000 + number),
            )
            value = Secret(encode_push_value(number.to_bytes(32), b"magic"))
            await store(
                self.storage,
                rows=(row,),
                records=(
                    record(1000 + number, holder=number, value=LabelledSealer().seal(value, label)),
                ),
                enqueue=(command(f"c{number}", to=number, state=state, hand_outs=hand_outs),),
                wakes=(Wake(enrollment_key=key(number), due_at=NOON),),
            )

    def answer(self, reply: Callable[[PushRequest], tuple[int, bytes]]) -> None:
        self.pusher.reply = reply

    async def live(self, seconds: int, step: int = 1) -> None:
        """Push what is due, and let the time go on."""
        for _ in range(0, seconds, step):
            before = len(self.pusher.pushed)
            while await push_due(
                self.storage.wakes,
                self.service,
                self.clock,
                asyncio.Event(),
                PushPace(),
                self.repeats,
            ):
                pass
            second = int((self.clock.now() - NOON).total_seconds())
            self.pushed[second] += len(self.pusher.pushed) - before
            self.clock.advance(timedelta(seconds=step))

    @property
    def reached(self) -> set[bytes]:
        return {address.token.reveal() for address in self.pusher.pushed}


def away(_request: PushRequest) -> tuple[int, bytes]:
    return 503, json.dumps({"reason": "ServiceUnavailable"}).encode()


def accepted(_request: PushRequest) -> tuple[int, bytes]:
    return 200, b""


async def test_a_fleet_that_said_not_now_comes_back_evenly() -> None:
    """All due in one second, ten in each second that follows. (5.2, docs/decisions/0015)"""
    fleet = Fleet()
    await fleet.begin(CommandState.DEFERRED)
    await fleet.live(FLEET // PER_SECOND + 5)
    assert len(fleet.reached) == FLEET
    assert fleet.pushed[0] == PER_SECOND
    assert max(fleet.pushed.values()) <= PER_SECOND + 1


async def test_new_work_for_a_whole_fleet_goes_out_at_once() -> None:
    """An operator's word is no repeat, however many it is for."""
    fleet = Fleet()
    await fleet.begin(CommandState.QUEUED)
    await fleet.live(1)
    assert len(fleet.reached) == FLEET


async def test_the_end_of_hours_without_apns_makes_no_storm() -> None:
    """Every device is reached soon after, and at no moment faster than allowed. (users.md 5.4, 35 and 36)"""
    fleet = Fleet()
    await fleet.begin(CommandState.QUEUED)
    fleet.answer(away)
    await fleet.live(3 * 3600, step=5)
    fleet.pusher.pushed.clear()
    fleet.pushed.clear()
    fleet.answer(accepted)
    await fleet.live(25 * 60, step=5)
    assert len(fleet.reached) == FLEET
    assert max(fleet.pushed.values()) <= 5 * PER_SECOND + PER_SECOND


async def test_a_resumed_topic_makes_no_storm() -> None:
    """Paused by a refused certificate, resumed an hour later: due within minutes, and paced. (5.5)"""
    fleet = Fleet()
    await fleet.begin(CommandState.QUEUED)
    topic = device(1).topic
    audit = AuditEntry(tenant=DEFAULT_TENANT, actor="anna", verb="x", subject=topic, reason="")
    certificate = PushCertificate(
        topic=topic,
        tenant=DEFAULT_TENANT,
        record_id=RecordId("c" * 32),
        certificate_pem=b"a certificate",
        sealed_key=SealedValue(b"a sealed key"),
        not_before=NOON,
        not_after=NOON + timedelta(days=365),
        imported_at=NOON,
    )
    await fleet.storage.push_certificates.save_push_certificate(certificate, audit)
    await fleet.storage.push_certificates.pause_topic(
        topic, "BadCertificate", NOON, shown=certificate.record_id
    )
    await fleet.live(3600, step=5)
    assert fleet.pusher.pushed == []
    await fleet.storage.push_certificates.save_push_certificate(certificate, audit)
    await fleet.live(6 * 60, step=5)
    assert len(fleet.reached) == FLEET
    assert max(fleet.pushed.values()) <= 5 * PER_SECOND + PER_SECOND
