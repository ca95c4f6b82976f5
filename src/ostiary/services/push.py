"""Waking devices: one due push and what follows it, and pushes that a person asks for now."""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from ostiary.domain.decision import Alert, Ask, ByKey, ByName, Change, Snapshot
from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.operator import EnrollmentUnknown
from ostiary.domain.push_schedule import VALID_FOR, PushPlan, plan_after
from ostiary.domain.push_target import PushTarget, SealedPush
from ostiary.domain.push_value import decode_push_value
from ostiary.domain.token import (
    RecordId,
    TenantId,
    TokenKind,
    TokenProof,
    TokenRecord,
    TokenState,
    TokenStep,
)
from ostiary.errors import OstiaryError, Refused
from ostiary.ports.clock import Clock
from ostiary.ports.push import Pusher, PushOutcome, PushVerdict
from ostiary.ports.sealer import Sealer, SealLabel
from ostiary.ports.storage import DueWake, Enrollments, PushCertificates, WakeStep
from ostiary.protocol.mdm.checkin import PushAddress, Topic
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.push_alerts import alert_after

_NOW_AT_ONCE: Final = 64
"""Pushes of one request that are under way together."""

_SAME_ALERT_EVERY: Final = timedelta(minutes=1)
_SAME_PROOF_EVERY: Final = timedelta(days=1)
_MOST_REMEMBERED: Final = 1000


class EnrollmentNotPushable(Refused):
    """This enrollment is not to be pushed in its state."""

    hint = "A device is pushed from its first TokenUpdate until it leaves management."


class PushTokenDead(Refused):
    """APNs said that this push token is dead."""

    hint = (
        "Nothing wakes the device now; it sends a new token by itself when it next checks in."
        " `ostiary token dead` says what heals it otherwise."
    )


class PushNotAccepted(Refused):
    """APNs did not accept the push."""

    hint = "`ostiary doctor` says what is wrong with the push certificate, and what to do."


@dataclass(frozen=True, slots=True, kw_only=True)
class PushResult:
    """What came of one push that was asked for: APNs' id, or the error. Exactly one is set."""

    enrollment_id: EnrollmentId
    apns_id: str | None = None
    error: OstiaryError | None = None


