"""Secrets that devices make: when another value replaces ours, and when nothing does. Source: escrowed-secrets.md 4.3, 4.9."""

from dataclasses import replace
from typing import Any

import pytest

from escrow_world import DEVICE, IDENTITY, LATER, NEW, OLD, OTHER, SET, escrow, sealed
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_fetched import (
    LOOKS_ODD,
    Brought,
    begin,
    bring,
    hand_out,
    lose,
    put_off,
    refuse,
)
from ostiary.domain.escrow_machine import SetUnderWay
from ostiary.domain.ledger import SealedToken
from ostiary.domain.token import KeyedDigest, RecordId, TokenKind, TokenState
from ostiary.protocol.mdm.connect import CommandUuid

KEY, CODE = TokenKind.FILEVAULT_KEY, TokenKind.BYPASS_DEVICE
EVERY_KIND = pytest.mark.parametrize("kind", [KEY, CODE])
UNRESOLVED = [EscrowState.CANDIDATE, EscrowState.IN_FLIGHT]
ELSE = CommandUuid("ANOTHER")


def held(kind: TokenKind, state: EscrowState = EscrowState.SETTLED) -> Escrow:
    """The value "P1" is held as OLD; a command that brings another one is, or was, under way."""
    return escrow(kind, state, current=OLD, digest=KeyedDigest(b"P1"), set_uuid=SET)


def told(before: Escrow, value: str, record: RecordId = NEW, *, answers: bool) -> Brought:
    token: SealedToken = sealed(before.kind, record, value)
    return bring(before, token, DEVICE, IDENTITY, LATER, source="a report", answers=answers)


def states(brought: Brought) -> dict[RecordId, TokenState]:
    return {step.record_id: step.state for step in brought.steps}


@EVERY_KIND
@pytest.mark.parametrize("state", [EscrowState.SETTLED, EscrowState.UNCERTAIN])
def test_the_first_value_that_a_device_tells_is_held(kind: TokenKind, state: EscrowState) -> None:
    turn = told(escrow(kind, state), "P1", answers=False)
    assert [record.id for record in turn.records] == [NEW]
    assert turn.records[0].state is TokenState.OK
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.SETTLED, NEW)


@EVERY_KIND
def test_the_same_value_again_is_proof_and_no_generation(kind: TokenKind) -> None:
    before = held(kind)
    turn = told(before, "P1", answers=False)
    assert turn.escrow == before
    assert turn.records == ()
    assert [proof.record_id for proof in turn.proofs] == [OLD]


def odd(before: Escrow, value: str, *, answers: bool = False, **changes: Any) -> Brought:
    token = replace(sealed(KEY, NEW, value), looks_odd=True, **changes)
    return bring(before, token, DEVICE, IDENTITY, LATER, source="a report", answers=answers)


@pytest.mark.parametrize("answers", [True, False])
def test_a_key_that_looks_odd_stands_beside_the_one_that_is_held(answers: bool) -> None:
    """It may be damaged: CBC proves nothing of what it carries. Never drop a value for its look; flag it. (4.3)"""
    before = held(KEY, EscrowState.IN_FLIGHT if answers else EscrowState.SETTLED)
    turn = odd(before, " ", answers=answers)
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.UNCERTAIN, OLD)
    assert (turn.escrow.candidate, turn.escrow.digest) == (NEW, before.digest)
    (record,) = turn.records
    assert record.state is TokenState.CANDIDATE
    assert LOOKS_ODD in record.cause
    assert turn.steps == ()


def test_a_key_that_looks_odd_is_in_force_and_flagged_where_none_is_held() -> None:
    turn = odd(escrow(KEY), "WWWW-XXXX")
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.SETTLED, NEW)
    assert LOOKS_ODD in turn.records[0].cause
    again = odd(turn.escrow, "WWWW-XXXX", same_as=NEW)
    assert (again.escrow, again.records, again.steps) == (turn.escrow, (), ())


def test_an_odd_key_that_is_told_daily_is_one_generation() -> None:
    doubted = odd(held(KEY), " ").escrow
    assert odd(doubted, " ", same_as=NEW) == Brought(escrow=doubted)
    good = told(doubted, "P1", OTHER, answers=False)
    assert (good.escrow.state, good.escrow.current) == (EscrowState.SETTLED, OLD)
    assert states(good) == {OLD: TokenState.OK, NEW: TokenState.SUSPECT}
    back = odd(good.escrow, " ", same_as=NEW)
    assert (back.escrow.candidate, back.records) == (NEW, ())
    assert states(back) == {NEW: TokenState.CANDIDATE}


def test_an_odd_key_ends_no_rotation_that_is_under_way() -> None:
    before = held(KEY, EscrowState.IN_FLIGHT)
    turn = odd(before, " ")
    assert (turn.escrow.state, turn.escrow.candidate) == (EscrowState.IN_FLIGHT, NEW)
    assert turn.escrow.due_at == before.due_at


def test_the_next_good_key_takes_the_place_of_both() -> None:
    turn = told(odd(held(KEY), " ").escrow, "P2", OTHER, answers=False)
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.SETTLED, OTHER)
    assert states(turn) == {OLD: TokenState.SUPERSEDED, NEW: TokenState.SUSPECT}


