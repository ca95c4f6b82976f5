"""What people see of device identities: which end when, how they were proven, and who renews next. Changes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from ostiary.domain.enrollment import Binding, Proof, Standing, State
from ostiary.domain.identity_renewal import can_renew, due_at, is_under_way, judge, walk_until
from ostiary.domain.policy import Policy
from ostiary.domain.renewal import RenewalPhase, Sight
from ostiary.domain.renewal_wave import Barrier, planned_at
from ostiary.domain.token import TenantId
from ostiary.ports.clock import Clock
from ostiary.ports.renewals import EndingIdentities, EndingPlace
from ostiary.services.certificates import IssuingPolicy
from ostiary.services.identity_renewal import IdentityRenewalService

_FAR: Final = timedelta(days=36_500)
_PAGE: Final = 500
_LOOKED_THROUGH: Final = 200
"""Pages of certificates that an outlook reads: a hundred thousand."""


class RenewalWord(StrEnum):
    """Where an identity stands, in one word for people."""

    SCHEDULED = "scheduled"
    DUE = "due"
    ASKED = "asked"
    RENEWING = "renewing"
    FAILED = "failed"
    UNANSWERED = "unanswered"
    UNABLE = "cannot"
    NOT_IN_USE = "not in use"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityStanding:
    """One certificate in force, and its renewal."""

    sight: Sight
    binding: Binding
    word: RenewalWord
    renews_at: datetime | None
    """When it is asked, or asked again; None where nobody can tell."""
    life_left: int
    """Percent; below zero once it has ended."""
    is_named_canary: bool = False
    """Policy names it: in an outlook it goes before the others that are due."""

    @property
    def is_suspicious(self) -> bool:
        """Whether nobody has proven whose this certificate is: it was taken at its first use."""
        return self.binding.proof is Proof.FIRST_USE


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalOutlook:
    """Who would be asked, and when."""

    barrier: Barrier
    standings: tuple[IdentityStanding, ...]
    is_all: bool


class IdentitySurvey:
    """Reads certificates in the order in which they end."""

    def __init__(
        self,
        renewals: EndingIdentities,
        service: IdentityRenewalService,
        policy: Callable[[], Policy],
        clock: Clock,
        tenant: TenantId,
    ) -> None:
        self._renewals = renewals
        self._service = service
        self._policy = policy
        self._clock = clock
        self._tenant = tenant

    async def list_identities(
        self, after: EndingPlace | None, *, within: timedelta | None, limit: int
    ) -> tuple[IdentityStanding, ...]:
        """Certificates in force, the first to end in front; a device may have two after a renewal that failed on it."""
        end = self._clock.now() + (within if within is not None else _FAR)
        told: list[IdentityStanding] = []
        while True:
            page = await self._renewals.list_ending(after, end, limit=_PAGE)
            told += await self._standings([one for one in page if one.tenant == self._tenant])
            if len(told) >= limit or len(page) < _PAGE:
                return tuple(told[:limit])
            after = EndingPlace(not_after=page[-1].not_after, fingerprint=page[-1].fingerprint)

    async def look_ahead(self, *, within: timedelta, limit: int) -> RenewalOutlook:
        """Those whose renewal is due now or within a time, in the order of their turn; nothing is asked or noted."""
        policy, now = self._policy(), self._clock.now()
        barrier, _ = await self._service.barrier(policy)
        until = walk_until(policy, now + within, IssuingPolicy().valid_for)
        told: list[IdentityStanding] = []
        place, is_all = None, False
        for _ in range(_LOOKED_THROUGH):
            page = await self._renewals.list_ending(place, until, limit=_PAGE)
            mine = [one.enrollment_key for one in page if one.tenant == self._tenant]
            told += _turns(await self._renewals.look(mine), policy, now, within)
            if len(page) < _PAGE:
                is_all = True
                break
            place = EndingPlace(not_after=page[-1].not_after, fingerprint=page[-1].fingerprint)
        named = await self._service.named_keys(policy)
        told = [
            replace(one, is_named_canary=key in named)
            for key, one in {one.sight.enrollment.key: one for one in told}.items()
        ]
        told.sort(
            key=lambda one: (
                not (one.is_named_canary and one.word is RenewalWord.DUE),
                one.renews_at or now,
                one.binding.not_after,
            )
        )
        return RenewalOutlook(
            barrier=barrier,
            standings=tuple(_with_turns(told[:limit], barrier, policy, now)),
            is_all=is_all and len(told) <= limit,
        )

    async def _standings(self, found: Sequence[Binding]) -> list[IdentityStanding]:
        sights = await self._renewals.look([one.enrollment_key for one in found])
        by_key = {sight.enrollment.key: sight for sight in sights}
        policy, now = self._policy(), self._clock.now()
        return [
            _standing(by_key[one.enrollment_key], one, policy, now)
            for one in found
            if one.enrollment_key in by_key
        ]


def _turns(
    sights: tuple[Sight, ...], policy: Policy, now: datetime, within: timedelta
) -> list[IdentityStanding]:
    """Those that are to be asked by then."""
    standings = (
        _standing(sight, sight.bindings[0], policy, now) for sight in sights if can_renew(sight)
    )
    waiting = (RenewalWord.SCHEDULED, RenewalWord.DUE, RenewalWord.FAILED)
    return [
        one
        for one in standings
        if one.word in waiting and one.renews_at is not None and one.renews_at <= now + within
    ]


def _with_turns(
    told: list[IdentityStanding], barrier: Barrier, policy: Policy, now: datetime
) -> list[IdentityStanding]:
    """The due ones get the time of their turn in the wave, by and large."""
    return [
        replace(one, renews_at=planned_at(place, barrier, policy, now))
        if one.word is RenewalWord.DUE
        else one
        for place, one in enumerate(told)
    ]


def _standing(sight: Sight, binding: Binding, policy: Policy, now: datetime) -> IdentityStanding:
    word, at = _word(sight, policy, now)
    life = max(binding.not_after - binding.bound_at, timedelta(seconds=1))
    return IdentityStanding(
        sight=sight,
        binding=binding,
        word=word,
        renews_at=at,
        life_left=int((binding.not_after - now) / life * 100),
    )


def _word(sight: Sight, policy: Policy, now: datetime) -> tuple[RenewalWord, datetime | None]:
    known = sight.renewal
    if not can_renew(sight) or sight.enrollment.standing is not Standing.CURRENT:
        return RenewalWord.NOT_IN_USE, None
    if sight.enrollment.state is State.RENEWING:
        return RenewalWord.RENEWING, None
    if is_under_way(sight):
        return RenewalWord.ASKED, None
    if sight.enrollment.profile is None:
        return RenewalWord.UNABLE, None
    if known is not None and known.phase is RenewalPhase.FAILED:
        return RenewalWord.FAILED, known.look_at
    if known is not None and known.phase is RenewalPhase.UNANSWERED:
        return RenewalWord.UNANSWERED, None
    if judge(sight, policy, now).is_due:
        return RenewalWord.DUE, now
    return RenewalWord.SCHEDULED, max(now, due_at(sight.bindings[0], policy))
