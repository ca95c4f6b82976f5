"""Renewing identities by policy: a round looks at what was asked, and asks those whose turn it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

import structlog

from ostiary.domain.enqueueing import NotEnrolled
from ostiary.domain.enrollment import Enrollment, EnrollmentKey, Standing
from ostiary.domain.identity_renewal import (
    asked,
    begin,
    can_renew,
    failed,
    is_under_way,
    judge,
    walk_until,
)
from ostiary.domain.policy import Policy
from ostiary.domain.renewal import Renewal, RenewalPhase, Sight, Verdict
from ostiary.domain.renewal_alerts import renewals_stopped
from ostiary.domain.renewal_wave import (
    Barrier,
    Due,
    Gate,
    Tally,
    has_canaries,
    pick,
    raise_barrier,
)
from ostiary.domain.token import DEFAULT_TENANT, Fingerprint, TenantId
from ostiary.errors import Conflicting, OstiaryError, Unavailable
from ostiary.ports.clock import Clock
from ostiary.ports.renewals import EndingPlace, Renewals
from ostiary.ports.reports import Reports
from ostiary.ports.retention import START, Walks
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.caller import Caller, Scope
from ostiary.services.certificates import IssuingPolicy
from ostiary.services.clock_trust import ClockTrust
from ostiary.services.enrollment import ProfileNotOurs
from ostiary.services.policies import names_in
from ostiary.services.renewal import RenewalDesk

LEASE: Final = timedelta(minutes=3)
"""The same as retention's: one node has both to itself."""
_WALK: Final = "identity renewal"
_WALK_BEGAN: Final = "identity renewal began"
_GATE: Final = "identity renewal gate"
_FROM_THE_START: Final = timedelta(days=1)
"""A certificate may come to be in force that ends before those that were walked past: an accepted one, a restored backup's."""
_WALKED: Final = 500
_LOOKS: Final = 200
_MOST_CANARIES: Final = 1000

log = structlog.get_logger()


class RenewalUnderWay(Conflicting):
    """This device was asked for a new identity already, and may still answer."""

    hint = (
        "`ostiary device show` tells what waits for it; to begin anew, cancel that InstallProfile with "
        "`ostiary queue cancel` first."
    )


@dataclass(slots=True)
class RenewalRound:
    """What one round came to."""

    barrier: Barrier
    asked: int = 0
    looked_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalParts:
    """What the service asks: storage, people's lists, and the desk that sends."""

    renewals: Renewals
    reports: Reports
    walks: Walks
    desk: RenewalDesk


