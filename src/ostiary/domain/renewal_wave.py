"""Who is asked for a new identity now: canaries first, then the others, a wave a day. Pure.

Whatever is wrong with renewing, a profile that no device takes, an address that none reaches, shows on a few
devices before it is tried on all. Source: users.md 5.1 complaint 9; design.md 5.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from ostiary.domain.identity_renewal import LEAST_LEAD, PROOF_LASTS
from ostiary.domain.policy import Policy
from ostiary.domain.renewal import Renewal, RenewalPhase, Sight

AT_ONCE: Final = 50
"""Devices asked in one round, whatever the day's wave allows: each gets a profile of its own, and a push."""
CANARY_PATIENCE: Final = timedelta(days=3)
"""So long the others wait for a canary that was asked and has not answered."""
HEARD_OF: Final = timedelta(days=7)
"""A device heard of since is likely to answer, so it makes a better canary."""
FEWEST_FAILURES: Final = 5
"""From so many in a day on, more failures than successes stop everybody."""
BEARABLE: Final = 5
"""Of canaries that answered, fewer than one in so many may have failed: one odd device is not the fleet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was begun and what came of it lately, over all devices."""

    asked_last_hour: int = 0
    asked_last_day: int = 0
    completed_last_day: int = 0
    failed_last_day: int = 0


class Gate(StrEnum):
    """Whether devices other than canaries may be asked."""

    OPEN = "open"
    UNPROVEN = "unproven"
    """No canary has renewed lately: some are chosen."""
    WAITING = "waiting"
    """Canaries were asked, and have not renewed yet."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Barrier:
    """The gate, and why, for people."""

    gate: Gate
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A device whose identity should be renewed now."""

    sight: Sight
    renewal: Renewal

    def is_urgent(self, now: datetime) -> bool:
        """Whether its end is so near that the day's wave does not hold it up."""
        return self.sight.bindings[0].not_after - now <= LEAST_LEAD

    def was_heard_of(self, now: datetime) -> bool:
        seen_at = self.sight.enrollment.last_seen_at
        return seen_at is not None and now - seen_at <= HEARD_OF


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A device to ask now."""

    due: Due
    is_canary: bool


def raise_barrier(
    canaries: Iterable[Renewal], tally: Tally, policy: Policy, now: datetime
) -> Barrier:
    """Whether the others may follow: canaries have renewed, none has failed since, and not too many others have."""
    failing = tally.failed_last_day
    if failing >= FEWEST_FAILURES and failing > tally.completed_last_day:
        why = f"{failing} renewals failed within a day, and {tally.completed_last_day} succeeded"
        return Barrier(gate=Gate.STOPPED, why=why)
    if not has_canaries(policy):
        return Barrier(gate=Gate.OPEN, why="no canaries are asked for")
    known = tuple(canaries)
    failed = [one for one in known if one.phase is RenewalPhase.FAILED]
    proofs = [one for one in known if _proves(one, now)]
    if failed and len(failed) * BEARABLE >= len(failed) + len(proofs):
        why = f"{_devices(len(failed))} failed that renewed before the others: {failed[0].outcome}"
        return Barrier(gate=Gate.STOPPED, why=why)
    waiting = [one for one in known if _holds_up(one, now)]
    if waiting:
        why = f"{_devices(len(waiting))} asked before the others, and not done yet"
        return Barrier(gate=Gate.WAITING, why=why)
    if not proofs:
        return Barrier(gate=Gate.UNPROVEN, why="no device has renewed lately to show that it works")
    return Barrier(gate=Gate.OPEN, why=f"{_devices(len(proofs))} renewed before the others")


def has_canaries(policy: Policy) -> bool:
    """Whether anybody is to renew before the others."""
    return policy.renewal_canary_share > 0 or bool(policy.renewal_canaries)


def pick(
    due: Sequence[Due],
    named: Sequence[Due],
    barrier: Barrier,
    tally: Tally,
    policy: Policy,
    now: datetime,
) -> tuple[Pick, ...]:
    """Whom to ask in this round. `due` is in order, the longest due first; `named` are the canaries that policy names.

    Of these, whoever is due goes before each wave, and the others follow once it has renewed; whoever is not goes first
    where nobody has shown lately that it works, and others wait for that.
    """
    keys = {one.sight.enrollment.key for one in named}
    again = [one for one in due if one.renewal.is_canary]
    rest = [one for one in due if not one.renewal.is_canary]
    first = [one for one in rest if one.sight.enrollment.key in keys]
    others = [one for one in rest if one.sight.enrollment.key not in keys]
    wave: Sequence[Due] = ()
    if barrier.gate is Gate.STOPPED:
        first = []
    elif barrier.gate is Gate.UNPROVEN and others:
        first = [*_appoint(others, named, policy, now)]
    elif barrier.gate is Gate.OPEN and not first:
        wave = _wave(others, tally, policy, now)
    canaries = [Pick(due=one, is_canary=True) for one in (*again, *first)]
    return tuple([*canaries, *(Pick(due=one, is_canary=False) for one in wave)][:AT_ONCE])


def _appoint(
    due: Sequence[Due], named: Sequence[Due], policy: Policy, now: datetime
) -> Sequence[Due]:
    """Those that policy names; else a share of the due ones, at least one, rather such as were heard of lately."""
    if named:
        return named
    number = max(1, math.ceil(len(due) * policy.renewal_canary_share / 100))
    return sorted(due, key=lambda one: not one.was_heard_of(now))[:number]


def _wave(due: Sequence[Due], tally: Tally, policy: Policy, now: datetime) -> Sequence[Due]:
    """As many as the hour and the day still have room for, and whoever is near the end."""
    an_hour = math.ceil(policy.renewals_a_day / 24)
    room = min(an_hour - tally.asked_last_hour, policy.renewals_a_day - tally.asked_last_day)
    urgent = [one for one in due if one.is_urgent(now)]
    patient = [one for one in due if not one.is_urgent(now)]
    return [*urgent, *patient[: max(0, room - len(urgent))]]


def planned_at(place: int, barrier: Barrier, policy: Policy, now: datetime) -> datetime | None:
    """When the device at this place among the due ones is asked, by and large; None while nobody can tell."""
    if barrier.gate is not Gate.OPEN:
        return None
    return now + place / policy.renewals_a_day * timedelta(days=1)


def _holds_up(canary: Renewal, now: datetime) -> bool:
    asked_at = canary.asked_at
    return (
        canary.phase is RenewalPhase.ASKED
        and asked_at is not None
        and now - asked_at < CANARY_PATIENCE
    )


def _proves(canary: Renewal, now: datetime) -> bool:
    finished_at = canary.finished_at
    return (
        canary.phase is RenewalPhase.COMPLETED
        and finished_at is not None
        and now - finished_at < PROOF_LASTS
    )


def _devices(number: int) -> str:
    return "1 device" if number == 1 else f"{number} devices"
