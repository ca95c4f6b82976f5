"""The machine of secrets that the server sets, row by row. Source: escrowed-secrets.md 4.0.3, 4.4, 4.5."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from escrow_world import LATER, NEW, OLD, OTHER, SET, VERIFY, escrow
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_machine import (
    ANSWER_WITHIN,
    ASK_AGAIN,
    SecretUncertain,
    SetUnderWay,
    Turn,
    acknowledge,
    ask,
    cleared,
    could_not_say,
    go_out_again,
    hand_out,
    lose,
    put_off,
    refuse,
    restarted,
    verified,
    verify_again,
    was_denied,
)
from ostiary.domain.token import RecordId, TokenKind, TokenState
from ostiary.protocol.mdm.connect import CommandUuid

LOCK, FIRMWARE, ADMIN, PIN = (
    TokenKind.RECOVERY_LOCK,
    TokenKind.FIRMWARE_PASSWORD,
    TokenKind.ADMIN_PASSWORD,
    TokenKind.LOCK_PIN,
)
EVERY_KIND = pytest.mark.parametrize("kind", [LOCK, FIRMWARE, ADMIN, PIN])
UNRESOLVED = [state for state in EscrowState if state.is_unresolved]
ELSE = CommandUuid("ANOTHER")


def changing(
    kind: TokenKind, state: EscrowState, current: RecordId | None = OLD, **changes: Any
) -> Escrow:
    """OLD in force, NEW on its way."""
    return escrow(kind, state, current=current, candidate=NEW, set_uuid=SET, **changes)


def uncertain(kind: TokenKind) -> Escrow:
    """NEW went out and was never answered."""
    return lose(changing(kind, EscrowState.IN_FLIGHT), "no answer", LATER).escrow


def states(turn: Turn) -> dict[RecordId, TokenState]:
    """Where the generations went."""
    return {step.record_id: step.state for step in turn.steps}


def answered(before: Escrow, *, holds: bool) -> Turn:
    """The device's answer to the question that it was asked last."""
    assert before.verify_uuid is not None
    return verified(before, before.verify_uuid, holds=holds, now=LATER)


# Rows 1 and 2: another value is asked for.


@EVERY_KIND
def test_asking_keeps_the_old_value_in_force_and_names_the_new_one_beside(kind: TokenKind) -> None:
    turn = ask(escrow(kind, current=OLD), NEW, SET, LATER)
    assert turn.escrow == escrow(
        kind, EscrowState.CANDIDATE, since=LATER, current=OLD, candidate=NEW, set_uuid=SET
    )
    assert not turn.escrow.state.device_may_hold_candidate


@EVERY_KIND
@pytest.mark.parametrize("state", UNRESOLVED)
def test_nothing_can_be_asked_while_a_change_is_under_way(
    kind: TokenKind, state: EscrowState
) -> None:
    """(Row 2)"""
    with pytest.raises(SetUnderWay):
        ask(changing(kind, state), OTHER, ELSE, LATER)


def test_a_kind_that_can_be_verified_is_verified_before_another_value_is_set() -> None:
    with pytest.raises(SecretUncertain):
        ask(uncertain(LOCK), OTHER, ELSE, LATER)


def test_a_kind_that_cannot_be_verified_gives_the_unanswered_value_up_as_one_that_may_work() -> (
    None
):
    turn = ask(uncertain(ADMIN), OTHER, ELSE, LATER)
    assert states(turn) == {NEW: TokenState.SUSPECT}
    assert (turn.escrow.current, turn.escrow.candidate) == (OLD, OTHER)


def test_a_refusal_does_not_end_a_doubt_that_was_there_before_it() -> None:
    """The device may hold NEW, which nobody could ask about: OLD must not be called the one in force again."""
    asked = ask(uncertain(ADMIN), OTHER, ELSE, LATER).escrow
    refused = refuse(hand_out(asked, ELSE, LATER).escrow, ELSE, "no such GUID", 1, LATER)
    assert refused.escrow.state is EscrowState.UNCERTAIN
    assert refused.escrow.trouble == "no answer"
    assert states(refused) == {OTHER: TokenState.RETIRED}
    cancelled = lose(asked, "cancelled", LATER)
    assert cancelled.escrow.state is EscrowState.UNCERTAIN


# Rows 3 and 4: hand-out and NotNow.


@EVERY_KIND
def test_from_its_hand_out_on_the_device_may_hold_the_new_value(kind: TokenKind) -> None:
    turn = hand_out(changing(kind, EscrowState.CANDIDATE), SET, LATER)
    assert turn.escrow.state is EscrowState.IN_FLIGHT
    assert turn.escrow.state.device_may_hold_candidate
    assert turn.escrow.due_at == LATER + ANSWER_WITHIN


