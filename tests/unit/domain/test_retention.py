"""Which generations may be forgotten, and which never; which values came back."""

from datetime import timedelta
from typing import Any

import pytest

from conformance.storage_values import NOON, digest, key, record_id
from ostiary.domain.policy import Policy
from ostiary.domain.retention import (
    AGE_RULES,
    ESCROWED,
    MAY_OPEN,
    MOST_YOUNG,
    Aged,
    Disposable,
    Generation,
    judge_history,
    returned_values,
)
from ostiary.domain.token import DEFAULT_TENANT, FORM_OF, Form, Holder, TokenKind, TokenState

POLICY = Policy(most_brief_generations=10)
DAY = timedelta(days=1)
YEARS = timedelta(days=3650)


def generation(number: int, **changes: Any) -> Generation:
    """An unlock token that came `number` minutes after noon and was replaced a minute later."""
    at = NOON + timedelta(minutes=number)
    facts: dict[str, Any] = {
        "id": record_id(number),
        "tenant": DEFAULT_TENANT,
        "holder": Holder("UDID-1"),
        "kind": TokenKind.UNLOCK,
        "generation": number,
        "digest": digest(number),
        "state": TokenState.SUPERSEDED,
        "relationship": key(1),
        "received_at": at,
        "changed_at": at + timedelta(minutes=1),
        "expires_at": None,
        "proven_at": None,
        "is_current": False,
    }
    return Generation(**{**facts, **changes})


def numbers(disposable: Disposable) -> set[int]:
    return {int(one, 16) for one in disposable.ids}


def history(count: int, **changes: Any) -> list[Generation]:
    """So many generations, the last of them in force."""
    older = [generation(number, **changes) for number in range(1, count)]
    return [*older, generation(count, **{**changes, "state": TokenState.OK, "is_current": True})]


def test_every_age_rule_names_a_policy_that_exists() -> None:
    assert {rule.records for rule in AGE_RULES} == set(Aged)
    for rule in AGE_RULES:
        assert rule.keep(Policy()) == getattr(Policy(), rule.policy)


def test_what_is_in_force_stays_for_ever() -> None:
    """users.md 5.2: nothing acknowledged is ever lost."""
    states = (TokenState.OK, TokenState.CANDIDATE, TokenState.SUSPECT)
    for kind in (TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP):
        parts = [generation(n, state=states[n % 3], kind=kind) for n in range(1, 200)]
        assert judge_history(parts, POLICY, NOON + YEARS) == Disposable()


def test_what_an_enrollment_points_to_stays_whatever_its_state() -> None:
    """A dead push token is still the one that the device may send again. (AP-04)"""
    parts = [generation(n, state=TokenState.DEAD, is_current=n == 5) for n in range(1, 50)]
    assert 5 not in numbers(judge_history(parts, POLICY, NOON + YEARS))


def test_old_secrets_go_but_for_the_first_the_last_the_longest_and_the_proven_one() -> None:
    """escrowed-secrets.md 4.0.2: an operator may still need any of these."""
    parts = history(20)
    parts[6] = generation(7, changed_at=NOON + timedelta(hours=5))
    parts[8] = generation(9, proven_at=NOON)
    parts[9] = generation(10, proven_at=NOON + DAY)
    found = judge_history(parts, POLICY, NOON + 400 * DAY)
    assert numbers(found) == set(range(2, 18)) - {7, 10}
    assert not found.crowded


def test_young_secrets_stay_as_long_as_there_is_no_crowd() -> None:
    parts = history(12)
    assert judge_history(parts, POLICY, NOON + 300 * DAY) == Disposable()


def test_older_push_tokens_go_after_a_month() -> None:
    parts = history(20, kind=TokenKind.PUSH)
    assert numbers(judge_history(parts, POLICY, NOON + 31 * DAY)) == set(range(1, 20))
    assert not judge_history(parts[:15], POLICY, NOON + 29 * DAY).aged