@EVERY_KIND
@pytest.mark.parametrize("answers", [True, False])
def test_another_value_is_a_generation_and_the_old_one_is_history(
    kind: TokenKind, answers: bool
) -> None:
    turn = told(held(kind), "P2", answers=answers)
    assert turn.escrow.current == NEW
    assert turn.escrow.digest == KeyedDigest(b"P2")
    assert states(turn) == {OLD: TokenState.SUPERSEDED}


def test_an_answer_with_the_key_settles_the_rotation() -> None:
    turn = told(held(KEY, EscrowState.IN_FLIGHT), "P2", answers=True)
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.SETTLED, NEW)


@pytest.mark.parametrize("state", UNRESOLVED)
@pytest.mark.parametrize("value", ["P1", "P2"])
def test_a_key_told_in_between_does_not_end_a_rotation_that_is_under_way(
    state: EscrowState, value: str
) -> None:
    """It may yet be carried out, and its answer lost: then the key is in doubt. (FV-07)"""
    turn = told(held(KEY, state), value, answers=False)
    assert turn.escrow.state is state
    assert turn.escrow.current == (OLD if value == "P1" else NEW)
    if state is EscrowState.IN_FLIGHT:
        assert lose(turn.escrow, "no answer", LATER).escrow.state is EscrowState.UNCERTAIN


@pytest.mark.parametrize("value", ["P1", "P2"])
def test_the_device_s_own_word_ends_a_doubt(value: str) -> None:
    doubted = lose(held(KEY, EscrowState.IN_FLIGHT), "no answer", LATER)
    assert states(doubted) == {OLD: TokenState.SUSPECT}
    turn = told(doubted.escrow, value, answers=False)
    assert turn.escrow.state is EscrowState.SETTLED
    assert states(turn) == {OLD: TokenState.OK if value == "P1" else TokenState.SUPERSEDED}


@pytest.mark.parametrize("value", ["P1", "P2"])
def test_a_value_that_came_astray_is_kept_as_one_that_may_work_when_another_is_told(
    value: str,
) -> None:
    astray = replace(held(KEY, EscrowState.UNCERTAIN), candidate=OTHER, trouble="came astray")
    turn = told(astray, value, answers=False)
    assert turn.escrow.candidate is None, "a settled secret points at one value"
    assert states(turn)[OTHER] is TokenState.SUSPECT


@EVERY_KIND
@pytest.mark.parametrize("state", UNRESOLVED)
def test_only_one_command_brings_a_value_at_a_time(kind: TokenKind, state: EscrowState) -> None:
    with pytest.raises(SetUnderWay):
        begin(held(kind, state), ELSE, LATER)


@EVERY_KIND
def test_an_error_changes_nothing(kind: TokenKind) -> None:
    """(FV-08, AL-01)"""
    after = refuse(held(kind, EscrowState.IN_FLIGHT), SET, "no", LATER)
    assert (after.state, after.current, after.trouble) == (EscrowState.SETTLED, OLD, "no")
    assert refuse(held(kind, EscrowState.IN_FLIGHT), ELSE, "no", LATER).state.is_unresolved


def test_an_error_does_not_end_a_doubt_that_was_there_before() -> None:
    doubted = lose(held(KEY, EscrowState.IN_FLIGHT), "no answer", LATER).escrow
    again = hand_out(begin(doubted, ELSE, LATER), ELSE, LATER)
    assert refuse(again, ELSE, "wrong password", LATER).state is EscrowState.UNCERTAIN


def test_a_rotation_without_an_answer_leaves_the_key_in_doubt_and_a_fetch_does_not() -> None:
    assert lose(held(KEY, EscrowState.IN_FLIGHT), "why", LATER).escrow.state is (
        EscrowState.UNCERTAIN
    )
    fetched = lose(held(CODE, EscrowState.IN_FLIGHT), "why", LATER)
    assert fetched.escrow.state is EscrowState.SETTLED, "to ask for a code changes none"
    assert fetched.steps == ()


@EVERY_KIND
def test_what_never_went_out_leaves_no_doubt(kind: TokenKind) -> None:
    calm = lose(held(kind, EscrowState.CANDIDATE), "cancelled", LATER)
    assert calm.escrow.state is EscrowState.SETTLED
    settled = held(kind)
    assert lose(settled, "late", LATER) == Brought(escrow=settled)


@EVERY_KIND
def test_a_doubt_without_any_value_is_one_too(kind: TokenKind) -> None:
    lost = lose(escrow(kind, EscrowState.IN_FLIGHT, set_uuid=SET), "why", LATER)
    assert lost.steps == ()


@EVERY_KIND
def test_hand_out_and_not_now_move_it_there_and_back(kind: TokenKind) -> None:
    flying = hand_out(held(kind, EscrowState.CANDIDATE), SET, LATER)
    assert flying.state is EscrowState.IN_FLIGHT
    assert put_off(flying, SET, 1, LATER).state is EscrowState.CANDIDATE
    assert put_off(flying, SET, 2, LATER) == flying, "an earlier one may have been done unheard"
    assert put_off(flying, ELSE, 1, LATER) == flying
    assert hand_out(flying, SET, LATER) == flying
