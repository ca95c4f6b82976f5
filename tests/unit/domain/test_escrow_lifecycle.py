"""The lifecycle matrix, cell by cell. Source: escrowed-secrets.md 4.13."""

from dataclasses import replace

import pytest

from escrow_world import DEVICE, LATER, NEW, OLD, SET, escrow
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_booking import News
from ostiary.domain.escrow_lifecycle import Cause, Fate, fate_of, relationship_ended
from ostiary.domain.token import RecordId, TokenKind, TokenState

C, D, OUT, LET_GO = Cause.ENROLLED_AGAIN, Cause.ERASED, Cause.CHECKED_OUT, Cause.RELEASED
MATRIX = """
                          C, E     D       CheckOut  release
filevault-key             keep     retire  keep      keep
filevault-escrow-key      keep     keep    keep      keep
filevault-envelope        keep     retire  keep      keep
recovery-lock             check    retire  cleared   check
firmware-password         keep     keep    keep      keep
lock-pin                  keep     retire  keep      keep
admin-password            keep     retire  keep      keep
activation-bypass-device  keep     keep    keep      keep
activation-bypass-server  keep     keep    keep      keep
"""
CELLS = [
    (TokenKind(name), cause, Fate(fate))
    for name, *fates in (line.split() for line in MATRIX.strip().splitlines()[1:])
    for cause, fate in zip((C, D, OUT, LET_GO), fates, strict=True)
]
SET_BY_US = (
    TokenKind.RECOVERY_LOCK,
    TokenKind.FIRMWARE_PASSWORD,
    TokenKind.ADMIN_PASSWORD,
    TokenKind.LOCK_PIN,
)
AFTER_HAND_OUT = [
    EscrowState.IN_FLIGHT,
    EscrowState.PENDING_RESTART,
    EscrowState.VERIFYING,
    EscrowState.CHECKING,
]


def ended(before: Escrow, cause: Cause) -> tuple[Escrow, News]:
    """Where the secret stands after it, and what else it means."""
    news = relationship_ended((before,), DEVICE, cause, LATER)
    return next(iter(news.escrows), before), news


def states(news: News) -> dict[RecordId, TokenState]:
    assert len({step.record_id for step in news.steps}) == len(news.steps)
    return {step.record_id: step.state for step in news.steps}


@pytest.mark.parametrize(("kind", "cause", "fate"), CELLS)
def test_every_cell_of_the_matrix_is_as_the_page_says(
    kind: TokenKind, cause: Cause, fate: Fate
) -> None:
    assert fate_of(kind, cause) is fate


@pytest.mark.parametrize(("kind", "cause", "fate"), CELLS)
def test_a_settled_secret_comes_to_what_its_cell_says(
    kind: TokenKind, cause: Cause, fate: Fate
) -> None:
    before = escrow(kind, current=OLD)
    after, news = ended(before, cause)
    assert news.enqueue == (), "nobody is left to be asked"
    match fate:
        case Fate.KEEP:
            assert replace(after, due_at=None) == before
            assert news.steps == ()
        case Fate.CHECK:
            assert (after.state, after.current) == (EscrowState.UNCERTAIN, OLD)
            assert news.steps == ()
        case Fate.RETIRE | Fate.CLEARED:
            assert (after.state, after.current) == (EscrowState.SETTLED, None)
            assert states(news) == {OLD: TokenState.RETIRED}


@pytest.mark.parametrize("kind", [*TokenKind])
@pytest.mark.parametrize("cause", [*Cause])
def test_where_nothing_is_held_nothing_happens(kind: TokenKind, cause: Cause) -> None:
    before = escrow(kind)
    after, news = ended(before, cause)
    assert replace(after, due_at=None) == before
    assert replace(news, escrows=()) == News()


@pytest.mark.parametrize("cause", [*Cause])
def test_a_code_that_the_device_makes_is_fetched_anew_where_it_may_have_made_another(
    cause: Cause,
) -> None:
    after, _ = ended(escrow(TokenKind.BYPASS_DEVICE, current=OLD), cause)
    assert (after.due_at is not None) is (cause in (C, D))


@pytest.mark.parametrize("state", AFTER_HAND_OUT)
@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (kind, cause)
        for kind, cause, fate in CELLS
        if kind in SET_BY_US and fate in (Fate.KEEP, Fate.CHECK)
    ],
)
def test_a_command_that_was_handed_out_leaves_both_values_shown(
    kind: TokenKind, cause: Cause, state: EscrowState
) -> None:
    """Pending commands with secrets: cancelled, uncertain if handed out."""
    before = escrow(kind, state, current=OLD, candidate=NEW, set_uuid=SET)
    after, news = ended(before, cause)
    assert after.state is EscrowState.UNCERTAIN
    assert (after.current, after.candidate) == (OLD, NEW)
    assert states(news) == {OLD: TokenState.SUSPECT, NEW: TokenState.SUSPECT}
    assert news.enqueue == ()


@pytest.mark.parametrize("state", [EscrowState.CANDIDATE, *AFTER_HAND_OUT])
@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (kind, cause)
        for kind, cause, fate in CELLS
        if kind in SET_BY_US and fate in (Fate.RETIRE, Fate.CLEARED)
    ],
)
def test_what_the_device_drops_goes_to_history_with_what_was_under_way(
    kind: TokenKind, cause: Cause, state: EscrowState
) -> None:
    before = escrow(kind, state, current=OLD, candidate=NEW, set_uuid=SET)
    after, news = ended(before, cause)
    assert after == escrow(kind, since=LATER)
    assert states(news) == {OLD: TokenState.RETIRED, NEW: TokenState.RETIRED}


@pytest.mark.parametrize("kind", SET_BY_US)
def test_a_candidate_that_never_left_is_no_question_when_the_device_enrolls_again(
    kind: TokenKind,
) -> None:
    before = escrow(kind, EscrowState.CANDIDATE, current=OLD, candidate=NEW, set_uuid=SET)
    after, news = ended(before, C)
    assert (after.current, after.candidate) == (OLD, None)
    assert states(news) == {NEW: TokenState.RETIRED}


@pytest.mark.parametrize("cause", [C, D, OUT, LET_GO])
def test_a_bypass_code_survives_everything(cause: Cause) -> None:
    """(4.9, AL-04)"""
    for kind in (TokenKind.BYPASS_DEVICE, TokenKind.BYPASS_SERVER):
        before = escrow(kind, EscrowState.IN_FLIGHT, current=OLD, set_uuid=SET)
        after, news = ended(before, cause)
        assert after.current == OLD
        assert TokenState.RETIRED not in states(news).values()


def test_a_question_from_before_does_not_answer_for_the_new_relationship() -> None:
    asked = escrow(TokenKind.RECOVERY_LOCK, current=OLD, verify_uuid=SET)
    after, _ = ended(asked, C)
    assert after.verify_uuid is None


def test_each_secret_of_a_device_has_its_own_fate() -> None:
    held = tuple(escrow(kind, current=OLD) for kind in SET_BY_US)
    news = relationship_ended(held, DEVICE, D, LATER)
    gone = {one.kind for one in news.escrows if one.current is None}
    assert gone == {TokenKind.RECOVERY_LOCK, TokenKind.ADMIN_PASSWORD, TokenKind.LOCK_PIN}
