"""Which values are shown though no pointer names them. Source: escrowed-secrets.md 4.0.3 row 9."""

from typing import Any

import pytest

from conformance.storage_values import after, device, escrow, record, record_id
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_doubt import given_up
from ostiary.domain.escrow_fetched import LOOKS_ODD
from ostiary.domain.escrow_lifecycle import Cause
from ostiary.domain.escrow_view import may_be_in_force, view_secrets
from ostiary.domain.token import TokenKind, TokenRecord, TokenState

ADMIN, LOCK, DISK = (
    TokenKind.ADMIN_PASSWORD,
    TokenKind.RECOVERY_LOCK,
    TokenKind.FILEVAULT_KEY,
)
SUSPECT = TokenState.SUSPECT


def value(number: int, kind: TokenKind = ADMIN, **changes: Any) -> TokenRecord:
    return record(number, 1, kind, **{"generation": number, **changes})


def doubted(kind: TokenKind = ADMIN, **changes: Any) -> Escrow:
    facts = {"state": EscrowState.UNCERTAIN, "current": record_id(1), "trouble": "no answer"}
    return escrow(1, kind, **{**facts, **changes})


THREE = (value(1), value(2, state=SUSPECT), value(3, state=TokenState.RETIRED))


def numbers(state: Escrow, records: tuple[TokenRecord, ...]) -> list[int]:
    by_id = {one.id: one.generation for one in records}
    return [by_id[one] for one in may_be_in_force(state, records)]


def test_a_value_that_was_given_up_in_doubt_is_shown_once_the_next_one_has_failed() -> None:
    assert numbers(doubted(), THREE) == [1, 2]


def test_what_is_in_force_comes_first_and_the_newest_last() -> None:
    records = (*THREE, value(4, state=SUSPECT), value(5))
    flying = doubted(state=EscrowState.IN_FLIGHT, candidate=record_id(5))
    assert numbers(flying, records) == [1, 2, 4, 5]
    queued = doubted(state=EscrowState.CANDIDATE, candidate=record_id(5))
    assert numbers(queued, records) == [1, 2, 4], "the device has not seen the newest"


def test_where_nothing_was_in_force_what_may_be_is_shown() -> None:
    assert numbers(doubted(current=None), THREE) == [2]


@pytest.mark.parametrize(
    "state",
    [
        escrow(1, ADMIN, current=record_id(1)),
        doubted(current=record_id(3)),
        doubted(state=EscrowState.CANDIDATE, trouble=None),
    ],
    ids=["settled", "a later one was promoted", "no doubt was there before"],
)
def test_what_was_settled_since_is_history(state: Escrow) -> None:
    assert given_up(state, THREE) == ()


def test_an_erase_makes_history_of_what_was_in_doubt_before_it() -> None:
    erased = value(3, state=TokenState.RETIRED, cause=Cause.ERASED.value)
    records = (value(1), value(2, state=SUSPECT), erased, value(4, state=SUSPECT))
    assert numbers(doubted(current=None), records) == [4]


def test_the_device_s_own_word_outdates_an_older_doubt() -> None:
    told = value(1, LOCK, proven_at=after(hours=2))
    before = value(2, LOCK, state=SUSPECT, changed_at=after(hours=1))
    since = value(3, LOCK, state=SUSPECT, changed_at=after(hours=3))
    assert numbers(doubted(LOCK), (told, before, since)) == [1, 3]


def test_a_clock_that_went_back_hides_no_password_that_no_device_names() -> None:
    promoted = value(1, proven_at=after(hours=9))
    assert numbers(doubted(), (promoted, value(2, state=SUSPECT))) == [1, 2]


def test_the_overview_names_what_may_be_in_force_as_well() -> None:
    (shown,) = view_secrets(device(1), [doubted()], THREE, (), after(days=1))
    assert shown.is_uncertain
    assert shown.candidate is not None
    assert shown.candidate.generation == 2
    assert any("Generation 2 may be in force as well" in note for note in shown.notes)


def test_the_overview_says_that_a_key_looks_odd() -> None:
    odd = value(1, DISK, cause=f"came with a report; {LOOKS_ODD}")
    held = escrow(1, DISK, current=record_id(1))
    (shown,) = view_secrets(device(1), [held], [odd], (), after(days=1))
    assert any("does not look like a recovery key" in note for note in shown.notes)


@pytest.mark.parametrize("state", [EscrowState.CANDIDATE, EscrowState.IN_FLIGHT])
def test_a_key_that_the_mac_told_is_shown_while_a_rotation_is_queued(state: EscrowState) -> None:
    """It came from there; what waits in the queue says nothing of it."""
    turning = doubted(DISK, state=state, candidate=record_id(2))
    assert numbers(turning, (value(1, DISK), value(2, DISK))) == [1, 2]