class PushService:
    """Pushes, and everything that follows from APNs' answer."""

    def __init__(
        self,
        *,
        enrollments: Enrollments,
        certificates: PushCertificates,
        pusher: Pusher,
        sealer: Sealer,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._enrollments = enrollments
        self._certificates = certificates
        self._pusher = pusher
        self._sealer = sealer
        self._clock = clock
        self._jitter = jitter
        self._told_at: dict[Alert, datetime] = {}
        self._proven_at: dict[Topic, datetime] = {}
        self._log = (
            structlog.get_logger().bind()
        )  # once: binding for each line costs as much as the line

    async def push(self, due: DueWake) -> WakeStep:
        """Push one channel that is due; the step for `Wakes.settle`.

        Raises:
            SealBroken: the push token does not open.
            StorageFailed: an alert or a paused topic could not be stored.
        """
        target = due.enrollment
        outcome = await self._send(target, due.push_record)
        now = self._clock.now()
        outcome = await self._judged(outcome, target.topic, now)
        plan = plan_after(
            outcome,
            target,
            attempt=due.attempt,
            failures=due.failures,
            now=now,
            jitter=self._jitter(),
            has_work=due.has_work,
        )
        await self._follow(outcome, target, plan, now)
        return WakeStep(
            enrollment_key=target.key,
            record_id=due.push_record.id,
            at=now,
            attempt=plan.attempt,
            failures=plan.failures,
            accepted=outcome.verdict is PushVerdict.ACCEPTED,
            next_due_at=plan.next_due_at,
            dead_reason=plan.dead_reason,
            dead_before=plan.dead_before,
        )

    async def push_now(
        self, tenant: TenantId, ids: Iterable[EnrollmentId]
    ) -> tuple[PushResult, ...]:
        """Push these enrollments at once, whatever their schedule; one result an id, in the order given.

        Nothing is sent for an id that is unknown, not enrolled yet or any more, or whose token is dead.
        """
        slots = asyncio.Semaphore(_NOW_AT_ONCE)

        async def push_one(enrollment_id: EnrollmentId) -> PushResult:
            async with slots:
                try:
                    apns_id = await self._push_named(tenant, enrollment_id)
                except OstiaryError as error:
                    return PushResult(enrollment_id=enrollment_id, error=error)
                return PushResult(enrollment_id=enrollment_id, apns_id=apns_id)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(push_one(one)) for one in dict.fromkeys(ids)]
        return tuple(task.result() for task in tasks)

    async def _push_named(self, tenant: TenantId, enrollment_id: EnrollmentId) -> str:
        channel = await self._find_pushable(tenant, enrollment_id)
        record = await self._load_push_record(channel)
        target = PushTarget.of(channel)
        outcome = await self._send(target, SealedPush.of(record))
        now = self._clock.now()
        outcome = await self._judged(outcome, target.topic, now)
        plan = plan_after(outcome, target, attempt=0, failures=0, now=now, jitter=self._jitter())
        await self._enrollments.decide(
            Ask(who=ByKey(key=channel.key)), lambda found: _after_push_now(found, record, plan, now)
        )
        await self._follow(outcome, target, plan, now)
        reason = outcome.reason or f"status {outcome.status}"
        if outcome.verdict is PushVerdict.TOKEN_DEAD:
            raise PushTokenDead(reason=reason, enrollment_id=channel.id)
        if outcome.verdict is not PushVerdict.ACCEPTED:
            raise PushNotAccepted(f"APNs did not accept the push: {reason}", topic=channel.topic)
        return outcome.apns_id or ""

    async def _load_push_record(self, channel: Enrollment) -> TokenRecord:
        if channel.push is not None:
            record = await self._enrollments.load_record(channel.push.record_id)
            if record is not None:
                return record
        raise EnrollmentNotPushable("no push token is held", enrollment_id=channel.id)

    async def _find_pushable(self, tenant: TenantId, enrollment_id: EnrollmentId) -> Enrollment:
        def rule(found: Snapshot) -> Change[Enrollment]:
            if found.channel is None or found.device is None:
                raise EnrollmentUnknown(enrollment_id=enrollment_id)
            _require_pushable(found.device, found.channel)
            return Change(at=self._clock.now(), answer=found.channel)

        who = ByName(tenant=tenant, enrollment_id=enrollment_id)
        return (await self._enrollments.decide(Ask(who=who), rule)).answer

    async def _send(self, target: PushTarget, record: SealedPush) -> PushOutcome:
        label = SealLabel(
            tenant=record.tenant, holder=record.holder, kind=TokenKind.PUSH, record_id=record.id
        )
        token, magic = decode_push_value(self._sealer.unseal(record.value, label).reveal())
        address = PushAddress(topic=target.topic, token=Secret(token), magic=Secret(magic))
        outcome = await self._pusher.push(address, expires_at=self._clock.now() + VALID_FOR)
        self._log.info(
            "push_answered",
            enrollment_id=target.id,
            verdict=outcome.verdict.value,
            reason=outcome.reason,
            status=outcome.status,
            apns_id=outcome.apns_id,
        )
        return outcome

    async def _judged(self, outcome: PushOutcome, topic: Topic, now: datetime) -> PushOutcome:
        """The outcome, its topic paused where APNs refuses our certificate.

        What it says of a certificate that was replaced meanwhile says nothing of the one in its place: that push is tried
        again. (AP-09)
        """
        if outcome.verdict is not PushVerdict.TOPIC_PAUSED:
            return outcome
        reason = outcome.reason or "refused"
        shown = None if outcome.shown is None else RecordId(outcome.shown)
        if await self._certificates.pause_topic(topic, reason, now, shown=shown):
            return outcome
        self._log.info("push_refused_with_old_certificate", topic=topic, reason=reason)
        return replace(outcome, verdict=PushVerdict.RETRY)

    async def _follow(
        self, outcome: PushOutcome, target: PushTarget, plan: PushPlan, now: datetime
    ) -> None:
        """What follows an answer beyond the channel itself."""
        if outcome.verdict is not PushVerdict.ACCEPTED:
            await self._tell(outcome, target, plan.failures, now)
        elif self._proof_is_due(target.topic, now):
            await self._prove(target, now)

    async def _tell(
        self, outcome: PushOutcome, channel: PushTarget, failures: int, now: datetime
    ) -> None:
        """Leave an alert where somebody should look."""
        alert = alert_after(outcome, channel, failures=failures)
        if alert is not None and self._is_news(alert, now):
            self._log.warning("push_trouble", kind=alert.kind, subject=alert.subject)
            await self._enrollments.decide(
                Ask(who=ByKey(key=channel.key)),
                lambda _found: Change(at=now, answer=None, alerts=(alert,)),
            )

    def _proof_is_due(self, topic: Topic, now: datetime) -> bool:
        proven_at = self._proven_at.get(topic)
        return proven_at is None or not proven_at <= now < proven_at + _SAME_PROOF_EVERY

    async def _prove(self, channel: PushTarget, now: datetime) -> None:
        """An accepted push proves the push certificate; written once a day and topic. (design.md 2)"""
        certificate = await self._certificates.load_push_certificate(channel.topic)
        if certificate is None:
            return
        self._proven_at[channel.topic] = now
        proof = TokenProof(record_id=certificate.record_id, proven_by="APNs accepted a push")
        await self._enrollments.decide(
            Ask(who=ByKey(key=channel.key)),
            lambda _found: Change(at=now, answer=None, proofs=(proof,)),
        )

    def _is_news(self, alert: Alert, now: datetime) -> bool:
        """Whether to store it: a fleet that fails for one cause writes one alert a minute, not one a device."""
        told_at = self._told_at.get(alert)
        if told_at is not None and told_at <= now < told_at + _SAME_ALERT_EVERY:
            return False
        if len(self._told_at) >= _MOST_REMEMBERED:
            self._told_at.clear()
        self._told_at[alert] = now
        return True


