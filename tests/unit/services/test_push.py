"""Pushing one channel, and what follows."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from conformance.push_certificates import TOPIC
from conformance.recording_pusher import RecordingPusher
from ostiary.domain.enrollment import State
from ostiary.domain.push_schedule import AWAY_FIRST
from ostiary.domain.token import DEFAULT_TENANT, SealedValue, TenantId
from ostiary.ports.sealer import SealBroken
from ostiary.ports.storage import PushCertificate
from ostiary.protocol.mdm.checkin import Topic
from ostiary.protocol.mdm.identity import EnrollmentId, EnrollmentType
from ostiary.services.push import (
    EnrollmentNotPushable,
    EnrollmentUnknown,
    PushNotAccepted,
    PushService,
    PushTokenDead,
)
from unit.services.push_world import MAGIC, NOON, TOKEN, UDID, MovedClock, PushWorld


class Scene:
    """A world with one pusher before it."""

    def __init__(self) -> None:
        self.world = PushWorld()
        self.pusher = RecordingPusher()
        self.clock = MovedClock()
        self.service = PushService(
            enrollments=self.world,
            certificates=self.world,
            pusher=self.pusher,
            sealer=self.world.sealer,
            clock=self.clock,
            jitter=lambda: 0.0,
        )

    def answer(self, status: int, **fields: object) -> None:
        self.pusher.reply = lambda _request: (status, json.dumps(fields).encode())

    def hold_certificate(self) -> None:
        topic = Topic(TOPIC)
        self.world.certificate_by_topic[topic] = PushCertificate(
            topic=topic,
            tenant=DEFAULT_TENANT,
            record_id=next(iter(self.world.record_by_id)),
            certificate_pem=b"",
            sealed_key=SealedValue(b""),
            not_before=NOON,
            not_after=NOON,
            imported_at=NOON,
        )
        self.pusher.shown = self.world.certificate_by_topic[topic].record_id


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_due_channel_is_pushed_with_its_own_token_and_magic(scene: Scene) -> None:
    """Opened from the ledger, kept by APNs for seven days. (check-in-and-commands.md 5.1)"""
    row = scene.world.add()
    step = await scene.service.push(scene.world.due(row))
    (address,) = scene.pusher.pushed
    assert (address.token.reveal(), address.magic.reveal()) == (TOKEN, MAGIC)
    assert address.topic == row.topic
    headers = dict(scene.pusher.requests[0].headers)
    assert headers["apns-expiration"] == str(int((NOON + timedelta(days=7)).timestamp()))
    assert (step.accepted, step.attempt, step.failures) == (True, 1, 0)
    assert step.next_due_at == NOON + timedelta(seconds=60)


@pytest.mark.case("AP-02")
async def test_410_after_the_token_arrived_makes_it_dead_and_nothing_else(scene: Scene) -> None:
    """The enrollment stays as it is, its secrets untouched. (5.5)"""
    row = scene.world.add()
    died_at = NOON - timedelta(hours=1)
    scene.answer(410, reason="Unregistered", timestamp=int(died_at.timestamp() * 1000))
    step = await scene.service.push(scene.world.due(row))
    assert (step.accepted, step.dead_reason, step.dead_before) == (False, "Unregistered", died_at)
    assert scene.world.row_by_key[row.key] == row
    assert scene.world.alerts == []


@pytest.mark.case("AP-03")
async def test_410_from_before_the_token_arrived_is_ignored(scene: Scene) -> None:
    """Another life of the same token. (5.5)"""
    row = scene.world.add()
    died_at = NOON - timedelta(hours=3)
    scene.answer(410, reason="Unregistered", timestamp=int(died_at.timestamp() * 1000))
    step = await scene.service.push(scene.world.due(row))
    assert step.dead_reason is None
    assert step.next_due_at == NOON + timedelta(seconds=60)


@pytest.mark.case("AP-05")
async def test_a_throttled_push_waits_and_then_succeeds_once(scene: Scene) -> None:
    """429, then 200. (5.5)"""
    row = scene.world.add()
    scene.answer(429, reason="TooManyRequests")
    first = await scene.service.push(scene.world.due(row))
    assert first.next_due_at == NOON + timedelta(seconds=60)
    assert (first.accepted, first.failures) == (False, 1)
    scene.answer(200)
    again = scene.world.due(row, attempt=first.attempt, failures=first.failures)
    second = await scene.service.push(again)
    assert (second.accepted, second.attempt, second.failures) == (True, 1, 0)
    assert len(scene.pusher.pushed) == 2


@pytest.mark.case("AP-07")
async def test_a_token_not_for_its_topic_pauses_the_topic_and_keeps_the_token(
    scene: Scene,
) -> None:
    """The certificate is at fault, so the fleet is not declared dead. (5.5)"""
    row = scene.world.add()
    scene.hold_certificate()
    scene.answer(400, reason="DeviceTokenNotForTopic")
    step = await scene.service.push(scene.world.due(row))
    assert step.dead_reason is None
    held = scene.world.certificate_by_topic[row.topic]
    assert (held.paused_since, held.paused_reason) == (NOON, "DeviceTokenNotForTopic")
    (alert,) = scene.world.alerts
    assert (alert.kind, alert.subject) == ("push-topic-paused", TOPIC)
    assert "DeviceTokenNotForTopic" in alert.sentence


@pytest.mark.case("AP-09")
async def test_a_push_that_the_old_certificate_was_refused_for_goes_again_with_the_new_one(
    scene: Scene,
) -> None:
    """The refusal came after the renewal: it pauses nothing, alarms nobody, and keeps no device waiting for long."""
    row = scene.world.add()
    scene.hold_certificate()
    scene.pusher.shown = "the old one"
    scene.answer(403, reason="BadCertificate")
    step = await scene.service.push(scene.world.due(row))
    assert (step.accepted, step.next_due_at) == (False, NOON + AWAY_FIRST)
    assert scene.world.certificate_by_topic[row.topic].paused_since is None
    assert scene.world.alerts == []


async def test_a_fleet_that_fails_for_one_cause_tells_once_a_minute(scene: Scene) -> None:
    """A push storm into a refused certificate is not a storm of writes. (users.md 5.4, 36)"""
    rows = [scene.world.add(EnrollmentId(f"device-{n}")) for n in range(20)]
    scene.answer(403, reason="BadCertificate")
    await asyncio.gather(*(scene.service.push(scene.world.due(row)) for row in rows))
    assert len(scene.world.alerts) == 1
    scene.clock.advance(timedelta(minutes=1))
    await scene.service.push(scene.world.due(rows[0]))
    assert len(scene.world.alerts) == 2


async def test_a_damaged_token_is_dead_and_told(scene: Scene) -> None:
    """400 BadDeviceToken: dead until the next TokenUpdate, with an alert. (5.5)"""
    row = scene.world.add()
    scene.answer(400, reason="BadDeviceToken")
    step = await scene.service.push(scene.world.due(row))
    assert (step.dead_reason, step.dead_before) == ("BadDeviceToken", NOON)
    (alert,) = scene.world.alerts
    assert (alert.kind, alert.subject) == ("push-token-bad", UDID)


async def test_our_own_mistake_is_told_and_tried_tomorrow(scene: Scene) -> None:
    row = scene.world.add()
    scene.answer(413, reason="PayloadTooLarge")
    step = await scene.service.push(scene.world.due(row))
    assert step.next_due_at == NOON + timedelta(days=1)
    assert [alert.kind for alert in scene.world.alerts] == ["push-rejected"]


async def test_an_apns_that_stays_away_is_told(scene: Scene) -> None:
    """Once a channel failed five times in a row; a hiccup is nobody's business."""
    row = scene.world.add()
    scene.answer(503, reason="ServiceUnavailable")
    await scene.service.push(scene.world.due(row, failures=3))
    assert scene.world.alerts == []
    await scene.service.push(scene.world.due(row, failures=4))
    assert [alert.kind for alert in scene.world.alerts] == ["apns-away"]


