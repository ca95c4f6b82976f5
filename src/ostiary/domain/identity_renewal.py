"""When a device's identity is renewed, and what became of it: pure rules over what storage shows of one relationship.

Source: check-in-and-commands.md 2.3 (B), 2.4 rows 6 to 8, 6.1 (renewal); users.md 5.1 complaint 9.
"""

import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from ostiary.domain import renewal_alerts
from ostiary.domain.command import CommandState
from ostiary.domain.decision import Alert
from ostiary.domain.enrollment import Binding, EnrollmentKey, Standing, State
from ostiary.domain.policy import Policy
from ostiary.domain.renewal import CommandSight, Renewal, RenewalPhase, Sight, Verdict
from ostiary.protocol.mdm.connect import CommandUuid

LEAST_LEAD: Final = timedelta(days=30)
"""Renewal is never begun later than this before the end, unless the whole life is short. (expiry-calendar.md)"""
PROOF_LASTS: Final = timedelta(days=30)
"""So long a canary's renewal speaks for the others; and so long what became of a renewal is remembered."""
ATTEMPT_LASTS: Final = timedelta(days=13)
"""The credential in the profile is good for fourteen days; a command that waits longer would only fail."""
ANSWER_WITHIN: Final = timedelta(days=1)
"""A device that acknowledged the profile has the new identity within seconds; or it has none."""
QUEUED_WITHIN: Final = timedelta(minutes=10)
"""Between the note that a device is asked and its command; a server that died in between never sent it."""
ENDS_SOON: Final = timedelta(days=14)
"""From here on people are told of a device that did not come."""
_BACK_OFF: Final = tuple(timedelta(hours=hours) for hours in (4, 24, 48, 96, 168))
"""After one failure, two …; a peer renews at most every four hours. (6.1)"""
_OFTEN: Final = timedelta(minutes=10)
_RARELY: Final = timedelta(hours=6)
_DAILY: Final = timedelta(days=1)
_LIVE: Final = (CommandState.QUEUED, CommandState.SENT, CommandState.DEFERRED)


def due_at(binding: Binding, policy: Policy) -> datetime:
    """When to begin: policy's share of the life before its end, spread by the relationship's key.

    Devices that enrolled in the same hour would renew in the same hour; the key tells each its own place
    within the spread, the same whoever asks.
    """
    life = max(binding.not_after - binding.bound_at, timedelta(0))
    lead = max(life * policy.renew_at_life_left / 100, min(LEAST_LEAD, life / 2))
    spread = min(policy.renewal_spread, lead / 4)
    return binding.not_after - lead + spread * _place_of(binding.enrollment_key)


def walk_until(policy: Policy, now: datetime, longest_life: timedelta) -> datetime:
    """Certificates that end later than this are not due, whenever they began."""
    return now + max(longest_life * policy.renew_at_life_left / 100, LEAST_LEAD)


def back_off(attempts: int) -> timedelta:
    """How long to wait after so many failures in a row."""
    return _BACK_OFF[min(max(attempts, 1), len(_BACK_OFF)) - 1]


def can_renew(sight: Sight) -> bool:
    """Whether there is an identity in use at all: of a device that is served, and that nobody displaced."""
    row = sight.enrollment
    in_use = row.standing is Standing.CURRENT and row.state.is_served and not row.is_user_channel
    return in_use and bool(sight.bindings)


def is_under_way(sight: Sight) -> bool:
    """Whether a renewal was begun and not ended: there are never two at a time."""
    if sight.enrollment.state is State.RENEWING:
        return True
    asked = sight.renewal is not None and sight.renewal.phase is RenewalPhase.ASKED
    return asked and sight.command is not None and sight.command.state in _LIVE


def judge(sight: Sight, policy: Policy, now: datetime) -> Verdict:
    """Look at one relationship: is it due, what became of the attempt, and when to look again."""
    if not can_renew(sight):
        return Verdict(after=None)
    renewal = sight.renewal
    if renewal is not None and renewal.phase is RenewalPhase.ASKED:
        return _judge_asked(sight, renewal, now)
    if sight.enrollment.profile is None:
        return _judge_foreign(sight, now)
    if renewal is None:
        after = begin(sight, policy)
        return Verdict(after=after, is_due=after.look_at <= now)
    if renewal.phase is RenewalPhase.COMPLETED:
        return _judge_completed(sight, renewal, policy, now)
    return _judge_waiting(sight, renewal, policy, now)