def _require_pushable(device: Enrollment, channel: Enrollment) -> None:
    """Refuse what has no push token in force. (CI-02)"""
    for row in (device, channel):
        if row.state is State.PENDING:
            raise EnrollmentNotPushable(
                "not pushed before its first TokenUpdate", enrollment_id=row.id, state=row.state
            )
        if not row.state.is_served:
            raise EnrollmentNotPushable(enrollment_id=row.id, state=row.state)
    if channel.push_dead_since is not None:
        raise PushTokenDead(
            enrollment_id=channel.id,
            since=channel.push_dead_since.isoformat(),
            reason=channel.push_dead_reason,
        )


def _after_push_now(
    found: Snapshot, record: TokenRecord, plan: PushPlan, now: datetime
) -> Change[None]:
    """Remember an accepted push, or a token that died; a push that was about to go anyway has gone with this one."""
    channel = found.channel
    if channel is None or channel.push is None or channel.push.record_id != record.id:
        return Change(at=now, answer=None)
    if plan.dead_before is not None and channel.push.arrived_at < plan.dead_before:
        cause = plan.dead_reason or ""
        dead = replace(channel, push_dead_since=now, push_dead_reason=cause)
        step = TokenStep(record_id=record.id, state=TokenState.DEAD, cause=cause)
        return Change(at=now, answer=None, rows=(dead,), steps=(step,))
    if plan.failures == 0:
        wake = found.wake
        is_first = wake is not None and wake.attempt == 0 and wake.failures == 0
        later = (
            replace(wake, due_at=plan.next_due_at, attempt=plan.attempt)
            if wake and is_first
            else None
        )
        return Change(
            at=now,
            answer=None,
            rows=(replace(channel, pushed_at=now),),
            wakes=() if later is None else (later,),
        )
    return Change(at=now, answer=None)