@pytest.mark.parametrize("state", list(EscrowState))
def test_the_hand_out_of_another_command_changes_nothing(state: EscrowState) -> None:
    before = changing(LOCK, state)
    assert hand_out(before, ELSE, LATER) == Turn(escrow=before)


def test_a_second_hand_out_does_not_move_the_day_on_which_the_answer_is_given_up() -> None:
    flying = hand_out(changing(LOCK, EscrowState.CANDIDATE), SET, LATER).escrow
    assert hand_out(flying, SET, LATER + timedelta(days=1)).escrow == flying


@EVERY_KIND
def test_not_now_brings_it_back_to_where_the_device_has_not_got_it(kind: TokenKind) -> None:
    turn = put_off(changing(kind, EscrowState.IN_FLIGHT), SET, 1, LATER)
    assert turn.escrow.state is EscrowState.CANDIDATE
    assert turn.escrow.due_at is None


@EVERY_KIND
def test_not_now_says_nothing_of_an_earlier_hand_out(kind: TokenKind) -> None:
    before = changing(kind, EscrowState.IN_FLIGHT, due_at=LATER)
    after = put_off(before, SET, 2, LATER).escrow
    assert after == replace(before, due_at=LATER + ANSWER_WITHIN), "it is there, and may answer yet"


@pytest.mark.parametrize("state", [EscrowState.VERIFYING, EscrowState.CHECKING])
def test_a_question_that_is_put_off_is_waited_for_anew(state: EscrowState) -> None:
    before = changing(LOCK, state, verify_uuid=VERIFY, due_at=LATER)
    after = put_off(before, VERIFY, 1, LATER).escrow
    assert after == replace(before, due_at=LATER + ANSWER_WITHIN)


# Row 5: Error.


@EVERY_KIND
def test_an_error_keeps_the_old_value_and_sends_the_new_one_to_history(kind: TokenKind) -> None:
    turn = refuse(changing(kind, EscrowState.IN_FLIGHT), SET, "wrong password", 1, LATER)
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.SETTLED, OLD)
    assert turn.escrow.candidate is None
    assert turn.escrow.trouble == "the device refused it: wrong password"
    assert states(turn) == {NEW: TokenState.RETIRED}


def test_an_error_after_a_second_hand_out_has_the_device_asked() -> None:
    """The first may have been done unheard; then the second fails because OLD is not in force any more."""
    turn = refuse(changing(LOCK, EscrowState.IN_FLIGHT), SET, "wrong password", 2, LATER)
    assert turn.escrow.state is EscrowState.VERIFYING
    assert turn.verify is not None
    assert turn.verify.record_id == NEW
    assert answered(turn.escrow, holds=True).escrow.current == NEW


def test_an_error_after_a_second_hand_out_leaves_both_where_nobody_can_be_asked() -> None:
    turn = refuse(changing(ADMIN, EscrowState.IN_FLIGHT), SET, "no", 2, LATER)
    assert turn.is_uncertain
    assert states(turn) == {OLD: TokenState.SUSPECT, NEW: TokenState.SUSPECT}
    assert (turn.escrow.current, turn.escrow.candidate) == (OLD, NEW)


def test_an_error_after_a_second_hand_out_waits_for_the_restart_where_one_is_needed() -> None:
    """While a change waits for a restart, further ones fail. (4.5)"""
    turn = refuse(changing(FIRMWARE, EscrowState.IN_FLIGHT), SET, "no", 2, LATER)
    assert turn.escrow.state is EscrowState.PENDING_RESTART
    assert turn.escrow.candidate == NEW


# Rows 6 to 8: Acknowledged, verified, promoted.


def test_an_acknowledged_change_is_believed_only_once_it_is_verified() -> None:
    turn = acknowledge(
        changing(LOCK, EscrowState.IN_FLIGHT), SET, took_it=None, hand_outs=1, now=LATER
    )
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.VERIFYING, OLD)
    assert turn.verify is not None
    assert (turn.verify.record_id, turn.verify.uuid) == (NEW, turn.escrow.verify_uuid)


@pytest.mark.parametrize("kind", [ADMIN, PIN])
def test_where_nobody_can_be_asked_acknowledged_promotes(kind: TokenKind) -> None:
    turn = acknowledge(
        changing(kind, EscrowState.IN_FLIGHT), SET, took_it=None, hand_outs=1, now=LATER
    )
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.SETTLED, NEW)
    assert states(turn) == {OLD: TokenState.SUPERSEDED, NEW: TokenState.OK}
    assert [proof.record_id for proof in turn.proofs] == [NEW]