def begin(sight: Sight, policy: Policy) -> Renewal:
    """The first note about a relationship: when its identity is to be renewed."""
    binding = sight.bindings[0]
    return Renewal(
        enrollment_key=sight.enrollment.key,
        tenant=sight.enrollment.tenant,
        phase=RenewalPhase.SCHEDULED,
        fingerprint=binding.fingerprint,
        look_at=due_at(binding, policy),
    )


def asked(renewal: Renewal, sight: Sight, uuid: CommandUuid, now: datetime) -> Renewal:
    """The note that a device is asked under this CommandUUID, made before it is."""
    newest = max(sight.bindings, key=lambda one: (one.bound_at, one.fingerprint))
    return replace(
        renewal,
        phase=RenewalPhase.ASKED,
        fingerprint=newest.fingerprint,
        look_at=now + _OFTEN,
        asked_at=now,
        command_uuid=uuid,
        finished_at=None,
        outcome="",
    )


def failed(renewal: Renewal, sight: Sight, why: str, now: datetime) -> Verdict:
    """An attempt that came to nothing: told, and tried again after a while."""
    attempts = renewal.attempts + 1
    after = replace(
        renewal,
        phase=RenewalPhase.FAILED,
        attempts=attempts,
        look_at=now + back_off(attempts),
        finished_at=now,
        outcome=why,
    )
    alert = renewal_alerts.renewal_failed(sight.enrollment, why, after.look_at)
    return Verdict(after=after, alerts=(alert, *_ends_soon(sight, now)))


def _judge_asked(sight: Sight, renewal: Renewal, now: datetime) -> Verdict:
    in_force = {binding.fingerprint for binding in sight.bindings}
    command, asked_at = sight.command, renewal.asked_at or now
    is_settled = sight.enrollment.state is State.ENROLLED
    was_cancelled = command is not None and command.state is CommandState.CANCELLED
    if is_settled and renewal.fingerprint not in in_force:
        return Verdict(after=_completed(renewal, now, proves=not was_cancelled))
    why = _why_failed(command, asked_at, now)
    if is_settled and any(binding.bound_at > asked_at for binding in sight.bindings):
        went_back = "the device went back to its earlier identity"
        return failed(renewal, sight, f"{went_back}; {why}" if why else went_back, now)
    if now - asked_at >= ATTEMPT_LASTS:
        return _lapsed(sight, renewal, now)
    if why is not None:
        return failed(renewal, sight, why, now)
    return _look_later(sight, renewal, now, (now - asked_at) / 4)


def _why_failed(command: CommandSight | None, asked_at: datetime, now: datetime) -> str | None:
    """Why the command will not bring a new identity any more; None while it may."""
    if command is None:
        is_late = now - asked_at >= QUEUED_WITHIN
        return "the command is not in the queue, nor among those that ended" if is_late else None
    match command.state:
        case CommandState.FAILED:
            return f"the device answered: {said_of_error(command.result)}"
        case CommandState.CANCELLED:
            return "the command was cancelled"
        case CommandState.DONE:
            is_late = now - (command.closed_at or asked_at) >= ANSWER_WITHIN
            return "the device took the profile, and no new certificate came" if is_late else None
        case _:
            return None


def _lapsed(sight: Sight, renewal: Renewal, now: datetime) -> Verdict:
    """The credential is about to end: what still waits in the queue would only fail."""
    command = sight.command
    waits = command is not None and command.state in _LIVE
    cancel = renewal.command_uuid if waits else None
    if command is not None and command.hand_outs:
        why = (
            f"the device took the command and did not carry it out within {ATTEMPT_LASTS.days} days"
        )
        return replace(failed(renewal, sight, why, now), cancel=cancel)
    after = replace(
        renewal,
        phase=RenewalPhase.UNANSWERED,
        is_canary=False,  # a device that is switched off holds up nobody
        look_at=now + _DAILY,
        finished_at=now,
        outcome=f"the device did not come for {ATTEMPT_LASTS.days} days",
    )
    return Verdict(after=after, cancel=cancel, alerts=_ends_soon(sight, now))