def test_in_a_crowd_the_briefest_go_first() -> None:
    """A device that hands over values without end cannot fill the disk."""
    parts = [
        generation(n, changed_at=NOON + timedelta(minutes=n, seconds=100 - n)) for n in range(1, 60)
    ]
    found = judge_history([*parts, generation(60, state=TokenState.OK)], POLICY, NOON + 2 * DAY)
    assert not found.aged
    assert (
        len(found.crowded) == 59 - 10 - 3
    )  # ten brief ones; the first (it served longest), the last two
    assert max(int(one, 16) for one in found.crowded) == 57
    assert min(int(one, 16) for one in found.crowded) == 57 - len(found.crowded) + 1


def test_no_flood_pushes_out_a_value_that_served_for_a_day() -> None:
    """Whoever has a device's certificate must not be able to make us forget the true value. (users.md 5.4)"""
    true = [
        generation(n, received_at=NOON - (9 - n) * DAY, changed_at=NOON - (8 - n) * DAY)
        for n in range(1, 5)
    ]
    flood = [generation(n) for n in range(5, 2_000)]
    found = judge_history([*true, *flood], POLICY, NOON + 3 * DAY)
    assert not numbers(found) & {1, 2, 3, 4}
    assert len(found.ids) > 1_900


def replayed_each_second(count: int, *, true: int) -> list[Generation]:
    """A true value that came in the middle of a flood, in force for a second like all the others."""
    flood = [
        generation(
            number,
            received_at=NOON + timedelta(seconds=number),
            changed_at=NOON + timedelta(seconds=number + (1 if number == true else 2)),
        )
        for number in range(2, count)
    ]
    return [generation(1, received_at=NOON - 100 * DAY, changed_at=NOON), *flood]


def test_no_flood_pushes_out_a_value_before_anybody_can_answer_the_alert() -> None:
    """A device that is set up anew while somebody replays its messages hands over its only token once. (TU-5)"""
    parts = replayed_each_second(1_900, true=30)
    soon = judge_history(parts, POLICY, NOON + timedelta(hours=1))
    assert not soon.ids
    assert soon.is_flood
    assert not judge_history(parts, POLICY, NOON + timedelta(hours=23)).ids
    assert 30 in numbers(judge_history(parts, POLICY, NOON + 2 * DAY))


def test_the_briefest_of_thousands_that_came_within_a_day_go_at_once() -> None:
    """The disk is not endless; what stays for ever is not among them."""
    parts = replayed_each_second(MOST_YOUNG + 500, true=30)
    parts[39] = generation(40, received_at=NOON, changed_at=NOON, proven_at=NOON)
    found = judge_history(parts, POLICY, NOON + timedelta(hours=1))
    assert not found.aged
    assert 30 in numbers(found)
    assert not numbers(found) & {1, 40, *range(MOST_YOUNG + 497, MOST_YOUNG + 500)}
    gone = set(found.ids)
    left = [one for one in parts if one.id not in gone]
    assert MOST_YOUNG <= len(left) <= MOST_YOUNG + 6
    assert not judge_history(left, POLICY, NOON + timedelta(hours=1)).ids


def test_a_few_values_in_a_day_are_no_flood() -> None:
    assert not judge_history(history(10), POLICY, NOON + timedelta(hours=1)).is_flood
    assert not judge_history(history(40), Policy(), NOON + 3 * DAY).is_flood


def test_a_flood_of_slow_values_does_not_push_out_the_proven_nor_the_longest() -> None:
    """An attacker may hold each false value longer than the true one served."""
    young = generation(1, changed_at=NOON + timedelta(minutes=1, seconds=5), proven_at=NOON)
    longest = generation(2, changed_at=NOON + timedelta(hours=23))
    flood = [generation(n, changed_at=NOON + timedelta(minutes=n, hours=2)) for n in range(3, 200)]
    found = judge_history([young, longest, *flood], POLICY, NOON + 20 * DAY)
    assert found.crowded
    assert not numbers(found) & {1, 2}