class IdentityRenewalService:
    """Applies the rules of `domain.identity_renewal` and `domain.renewal_wave` to storage."""

    def __init__(
        self,
        parts: RenewalParts,
        policy: Callable[[], Policy],
        clock: Clock,
        *,
        tenant: TenantId = DEFAULT_TENANT,
        longest_life: timedelta | None = None,
    ) -> None:
        self._renewals = parts.renewals
        self._reports = parts.reports
        self._walks = parts.walks
        self._desk = parts.desk
        self._policy = policy
        self._clock = clock
        self._tenant = tenant
        self._longest_life = longest_life or IssuingPolicy().valid_for
        self._clock_trust = ClockTrust(parts.walks, clock, _WALK)
        self._worker = Caller(
            name=_WALK, tenant=tenant, scopes=frozenset({Scope.COMMANDS, Scope.COMMANDS_SECRET})
        )

    async def take_turn(self) -> bool:
        """Whether this node is the one that works now; holds for a few minutes."""
        return await self._walks.take_turn(self._clock.now(), lease=LEASE)

    async def run_round(self, *, by_hand: bool = False) -> RenewalRound:
        """Look at everything whose time has come, and ask whom canaries and the day's wave allow.

        Nothing is begun for a day after the clock has jumped: by a clock that is wrong, everything has ended.
        (users.md 5.4 case 58)
        """
        done = RenewalRound(barrier=Barrier(gate=Gate.WAITING, why="the clock has jumped"))
        if not (by_hand or await self._clock_trust.is_given()):
            return done
        policy = self._policy()
        if policy.renew_identities or by_hand:
            await self._walk(policy)
        now = self._clock.now()
        for sight in await self._renewals.look(await self._renewals.list_looks(now, limit=_LOOKS)):
            done.looked_at += await self._settle(sight, judge(sight, policy, now))
        due = await self._judge_due(policy, done)
        done.barrier, tally = await self.barrier(policy)
        await self._tell_of_stop(done.barrier)
        if policy.renew_identities or by_hand:
            named = await self._named(policy) if due else ()
            for chosen in pick(due, named, done.barrier, tally, policy, now):
                one = chosen.due
                uuid = await self._ask(one.sight, one.renewal, is_canary=chosen.is_canary)
                done.asked += uuid is not None
        if done.asked:
            log.info("identity_renewals_asked", number=done.asked, gate=done.barrier.gate.value)
        return done

    async def barrier(self, policy: Policy) -> tuple[Barrier, Tally]:
        """Whether devices other than canaries may be asked, and what happened lately."""
        tally = await self._renewals.tally(self._clock.now())
        canaries: Sequence[Renewal] = ()
        if has_canaries(policy):
            canaries = await self._renewals.list_canaries(limit=_MOST_CANARIES)
            if policy.renewal_canaries:
                # Naming others is the way on where canaries fail for reasons of their own.
                keys = await self.named_keys(policy)
                canaries = [
                    one
                    for one in canaries
                    if one.phase is not RenewalPhase.FAILED or one.enrollment_key in keys
                ]
        return raise_barrier(canaries, tally, policy, self._clock.now()), tally

    async def renew(self, enrollment_id: EnrollmentId, caller: Caller) -> CommandUuid:
        """Ask one device now, as a person wishes, whatever canaries and waves say.

        Raises:
            EnrollmentUnknown, NotEnrolled, RenewalUnderWay
            ProfileNotOurs: the profile on the device did not come from us.
        """
        row = await self._desk.served(enrollment_id, caller)
        if row.profile is None or row.is_user_channel:
            raise ProfileNotOurs(enrollment_id=enrollment_id)
        sight = await self._sight(row.key)
        if sight is None or not can_renew(sight):
            raise NotEnrolled("no certificate is bound to it", enrollment_id=enrollment_id)
        if is_under_way(sight):
            uuid = sight.renewal.command_uuid if sight.renewal else None
            raise RenewalUnderWay(enrollment_id=enrollment_id, command_uuid=uuid)
        known = sight.renewal
        noted = replace(known, is_canary=False) if known else begin(sight, self._policy())
        return await self._send(sight, noted, caller)

    async def renew_for_visitor(self, key: EnrollmentKey) -> CommandUuid | None:
        """The CommandUUID of what renews a device that stands at the door with an identity that has ended.

        If nothing was asked of it, it is asked now: it may not come again. None where that must wait.
        """
        if (sight := await self._sight(key)) is None or not can_renew(sight):
            return None
        known = sight.renewal
        if is_under_way(sight):
            return known.command_uuid if known is not None else None
        now, policy = self._clock.now(), self._policy()
        waits = known is not None and known.phase is RenewalPhase.FAILED and known.look_at > now
        if waits or not policy.renew_identities or sight.enrollment.profile is None:
            return None
        return await self._ask(sight, known or begin(sight, policy), is_canary=False)

    async def _sight(self, key: EnrollmentKey) -> Sight | None:
        sights = await self._renewals.look([key])
        return sights[0] if sights else None

    async def _walk(self, policy: Policy) -> None:
        """Take note of certificates that came within reach since the last round; once a day from the start."""
        now = self._clock.now()
        began = await self._walks.load_place(_WALK_BEGAN)
        since = now - datetime.fromisoformat(began) if began else _FROM_THE_START
        place = _decode(await self._walks.load_place(_WALK))
        if not timedelta(0) <= since < _FROM_THE_START:
            place = None
            await self._walks.save_place(_WALK_BEGAN, now.isoformat())
        until = walk_until(policy, now, self._longest_life)
        for _ in range(_LOOKS):
            found = await self._renewals.list_unscheduled(place, until, limit=_WALKED)
            sights = await self._renewals.look([one.enrollment_key for one in found])
            await self._renewals.schedule([begin(one, policy) for one in sights if can_renew(one)])
            is_all = len(found) < _WALKED
            last = None if is_all else found[-1]
            place = EndingPlace(
                not_after=last.not_after if last else until,
                fingerprint=last.fingerprint if last else Fingerprint(""),
            )
            await self._walks.save_place(_WALK, _encode(place))
            if is_all:
                return

    async def _judge_due(self, policy: Policy, done: RenewalRound) -> tuple[Due, ...]:
        """Those whose time has come; whoever turns out to have nothing to do is put off."""
        now = self._clock.now()
        due = []
        # Canaries that failed open the way for the others: none of these may stand before them.
        canaries = await self._renewals.list_canaries(limit=_MOST_CANARIES)
        again = [
            one.enrollment_key
            for one in canaries
            if one.phase is RenewalPhase.FAILED and one.look_at <= now
        ]
        keys = (*again, *await self._renewals.list_due(now, limit=_LOOKS))
        for sight in await self._renewals.look(keys):
            verdict = judge(sight, policy, now)
            if verdict.is_due and verdict.after is not None:
                due.append(Due(sight=sight, renewal=verdict.after))
            else:
                done.looked_at += await self._settle(sight, verdict)
        return tuple(due)

    async def _settle(self, sight: Sight, verdict: Verdict) -> bool:
        """Remember what a look came to; False if somebody else did meanwhile."""
        now = self._clock.now()
        moved = await self._renewals.move(sight.renewal, verdict.after, now, verdict.alerts)
        if moved and verdict.cancel is not None:
            try:
                await self._desk.withdraw(sight.enrollment, verdict.cancel, self._worker)
            except OstiaryError as error:
                log.info("renewal_not_withdrawn", error=error.code)
        return moved

    async def _ask(self, sight: Sight, known: Renewal, *, is_canary: bool) -> CommandUuid | None:
        """Ask a device on nobody's wish; what refuses it is remembered, and told."""
        try:
            return await self._send(sight, replace(known, is_canary=is_canary), self._worker)
        except Unavailable:
            raise
        except OstiaryError as error:
            log.warning("identity_renewal_refused", error=error.code)
            return None

    async def _send(self, sight: Sight, known: Renewal, caller: Caller) -> CommandUuid:
        """Note that the device is asked, then ask it: whoever comes second finds the note. Raises what refuses it."""
        now = self._clock.now()
        uuid = CommandUuid(str(uuid4()).upper())
        noted = asked(known, sight, uuid, now)
        if not await self._renewals.move(sight.renewal, noted, now):
            raise RenewalUnderWay(enrollment_id=sight.enrollment.id)
        # As `move` numbers it.
        stored = replace(noted, version=sight.renewal.version + 1 if sight.renewal else 1)
        try:
            await self._desk.send(sight.enrollment, uuid, caller)
        except OstiaryError as error:
            verdict = failed(stored, sight, str(error), now)
            told = verdict.alerts if caller is self._worker else ()  # a person is told by the error
            await self._renewals.move(stored, verdict.after, now, told)
            raise
        return uuid

    async def _named(self, policy: Policy) -> tuple[Due, ...]:
        """The canaries that policy names, as far as they can be asked now, due or not."""
        now = self._clock.now()
        keys = [row.key for row in await self._named_rows(policy)]
        return tuple(
            Due(sight=sight, renewal=sight.renewal or begin(sight, policy))
            for sight in await self._renewals.look(keys)
            if _may_begin(sight, now)
        )

    async def named_keys(self, policy: Policy) -> frozenset[EnrollmentKey]:
        """The devices that policy names as canaries, as far as they are known."""
        return frozenset(row.key for row in await self._named_rows(policy))

    async def _named_rows(self, policy: Policy) -> list[Enrollment]:
        rows: list[Enrollment] = []
        for name in names_in(policy.renewal_canaries):
            found = await self._reports.find_enrollments(self._tenant, EnrollmentId(name))
            rows += [row for row in found if row.id == name and row.standing is Standing.CURRENT]
        return rows

    async def _tell_of_stop(self, barrier: Barrier) -> None:
        """Raise one alert when renewing stops, not one a round."""
        before = await self._walks.load_place(_GATE)
        if before == barrier.gate:
            return
        await self._walks.save_place(_GATE, barrier.gate)
        if barrier.gate is Gate.STOPPED:
            alert = renewals_stopped(self._tenant, barrier.why)
            await self._renewals.move(None, None, self._clock.now(), (alert,))
            log.warning("identity_renewals_stopped")
        elif before == Gate.STOPPED:
            log.info("identity_renewals_go_on")


def _may_begin(sight: Sight, now: datetime) -> bool:
    known = sight.renewal
    waits = known is not None and known.phase is RenewalPhase.FAILED and known.look_at > now
    asked_already = known is not None and known.phase is RenewalPhase.ASKED
    is_ours = sight.enrollment.profile is not None
    return can_renew(sight) and is_ours and not (waits or asked_already or is_under_way(sight))


def _encode(place: EndingPlace) -> str:
    return f"{place.not_after.isoformat()} {place.fingerprint}"


def _decode(place: str) -> EndingPlace | None:
    if place == START:
        return None
    at, _, fingerprint = place.partition(" ")
    return EndingPlace(not_after=datetime.fromisoformat(at), fingerprint=Fingerprint(fingerprint))