def test_a_verified_value_is_promoted_and_the_one_before_superseded() -> None:
    asked = acknowledge(
        changing(LOCK, EscrowState.IN_FLIGHT), SET, took_it=None, hand_outs=1, now=LATER
    )
    turn = answered(asked.escrow, holds=True)
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.SETTLED, NEW)
    assert states(turn) == {OLD: TokenState.SUPERSEDED, NEW: TokenState.OK}


@EVERY_KIND
def test_a_flag_that_says_no_is_a_refusal_although_the_status_is_acknowledged(
    kind: TokenKind,
) -> None:
    turn = acknowledge(
        changing(kind, EscrowState.IN_FLIGHT), SET, took_it=False, hand_outs=1, now=LATER
    )
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.SETTLED, OLD)
    assert states(turn) == {NEW: TokenState.RETIRED}


# Row 7b: verify says no.


def test_a_denied_value_has_the_old_one_asked_about_and_kept_if_it_holds() -> None:
    asked = verify_again(uncertain(LOCK), VERIFY, LATER)
    checking = answered(asked.escrow, holds=False)
    assert checking.escrow.state is EscrowState.CHECKING
    assert checking.verify is not None
    assert checking.verify.record_id == OLD
    kept = answered(checking.escrow, holds=True)
    assert (kept.escrow.state, kept.escrow.current) == (EscrowState.SETTLED, OLD)
    assert states(kept) == {NEW: TokenState.RETIRED, OLD: TokenState.OK}


def test_if_neither_holds_both_stay_shown_and_another_value_can_be_set() -> None:
    checking = answered(verify_again(uncertain(LOCK), VERIFY, LATER).escrow, holds=False)
    neither = answered(checking.escrow, holds=False)
    assert neither.is_uncertain
    assert (neither.escrow.current, neither.escrow.candidate) == (OLD, NEW)
    assert was_denied(neither.escrow)
    asked = ask(neither.escrow, OTHER, ELSE, LATER)
    assert asked.escrow.candidate == OTHER
    assert states(asked) == {NEW: TokenState.SUSPECT}


def test_a_first_value_that_the_device_denies_does_not_wedge_the_secret() -> None:
    """Acknowledged in Setup Assistant and not in force, says the field: then it must be set anew. (4.4)"""
    first = changing(LOCK, EscrowState.IN_FLIGHT, current=None)
    asked = acknowledge(first, SET, took_it=None, hand_outs=1, now=LATER)
    denied = answered(asked.escrow, holds=False)
    assert denied.is_uncertain
    assert denied.escrow.candidate == NEW, "still shown"
    assert ask(denied.escrow, OTHER, ELSE, LATER).escrow.candidate == OTHER


def asked_again(before: Escrow, now: datetime) -> Escrow:
    """As the worker does, once it is due."""
    return verify_again(replace(before, due_at=None), CommandUuid(f"AT {now}"), now).escrow


def unsure(before: Escrow, now: datetime) -> Turn:
    """The device errs, or its answer holds no flag."""
    assert before.verify_uuid is not None
    return could_not_say(before, before.verify_uuid, "busy", now)


def test_an_unclear_answer_is_none_and_the_device_is_asked_again_a_day_later() -> None:
    turn = unsure(verify_again(uncertain(LOCK), VERIFY, LATER).escrow, LATER)
    after = turn.escrow
    assert (after.state, after.due_at) == (EscrowState.UNCERTAIN, LATER + ASK_AGAIN)
    assert (after.current, after.candidate) == (OLD, NEW)
    assert not was_denied(after)
    assert turn.steps == ()
    assert answered(asked_again(after, LATER + ASK_AGAIN), holds=True).escrow.current == NEW


def test_a_device_that_errs_three_times_running_over_days_has_said_no() -> None:
    """Row 7b: "errors for good". Then it is asked about the old value, and the next word decides."""
    now = LATER
    asking = verify_again(uncertain(LOCK), VERIFY, now).escrow
    for _ in range(2):
        doubted = unsure(asking, now).escrow
        assert doubted.state is EscrowState.UNCERTAIN
        now += ASK_AGAIN
        asking = asked_again(doubted, now)
    checking = unsure(asking, now)
    assert checking.escrow.state is EscrowState.CHECKING
    assert checking.verify is not None
    assert checking.verify.record_id == OLD
    assert answered(checking.escrow, holds=True).escrow.state is EscrowState.SETTLED
    neither = unsure(checking.escrow, now)
    assert was_denied(neither.escrow)
    assert neither.is_uncertain
    another = ask(neither.escrow, OTHER, ELSE, now).escrow
    taken = acknowledge(
        hand_out(another, ELSE, now).escrow, ELSE, took_it=None, hand_outs=1, now=now
    )
    assert unsure(taken.escrow, now).escrow.state is EscrowState.UNCERTAIN, "counted from one again"