def test_a_rival_cannot_crowd_out_what_the_other_side_handed_over() -> None:
    """Whoever contests an enrollment writes into the same history. (2.3)"""
    ours = history(8)
    theirs = [generation(n, relationship=key(2)) for n in range(10, 500)]
    found = judge_history([*ours, *theirs], POLICY, NOON + 2 * DAY)
    assert min(numbers(found)) >= 10


def test_a_crowd_among_old_and_settled_values_is_bounded_by_their_age() -> None:
    """One value a day is the most that age alone has to deal with."""
    parts = [
        generation(n, received_at=NOON + n * DAY, changed_at=NOON + (n + 1) * DAY)
        for n in range(1, 1000)
    ]
    found = judge_history(parts, POLICY, NOON + 1000 * DAY)
    assert not found.crowded
    assert len(parts) - len(found.aged) < 365 + 10


def test_a_replaced_certificates_record_goes_a_year_after_its_own_end() -> None:
    parts = [
        generation(1, kind=TokenKind.IDENTITY, expires_at=NOON),
        generation(2, kind=TokenKind.IDENTITY, expires_at=NOON + 300 * DAY),
        generation(3, kind=TokenKind.IDENTITY, expires_at=NOON, state=TokenState.OK),
    ]
    assert numbers(judge_history(parts, POLICY, NOON + 366 * DAY)) == {1}


def test_what_people_made_stays() -> None:
    for kind in (TokenKind.API_TOKEN, TokenKind.PUSH_CERTIFICATE):
        parts = [generation(n, kind=kind, relationship=None) for n in range(1, 300)]
        assert judge_history(parts, POLICY, NOON + YEARS) == Disposable()


@pytest.mark.parametrize("kind", sorted(ESCROWED))
def test_no_generation_of_an_escrowed_secret_ever_goes(kind: TokenKind) -> None:
    """A disk may still open with the oldest recovery key, a Mac from a backup with its old lock. (4.0.3)"""
    for state in TokenState:
        parts = [generation(n, kind=kind, state=state) for n in range(1, MOST_YOUNG + 300)]
        for now in (NOON + DAY, NOON + YEARS):
            assert judge_history(parts, POLICY, now) == Disposable()


def test_whatever_is_sealed_may_open_something_but_for_what_pushes() -> None:
    """A kind that is added is to be found here: its relationship must not be forgotten."""
    sealed = {kind for kind, form in FORM_OF.items() if form is Form.SEALED}
    assert sealed - MAY_OPEN == {TokenKind.PUSH, TokenKind.PUSH_CERTIFICATE}
    assert not MAY_OPEN - sealed


def test_a_value_that_another_had_replaced_is_seen_to_return() -> None:
    parts = [generation(1), generation(2), generation(3, digest=digest(1), state=TokenState.OK)]
    assert [one.generation for one in returned_values(parts, 2, 3, NOON)] == [3]
    assert not returned_values(parts, 2, 2, NOON)


def test_a_value_may_come_again_with_an_enrollment_that_began_anew() -> None:
    """Retired is not replaced: the device took it back, or enrolled again with the same keys. (2.3-C)"""
    again = generation(3, digest=digest(1), state=TokenState.OK)
    retired = generation(1, state=TokenState.RETIRED)
    assert not returned_values([retired, generation(2), again], 1, 3, NOON)
    elsewhere = generation(1, relationship=key(2))
    assert not returned_values([elsewhere, generation(2), again], 1, 3, NOON)


def test_what_returned_long_ago_is_no_news() -> None:
    """A history that was carried over from another database is looked at once more."""
    parts = [generation(1), generation(2), generation(3, digest=digest(1))]
    assert not returned_values(parts, 1, 3, NOON + 2 * DAY)