async def test_a_token_that_does_not_open_is_an_error_not_an_absence(scene: Scene) -> None:
    """A failure to unseal is never "no token". (design.md 2)"""
    due = scene.world.due(scene.world.add())
    moved = replace(due, push_record=replace(due.push_record, tenant=TenantId("other")))
    with pytest.raises(SealBroken):
        await scene.service.push(moved)
    assert scene.pusher.pushed == []


async def test_a_push_asked_for_is_sent_at_once(scene: Scene) -> None:
    row = scene.world.add()
    (result,) = await scene.service.push_now(DEFAULT_TENANT, [UDID])
    assert (result.enrollment_id, result.error) == (UDID, None)
    assert result.apns_id
    assert scene.world.row_by_key[row.key].pushed_at == NOON


async def test_each_id_has_its_own_result_once_and_in_order(scene: Scene) -> None:
    """As NanoMDM's API reports them, id by id. (users.md 3.4.1)"""
    scene.world.add(EnrollmentId("b"))
    scene.world.add(EnrollmentId("a"))
    ids = [EnrollmentId(one) for one in ("b", "nobody", "a", "b")]
    results = await scene.service.push_now(DEFAULT_TENANT, ids)
    assert [result.enrollment_id for result in results] == ["b", "nobody", "a"]
    assert isinstance(results[1].error, EnrollmentUnknown)
    assert results[0].apns_id != results[2].apns_id


