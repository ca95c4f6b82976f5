"""When an identity is renewed, and what became of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ostiary.domain.command import CommandState
from ostiary.domain.enrollment import Enrollment, Standing, State
from ostiary.domain.identity_renewal import (
    ATTEMPT_LASTS,
    PROOF_LASTS,
    asked,
    back_off,
    due_at,
    is_under_way,
    judge,
    said_of_error,
)
from ostiary.domain.policy import Policy
from ostiary.domain.renewal import RenewalPhase
from ostiary.protocol.mdm.connect import CommandUuid
from unit.domain.renewal_sights import (
    NOW,
    UUID,
    asked_renewal,
    binding,
    command,
    enrollment,
    renewal,
    sight,
)

POLICY = Policy()
DAY = timedelta(days=1)
NEW = binding(2, enrollment_key=binding().enrollment_key, bound_at=NOW - timedelta(hours=1))


def test_a_third_of_the_life_before_its_end_a_renewal_is_due() -> None:
    one = binding(bound_at=NOW, not_after=NOW + timedelta(days=730))
    at = due_at(one, replace(POLICY, renewal_spread=timedelta(0)))
    assert at == NOW + timedelta(days=730) * 0.67


def test_a_renewal_never_begins_later_than_thirty_days_before_the_end() -> None:
    """expiry-calendar.md: never later than 30."""
    one = binding(bound_at=NOW, not_after=NOW + timedelta(days=365))
    policy = replace(POLICY, renew_at_life_left=5, renewal_spread=timedelta(0))
    assert due_at(one, policy) == NOW + timedelta(days=335)


def test_a_brief_certificate_is_renewed_in_the_middle_of_its_life() -> None:
    one = binding(bound_at=NOW, not_after=NOW + timedelta(days=10))
    policy = replace(POLICY, renew_at_life_left=5, renewal_spread=timedelta(0))
    assert due_at(one, policy) == NOW + timedelta(days=5)


def test_a_certificate_that_ended_before_it_was_bound_is_due_at_its_end() -> None:
    """A clock that was set must not move anything into the far future."""
    one = binding(bound_at=NOW, not_after=NOW - DAY)
    assert due_at(one, POLICY) == NOW - DAY


def test_devices_that_enrolled_together_are_spread_and_each_keeps_its_place() -> None:
    dues = [due_at(binding(number), POLICY) for number in range(200)]
    assert max(dues) - min(dues) > timedelta(days=6)
    assert dues == [due_at(binding(number), POLICY) for number in range(200)]


def test_a_device_is_due_once_its_time_has_come() -> None:
    assert judge(sight(), POLICY, NOW).is_due
    fresh = sight(bindings=(binding(bound_at=NOW, not_after=NOW + timedelta(days=730)),))
    verdict = judge(fresh, POLICY, NOW)
    assert not verdict.is_due
    assert verdict.after is not None
    assert verdict.after.phase is RenewalPhase.SCHEDULED
    assert verdict.after.look_at == due_at(fresh.bindings[0], POLICY)


@pytest.mark.parametrize(
    "row",
    [
        enrollment(state=State.OUT),
        enrollment(state=State.PENDING),
        enrollment(state=State.REVOKED),
        enrollment(standing=Standing.CONTESTED),
        enrollment(standing=Standing.ENDED),
    ],
)
def test_whoever_is_not_served_is_forgotten(row: Enrollment) -> None:
    verdict = judge(sight(enrollment=row, renewal=renewal()), POLICY, NOW)
    assert (verdict.after, verdict.is_due) == (None, False)


def test_a_profile_from_another_server_cannot_be_renewed_and_people_are_told() -> None:
    verdict = judge(sight(enrollment=enrollment(profile=None)), POLICY, NOW)
    assert not verdict.is_due
    assert verdict.after is not None
    assert verdict.after.phase is RenewalPhase.UNABLE
    assert [alert.kind for alert in verdict.alerts] == ["identity-cannot-be-renewed"]


@pytest.mark.parametrize("state", [CommandState.QUEUED, CommandState.SENT, CommandState.DEFERRED])
def test_while_the_command_waits_there_is_no_second_one(state: CommandState) -> None:
    waiting = sight(renewal=asked_renewal(), command=command(state))
    assert is_under_way(waiting)
    verdict = judge(waiting, POLICY, NOW)
    assert not verdict.is_due
    assert verdict.after is not None
    assert verdict.after.phase is RenewalPhase.ASKED
    assert verdict.after.look_at > NOW


def test_a_device_that_is_renewing_is_not_asked_whoever_began_it() -> None:
    renewing = sight(enrollment=enrollment(state=State.RENEWING), renewal=renewal())
    assert is_under_way(renewing)
    assert not judge(renewing, POLICY, NOW).is_due


def test_a_new_certificate_in_place_of_the_old_one_completes_it() -> None:
    """2.4 row 7: the old certificate is dropped at the first use of the new one."""
    done = sight(bindings=(NEW,), renewal=asked_renewal(), command=command(CommandState.SENT))
    verdict = judge(done, POLICY, NOW)
    assert verdict.after is not None
    assert verdict.after.phase is RenewalPhase.COMPLETED
    assert not verdict.alerts
    kept = replace(done, renewal=verdict.after)
    assert judge(kept, POLICY, NOW + PROOF_LASTS - DAY).after is not None
    new_life = binding(bound_at=NOW, not_after=NOW + timedelta(days=730))
    later = replace(kept, bindings=(new_life,))
    assert judge(later, POLICY, NOW + PROOF_LASTS).after is None


def test_a_canary_that_enrolled_anew_proves_nothing() -> None:
    """2.3-C cancels the command; the new certificate did not come through the renewal."""
    again = sight(
        bindings=(NEW,),
        renewal=asked_renewal(is_canary=True),
        command=command(CommandState.CANCELLED),
    )
    verdict = judge(again, POLICY, NOW)
    assert verdict.after is not None
    assert (verdict.after.phase, verdict.after.is_canary) == (RenewalPhase.COMPLETED, False)


def test_both_certificates_in_force_mean_that_the_device_went_back() -> None:
    """2.4 row 8: the profile was rolled back; both bindings stay."""
    back = sight(
        bindings=(binding(), NEW),
        renewal=asked_renewal(),
        command=command(CommandState.FAILED, result="{}"),
    )
    verdict = judge(back, POLICY, NOW)
    assert verdict.after is not None
    assert (verdict.after.phase, verdict.after.attempts) == (RenewalPhase.FAILED, 1)
    assert "went back to its earlier identity" in verdict.after.outcome
    assert [alert.kind for alert in verdict.alerts] == ["identity-renewal-failed"]


def test_after_a_failure_it_is_tried_again_later_and_later() -> None:
    known, waits = asked_renewal(), []
    for _ in range(7):
        refused = command(CommandState.FAILED, result='{"ErrorChain": [{"ErrorDomain": "MCx"}]}')
        verdict = judge(sight(renewal=known, command=refused), POLICY, NOW)
        assert verdict.after is not None
        assert verdict.after.outcome == "the device answered: MCx"
        waits.append(verdict.after.look_at - NOW)
        failed = sight(renewal=verdict.after)
        assert not judge(failed, POLICY, verdict.after.look_at - timedelta(seconds=1)).is_due
        assert judge(failed, POLICY, verdict.after.look_at).is_due
        known = asked(verdict.after, failed, UUID, NOW - timedelta(hours=2))
    assert waits == sorted(waits)
    assert waits[0] == timedelta(hours=4) == back_off(1)
    assert waits[-1] == timedelta(days=7)


def test_a_failed_renewal_that_a_person_began_early_is_tried_again_all_the_same() -> None:
    fresh = binding(bound_at=NOW - DAY, not_after=NOW + timedelta(days=729))
    known = renewal(phase=RenewalPhase.FAILED, attempts=1, is_canary=True)
    verdict = judge(sight(bindings=(fresh,), renewal=known), POLICY, NOW)
    assert verdict.is_due
    assert verdict.after == known


def test_a_device_that_puts_it_off_until_its_credential_ends_has_failed() -> None:
    """NotNow for days: the command is taken back, for it would only fail. (6.3 rule 1)"""
    known = asked_renewal(asked_at=NOW - ATTEMPT_LASTS)
    deferred = command(CommandState.DEFERRED, hand_outs=40)
    verdict = judge(sight(renewal=known, command=deferred), POLICY, NOW)
    assert verdict.cancel == UUID
    assert verdict.after is not None
    assert verdict.after.phase is RenewalPhase.FAILED


def test_a_device_that_never_came_is_asked_again_once_it_is_heard_of() -> None:
    known = asked_renewal(asked_at=NOW - ATTEMPT_LASTS, is_canary=True)
    silent = enrollment(last_seen_at=NOW - timedelta(days=20))
    verdict = judge(
        sight(enrollment=silent, renewal=known, command=command(CommandState.QUEUED)), POLICY, NOW
    )
    assert verdict.cancel == UUID
    assert verdict.after is not None
    assert (verdict.after.phase, verdict.after.attempts) == (RenewalPhase.UNANSWERED, 0)
    assert not verdict.after.is_canary
    assert not judge(sight(enrollment=silent, renewal=verdict.after), POLICY, NOW + DAY).is_due
    back = enrollment(last_seen_at=NOW + DAY)
    again = judge(sight(enrollment=back, renewal=verdict.after), POLICY, NOW + 2 * DAY).after
    assert again is not None
    assert again.phase.wants_turn
    assert judge(sight(enrollment=back, renewal=again), POLICY, NOW + 2 * DAY).is_due


def test_a_command_that_is_nowhere_was_never_sent() -> None:
    """A server may die between the note that a device is asked and its command."""
    known = asked_renewal(asked_at=NOW - timedelta(minutes=1))
    verdict = judge(sight(renewal=known), POLICY, NOW)
    assert verdict.after is not None
    assert verdict.after.phase is RenewalPhase.ASKED
    later = judge(sight(renewal=known), POLICY, NOW + timedelta(minutes=30))
    assert later.after is not None
    assert later.after.phase is RenewalPhase.FAILED


def test_an_acknowledged_profile_without_a_new_certificate_has_failed_a_day_later() -> None:
    done = command(CommandState.DONE, closed_at=NOW)
    known = asked_renewal()
    early = judge(sight(renewal=known, command=done), POLICY, NOW + timedelta(hours=1))
    late = judge(sight(renewal=known, command=done), POLICY, NOW + DAY)
    assert early.after is not None
    assert late.after is not None
    assert early.after.phase is RenewalPhase.ASKED
    assert late.after.phase is RenewalPhase.FAILED


def test_people_are_told_of_a_device_that_did_not_come_when_its_end_is_near() -> None:
    near = binding(not_after=NOW + timedelta(days=10))
    waiting = sight(bindings=(near,), renewal=asked_renewal(), command=command(CommandState.QUEUED))
    assert [alert.kind for alert in judge(waiting, POLICY, NOW).alerts] == ["identity-ends"]
    ended = judge(waiting, POLICY, NOW + timedelta(days=10, hours=1))
    assert "ended on" in ended.alerts[0].sentence


def test_what_is_noted_before_a_device_is_asked_names_its_newest_certificate() -> None:
    """After a renewal that failed two are in force; the next one is over when both are gone."""
    noted = asked(renewal(), sight(bindings=(binding(), NEW)), CommandUuid("RENEW-2"), NOW)
    assert noted.fingerprint == NEW.fingerprint
    assert (noted.phase, noted.asked_at) == (RenewalPhase.ASKED, NOW)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ('{"ErrorChain": [{"LocalizedDescription": "Zu alt", "USEnglishDescription": "Old"}]}', "Old"),
        ('{"ErrorChain": []}', "an error, without a reason"),
        ('{"ErrorChain": [7]}', "an error, without a reason"),
        ("[]", "an error, without a reason"),
        ("not json", "an error, without a reason"),
    ],
)  # fmt: skip
def test_the_reason_that_a_device_gave_is_told(result: str, said: str) -> None:
    assert said_of_error(result) == said