def test_three_errors_within_a_day_say_nothing() -> None:
    doubted = uncertain(LOCK)
    for minute in range(5):
        now = LATER + timedelta(minutes=minute)
        doubted = unsure(asked_again(doubted, now), now).escrow
        assert doubted.state is EscrowState.UNCERTAIN
        assert not was_denied(doubted)


def test_a_device_that_denies_the_one_and_cannot_say_of_the_other_is_not_asked_for_ever() -> None:
    now = LATER
    doubted = uncertain(LOCK)
    for _ in range(3):
        assert not was_denied(doubted)
        checking = answered(asked_again(doubted, now), holds=False).escrow
        doubted = unsure(checking, now).escrow
        now += ASK_AGAIN
    assert was_denied(doubted)


def test_a_settled_secret_of_which_the_device_cannot_say_stays_settled() -> None:
    planned = escrow(LOCK, current=OLD, due_at=LATER + timedelta(hours=1))
    after = unsure(verify_again(planned, VERIFY, LATER).escrow, LATER).escrow
    assert (after.state, after.due_at, after.verify_uuid) == (
        EscrowState.SETTLED,
        planned.due_at,
        None,
    )
    assert after.trouble is not None


# Row 9: no answer.


@EVERY_KIND
@pytest.mark.parametrize(
    "state", [state for state in UNRESOLVED if state is not EscrowState.CANDIDATE]
)
def test_without_an_answer_both_are_kept_and_called_suspect(
    kind: TokenKind, state: EscrowState
) -> None:
    turn = lose(changing(kind, state), "the queue was cleared", LATER)
    assert turn.is_uncertain
    assert (turn.escrow.current, turn.escrow.candidate) == (OLD, NEW)
    assert states(turn) == {OLD: TokenState.SUSPECT, NEW: TokenState.SUSPECT}


@EVERY_KIND
def test_what_never_left_the_server_is_no_question(kind: TokenKind) -> None:
    turn = lose(changing(kind, EscrowState.CANDIDATE), "cancelled", LATER)
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.SETTLED, OLD)
    assert states(turn) == {NEW: TokenState.RETIRED}


@pytest.mark.parametrize("state", [EscrowState.SETTLED, EscrowState.UNCERTAIN])
def test_where_nothing_is_under_way_nothing_is_lost(state: EscrowState) -> None:
    before = escrow(LOCK, state, current=OLD)
    assert lose(before, "late", LATER) == Turn(escrow=before)


# Row 10: an unknown or older command.


@EVERY_KIND
@pytest.mark.parametrize("state", list(EscrowState))
def test_an_answer_to_another_command_promotes_nothing(kind: TokenKind, state: EscrowState) -> None:
    before = changing(kind, state)
    unchanged = Turn(escrow=before)
    assert acknowledge(before, ELSE, took_it=True, hand_outs=1, now=LATER) == unchanged
    assert refuse(before, ELSE, "no", 1, LATER) == unchanged
    assert put_off(before, ELSE, 1, LATER) == unchanged
    assert verified(before, ELSE, holds=True, now=LATER) == unchanged


# 4.5: what takes a restart.


def test_a_firmware_password_waits_for_the_restart_and_both_stay_known() -> None:
    turn = acknowledge(
        changing(FIRMWARE, EscrowState.IN_FLIGHT), SET, took_it=True, hand_outs=1, now=LATER
    )
    assert turn.escrow.state is EscrowState.PENDING_RESTART
    assert (turn.escrow.current, turn.escrow.candidate) == (OLD, NEW)
    assert turn.verify is None
    asked = restarted(turn.escrow, ELSE, LATER)
    assert asked.escrow.state is EscrowState.VERIFYING
    assert answered(asked.escrow, holds=True).escrow.current == NEW


