"""Canaries first, then the others, a wave a day."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from ostiary.domain.policy import Policy
from ostiary.domain.renewal import Renewal, RenewalPhase
from ostiary.domain.renewal_wave import (
    AT_ONCE,
    CANARY_PATIENCE,
    Barrier,
    Due,
    Gate,
    Tally,
    pick,
    planned_at,
    raise_barrier,
)
from unit.domain.renewal_sights import NOW, asked_renewal, binding, enrollment, renewal, sight

POLICY = Policy()
NOTHING = Tally()
OPEN = Barrier(gate=Gate.OPEN)
HOUR = timedelta(hours=1)


def due(number: int, **changes: Any) -> Due:
    return Due(sight=sight(number), renewal=renewal(number, **changes))


def many(number: int) -> list[Due]:
    return [due(one) for one in range(1, number + 1)]


def completed(number: int) -> Renewal:
    return renewal(
        number, phase=RenewalPhase.COMPLETED, is_canary=True, finished_at=NOW - HOUR
    )  # fmt: skip


def failed(number: int) -> Renewal:
    return renewal(number, phase=RenewalPhase.FAILED, is_canary=True, finished_at=NOW - HOUR)


def gate(*canaries: Renewal, tally: Tally = NOTHING, policy: Policy = POLICY) -> Gate:
    return raise_barrier(canaries, tally, policy, NOW).gate


def test_a_few_go_first_and_the_others_wait_until_these_have_renewed() -> None:
    assert gate() is Gate.UNPROVEN
    assert gate(asked_renewal(1, is_canary=True)) is Gate.WAITING
    assert gate(completed(1), asked_renewal(2, is_canary=True)) is Gate.WAITING
    assert gate(completed(1), completed(2)) is Gate.OPEN


def test_canaries_that_fail_stop_everybody() -> None:
    assert gate(failed(1)) is Gate.STOPPED
    assert gate(failed(1), completed(2)) is Gate.STOPPED


def test_one_odd_device_among_many_canaries_is_not_the_fleet() -> None:
    assert gate(failed(1), *(completed(number) for number in range(2, 8))) is Gate.OPEN


def test_a_canary_that_is_switched_off_does_not_hold_up_the_others_for_ever() -> None:
    silent = asked_renewal(1, is_canary=True, asked_at=NOW - CANARY_PATIENCE)
    assert gate(silent, completed(2)) is Gate.OPEN
    assert gate(silent) is Gate.UNPROVEN


def test_an_old_proof_is_none() -> None:
    old = renewal(
        1, phase=RenewalPhase.COMPLETED, is_canary=True, finished_at=NOW - timedelta(days=31)
    )
    assert gate(old) is Gate.UNPROVEN


def test_without_canaries_nobody_waits() -> None:
    assert gate(policy=replace(POLICY, renewal_canary_share=0)) is Gate.OPEN
    named = replace(POLICY, renewal_canary_share=0, renewal_canaries="UDID-1")
    assert gate(policy=named) is Gate.UNPROVEN


def test_more_failures_than_successes_in_a_day_stop_everybody_canaries_or_not() -> None:
    policy = replace(POLICY, renewal_canary_share=0)
    assert gate(tally=Tally(failed_last_day=5, completed_last_day=4), policy=policy) is Gate.STOPPED
    assert gate(tally=Tally(failed_last_day=5, completed_last_day=5), policy=policy) is Gate.OPEN
    assert gate(tally=Tally(failed_last_day=4), policy=policy) is Gate.OPEN


def test_a_share_of_the_due_ones_is_chosen_and_at_least_one() -> None:
    unproven = Barrier(gate=Gate.UNPROVEN)
    picks = pick(many(3), (), unproven, NOTHING, POLICY, NOW)
    assert [one.is_canary for one in picks] == [True]
    picks = pick(many(100), (), unproven, NOTHING, POLICY, NOW)
    assert len(picks) == 5


def test_canaries_are_rather_devices_that_were_heard_of_lately() -> None:
    silent = replace(sight(1), enrollment=enrollment(1, last_seen_at=NOW - timedelta(days=90)))
    queue = [Due(sight=silent, renewal=renewal(1)), due(2)]
    (picked,) = pick(queue, (), Barrier(gate=Gate.UNPROVEN), NOTHING, POLICY, NOW)
    assert picked.due == queue[1]


def test_named_canaries_go_first_due_or_not() -> None:
    named = (due(77), due(78))
    picks = pick(many(10), named, Barrier(gate=Gate.UNPROVEN), NOTHING, POLICY, NOW)
    assert [one.due for one in picks] == list(named)


def test_while_canaries_are_out_nobody_else_is_asked() -> None:
    for closed in (Gate.WAITING, Gate.STOPPED):
        assert pick(many(10), (), Barrier(gate=closed), NOTHING, POLICY, NOW) == ()


def test_a_canary_that_failed_is_asked_again_even_while_all_others_are_stopped() -> None:
    again = due(1, is_canary=True, phase=RenewalPhase.FAILED, attempts=1)
    picks = pick([again, due(2)], (), Barrier(gate=Gate.STOPPED), NOTHING, POLICY, NOW)
    assert [(one.due, one.is_canary) for one in picks] == [(again, True)]


def test_a_day_s_wave_is_spread_over_its_hours() -> None:
    policy = replace(POLICY, renewals_a_day=240)
    assert len(pick(many(49), (), OPEN, NOTHING, policy, NOW)) == 10
    assert len(pick(many(49), (), OPEN, Tally(asked_last_hour=7), policy, NOW)) == 3
    full = Tally(asked_last_hour=0, asked_last_day=240)
    assert pick(many(49), (), OPEN, full, policy, NOW) == ()


def test_whoever_is_near_the_end_is_asked_though_the_wave_is_full() -> None:
    near = binding(3, not_after=NOW + timedelta(days=20))
    urgent = Due(sight=sight(3, bindings=(near,)), renewal=renewal(3))
    full = Tally(asked_last_hour=100, asked_last_day=1000)
    picks = pick([due(1), due(2), urgent], (), OPEN, full, POLICY, NOW)
    assert [one.due for one in picks] == [urgent]


def test_a_round_asks_no_more_than_the_server_can_push() -> None:
    policy = replace(POLICY, renewals_a_day=100_000)
    assert len(pick(many(AT_ONCE + 30), (), OPEN, NOTHING, policy, NOW)) == AT_ONCE


def test_the_turn_of_a_device_is_told_where_it_can_be_known() -> None:
    assert planned_at(500, OPEN, POLICY, NOW) == NOW + timedelta(hours=12)
    assert planned_at(0, Barrier(gate=Gate.STOPPED), POLICY, NOW) is None


def test_a_named_canary_that_is_due_goes_before_the_wave_and_the_others_wait_for_it() -> None:
    """Also where others have shown that it works: each wave begins with whoever is named."""
    queue = many(4)
    named = (queue[2], due(77))
    for open_to in (Gate.OPEN, Gate.WAITING):
        picks = pick(queue, named, Barrier(gate=open_to), NOTHING, POLICY, NOW)
        assert [(one.due, one.is_canary) for one in picks] == [(queue[2], True)]
    rest = [one for one in queue if one is not queue[2]]
    picks = pick(rest, (due(77),), OPEN, NOTHING, POLICY, NOW)
    assert [one.due for one in picks] == rest
    assert not any(one.is_canary for one in picks)


def test_named_canaries_alone_are_asked_and_nobody_with_them() -> None:
    """Whoever is not due is asked where others wait for the proof, and nobody does."""
    alone = due(1)
    for barrier in (OPEN, Barrier(gate=Gate.UNPROVEN), Barrier(gate=Gate.WAITING)):
        picks = pick([alone], (alone, due(77)), barrier, NOTHING, POLICY, NOW)
        assert [(one.due, one.is_canary) for one in picks] == [(alone, True)]
    stopped = Barrier(gate=Gate.STOPPED)
    assert pick([alone], (alone,), stopped, NOTHING, POLICY, NOW) == ()