def _judge_foreign(sight: Sight, now: datetime) -> Verdict:
    binding = sight.bindings[0]
    known = sight.renewal or Renewal(
        enrollment_key=sight.enrollment.key,
        tenant=sight.enrollment.tenant,
        phase=RenewalPhase.UNABLE,
        fingerprint=binding.fingerprint,
        look_at=now,
    )
    after = replace(
        known,
        phase=RenewalPhase.UNABLE,
        is_canary=False,
        look_at=now + LEAST_LEAD / 2,
        outcome="its enrollment profile is not one of ours",
    )
    alert = renewal_alerts.cannot_renew(sight.enrollment, binding.not_after, now)
    return Verdict(after=after, alerts=(alert,))


def _judge_completed(sight: Sight, renewal: Renewal, policy: Policy, now: datetime) -> Verdict:
    """Remembered for a while as proof; then the next certificate's own time is noted."""
    until = (renewal.finished_at or now) + PROOF_LASTS
    if now < until:
        return Verdict(after=replace(renewal, look_at=until))
    again = replace(begin(sight, policy), version=renewal.version)
    return Verdict(after=again if again.look_at <= now + LEAST_LEAD else None)


def _judge_waiting(sight: Sight, renewal: Renewal, policy: Policy, now: datetime) -> Verdict:
    """Scheduled, failed, unanswered, or able again: is it time?"""
    row = sight.enrollment
    if row.state is State.RENEWING:
        return _look_later(sight, renewal, now, _RARELY)
    if renewal.phase is RenewalPhase.FAILED:
        return Verdict(after=renewal, is_due=renewal.look_at <= now)
    if renewal.phase is RenewalPhase.UNANSWERED:
        gone_since = renewal.finished_at or now
        if row.last_seen_at is None or row.last_seen_at <= gone_since:
            return _look_later(sight, renewal, now, _DAILY)
        return Verdict(after=replace(renewal, phase=RenewalPhase.SCHEDULED, look_at=now))
    if due_at(sight.bindings[0], policy) > now:
        return Verdict(after=replace(begin(sight, policy), version=renewal.version))
    return Verdict(after=renewal, is_due=True)


def _completed(renewal: Renewal, now: datetime, *, proves: bool) -> Renewal:
    return replace(
        renewal,
        phase=RenewalPhase.COMPLETED,
        attempts=0,
        is_canary=renewal.is_canary and proves,
        look_at=now + PROOF_LASTS,
        finished_at=now,
        outcome="a new identity is in use",
    )


def _look_later(sight: Sight, renewal: Renewal, now: datetime, wait: timedelta) -> Verdict:
    """Nothing to do yet; people are told once the end is near."""
    later = replace(renewal, look_at=now + _within(wait))
    return Verdict(after=later, alerts=_ends_soon(sight, now))


def _within(wait: timedelta) -> timedelta:
    return wait if wait == _DAILY else min(max(wait, _OFTEN), _RARELY)


def _ends_soon(sight: Sight, now: datetime) -> tuple[Alert, ...]:
    not_after = sight.bindings[0].not_after
    if not_after - now > ENDS_SOON:
        return ()
    return (renewal_alerts.ends_soon(sight.enrollment, not_after, now),)


def said_of_error(result: str) -> str:
    """The first sentence of a device's ErrorChain, from what was kept of its report."""
    try:
        kept = json.loads(result)
    except ValueError:
        kept = None
    chain = kept.get("ErrorChain") if isinstance(kept, dict) else None
    first = chain[0] if isinstance(chain, list) and chain else None
    if not isinstance(first, dict):
        return "an error, without a reason"
    for name in ("USEnglishDescription", "LocalizedDescription", "ErrorDomain"):
        if isinstance(said := first.get(name), str) and said:
            return said[:200]
    return "an error, without a reason"


def _place_of(key: EnrollmentKey) -> float:
    """Where within a spread a relationship has its place: from 0 to 1, always the same."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) / 2**32