def test_a_doubtful_firmware_password_is_not_rejected_before_a_restart() -> None:
    """Until the restart the old one is in force, so that it verifies proves nothing of the new one."""
    asked = verify_again(uncertain(FIRMWARE), VERIFY, LATER)
    checking = answered(asked.escrow, holds=False)
    still_old = answered(checking.escrow, holds=True)
    assert still_old.escrow.state is EscrowState.PENDING_RESTART
    assert still_old.escrow.candidate == NEW
    again = restarted(still_old.escrow, ELSE, LATER)
    after = answered(answered(again.escrow, holds=False).escrow, holds=True)
    assert (after.escrow.state, after.escrow.current) == (EscrowState.SETTLED, OLD)
    assert states(after) == {NEW: TokenState.RETIRED, OLD: TokenState.OK}


def test_the_word_that_nothing_waits_for_a_restart_has_a_doubtful_password_verified() -> None:
    turn = restarted(uncertain(FIRMWARE), ELSE, LATER)
    assert turn.escrow.state is EscrowState.VERIFYING


@pytest.mark.parametrize(
    "state", [EscrowState.SETTLED, EscrowState.CANDIDATE, EscrowState.IN_FLIGHT]
)
def test_a_restart_says_nothing_of_what_was_not_taken(state: EscrowState) -> None:
    before = changing(FIRMWARE, state)
    assert restarted(before, ELSE, LATER) == Turn(escrow=before)


def test_somebody_may_look_before_the_restart_and_a_no_changes_nothing() -> None:
    waiting = changing(FIRMWARE, EscrowState.PENDING_RESTART)
    asked = verify_again(waiting, VERIFY, LATER)
    assert asked.verify is not None
    assert answered(asked.escrow, holds=False).escrow == asked.escrow
    assert answered(asked.escrow, holds=True).escrow.current == NEW


# A secret that is to be cleared.


@pytest.mark.parametrize(("holds", "current"), [(False, None), (True, OLD)])
def test_a_cleared_lock_is_gone_only_if_the_device_does_not_hold_it(
    holds: bool, current: RecordId | None
) -> None:
    clearing = hand_out(ask(escrow(LOCK, current=OLD), None, SET, LATER).escrow, SET, LATER)
    asked = acknowledge(clearing.escrow, SET, took_it=None, hand_outs=1, now=LATER)
    assert asked.verify is not None
    assert asked.verify.record_id == OLD
    turn = answered(asked.escrow, holds=holds)
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.SETTLED, current)


def test_what_is_cleared_goes_to_history_and_nothing_points_at_it() -> None:
    turn = cleared(changing(LOCK, EscrowState.UNCERTAIN), "no lock", LATER)
    assert states(turn) == {OLD: TokenState.RETIRED, NEW: TokenState.RETIRED}
    assert turn.escrow == escrow(LOCK, since=LATER)


# Questions in between.


def test_a_look_at_a_settled_secret_leaves_its_planned_rotation_planned() -> None:
    planned = escrow(LOCK, current=OLD, due_at=LATER + timedelta(hours=1))
    asked = verify_again(planned, VERIFY, LATER)
    turn = answered(asked.escrow, holds=True)
    assert turn.escrow == planned
    assert states(turn) == {OLD: TokenState.OK}


def test_a_settled_secret_that_the_device_denies_becomes_uncertain() -> None:
    turn = answered(verify_again(escrow(LOCK, current=OLD), VERIFY, LATER).escrow, holds=False)
    assert turn.is_uncertain
    assert (turn.escrow.state, turn.escrow.current) == (EscrowState.UNCERTAIN, OLD)
    assert was_denied(turn.escrow)


def test_an_uncertain_value_without_another_is_settled_by_the_device_s_word() -> None:
    doubted = escrow(LOCK, EscrowState.UNCERTAIN, current=OLD, trouble="it enrolled again")
    asked = verify_again(doubted, VERIFY, LATER)
    assert asked.escrow.state is EscrowState.CHECKING
    assert answered(asked.escrow, holds=True).escrow.state is EscrowState.SETTLED


@pytest.mark.parametrize("kind", [ADMIN, PIN])
def test_nobody_is_asked_what_no_command_asks(kind: TokenKind) -> None:
    assert verify_again(uncertain(kind), VERIFY, LATER).verify is None


# A PIN that goes out twice.


def test_a_pin_that_went_out_twice_is_lost_by_no_refusal_and_no_cancelled_command() -> None:
    """The second lock carries the same PIN; an Error to one says nothing of the other. (4.6)"""
    twice = go_out_again(changing(PIN, EscrowState.IN_FLIGHT), ELSE, LATER).escrow
    assert refuse(twice, ELSE, "no", 1, LATER).escrow.candidate == NEW
    assert lose(twice, "cancelled", LATER).escrow.candidate == NEW
    promoted = acknowledge(twice, ELSE, took_it=None, hand_outs=1, now=LATER)
    assert promoted.escrow.current == NEW