@pytest.mark.parametrize("state", [State.PENDING, State.OUT, State.REVOKED])
async def test_a_push_asked_for_before_or_after_enrollment_is_refused(
    scene: Scene, state: State
) -> None:
    """Nothing is sent to APNs. (check-in-and-commands.md CI-02, at the service behind the API)"""
    scene.world.add(state=state)
    (result,) = await scene.service.push_now(DEFAULT_TENANT, [UDID])
    assert isinstance(result.error, EnrollmentNotPushable)
    assert scene.pusher.pushed == []


async def test_a_user_of_a_device_that_is_out_is_not_pushed(scene: Scene) -> None:
    device = scene.world.add(state=State.OUT)
    user = EnrollmentId(f"{UDID}:someone")
    scene.world.add(user, parent_key=device.key, type=EnrollmentType.USER)
    (result,) = await scene.service.push_now(DEFAULT_TENANT, [user])
    assert isinstance(result.error, EnrollmentNotPushable)


async def test_a_dead_token_is_refused_with_its_reason(scene: Scene) -> None:
    scene.world.add(push_dead_since=NOON, push_dead_reason="Unregistered")
    (result,) = await scene.service.push_now(DEFAULT_TENANT, [UDID])
    assert isinstance(result.error, PushTokenDead)
    assert "Unregistered" in str(result.error)
    assert scene.pusher.pushed == []


async def test_another_tenants_device_is_not_known(scene: Scene) -> None:
    """Keys are (tenant, id). (design.md 3)"""
    scene.world.add()
    (result,) = await scene.service.push_now(TenantId("other"), [UDID])
    assert isinstance(result.error, EnrollmentUnknown)


async def test_a_token_found_dead_by_a_push_asked_for_is_remembered(scene: Scene) -> None:
    row = scene.world.add()
    died_at = NOON - timedelta(hours=1)
    scene.answer(410, reason="Unregistered", timestamp=int(died_at.timestamp() * 1000))
    (result,) = await scene.service.push_now(DEFAULT_TENANT, [UDID])
    assert isinstance(result.error, PushTokenDead)
    assert "sends a new token by itself" in result.error.hint
    after = scene.world.row_by_key[row.key]
    assert (after.push_dead_since, after.push_dead_reason) == (NOON, "Unregistered")
    assert after.state is State.ENROLLED
    assert after.push == row.push


async def test_a_push_that_apns_does_not_take_says_where_to_look(scene: Scene) -> None:
    """Every error says what to do. (users.md 4.3)"""
    scene.world.add()
    scene.answer(429, reason="TooManyProviderTokenUpdates")
    (result,) = await scene.service.push_now(DEFAULT_TENANT, [UDID])
    assert isinstance(result.error, PushNotAccepted)
    assert "ostiary doctor" in result.error.hint


async def test_no_result_log_or_alert_holds_a_secret(scene: Scene) -> None:
    """Never a token or magic in what people read. (style.md 8)"""
    scene.world.add()
    scene.answer(400, reason="BadDeviceToken")
    with capture_logs() as logs:
        results = await scene.service.push_now(DEFAULT_TENANT, [UDID])
    shown = f"{results} {results[0].error} {scene.world.alerts} {logs} {scene.pusher.requests}"
    assert logs
    assert TOKEN.hex() not in shown
    assert MAGIC.decode() not in shown
