"""What is shown of escrowed secrets: the one in force, both where nobody knows, and what can be done."""

from typing import Any

import pytest

from conformance.storage_values import (
    NOON,
    after,
    device,
    escrow,
    pointer,
    record,
    record_id,
    sheet,
)
from ostiary.domain.enrollment import Enrollment, State
from ostiary.domain.escrow import MANNERS, Escrow, EscrowState
from ostiary.domain.escrow_view import SecretView, chosen, view_secrets
from ostiary.domain.facts import FactSheet
from ostiary.domain.rotation import ROTATES
from ostiary.domain.token import TokenKind, TokenRecord, TokenState
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.protocol.mdm.identity import EnrollmentType

LATER = after(days=2)
LOCK = TokenKind.RECOVERY_LOCK
DISK = TokenKind.FILEVAULT_KEY


def mac(**changes: Any) -> Enrollment:
    facts = DeviceFacts(os_version="15.1", product_name="Mac14,2")
    return device(1, **{"facts": facts, **changes})


def value(number: int, kind: TokenKind = LOCK, **changes: Any) -> TokenRecord:
    return record(number, 1, kind, **{"generation": number, **changes})


def view(
    *states: Escrow,
    records: tuple[TokenRecord, ...] = (),
    sheets: tuple[FactSheet, ...] = (),
    row: Enrollment | None = None,
) -> dict[TokenKind, SecretView]:
    found = view_secrets(row or mac(), states, records, sheets, LATER)
    return {one.kind: one for one in found}


def test_a_settled_secret_is_told_by_the_state_of_its_generation() -> None:
    held = escrow(1, current=record_id(1))
    shown = view(held, records=(value(1, proven_at=NOON),))[LOCK]
    assert (shown.standing.word, shown.is_uncertain) == ("ok", False)
    assert shown.current is not None
    assert shown.current.generation == 1
    assert shown.can == ("reveal", "rotate", "verify")


@pytest.mark.case("RL-03")
@pytest.mark.parametrize(
    "state",
    [EscrowState.IN_FLIGHT, EscrowState.VERIFYING, EscrowState.CHECKING, EscrowState.UNCERTAIN],
)
def test_while_the_answer_is_open_both_are_shown_the_old_one_first(state: EscrowState) -> None:
    """4.0.3 rows 3, 7b and 9."""
    open_ = escrow(1, state=state, current=record_id(1), candidate=record_id(2))
    shown = view(open_, records=(value(2, state=TokenState.CANDIDATE), value(1)))[LOCK]
    assert (shown.standing.word, shown.is_uncertain) == ("uncertain", True)
    assert chosen(open_) == (record_id(1), record_id(2))
    assert shown.current is not None
    assert shown.candidate is not None
    assert (shown.current.generation, shown.candidate.generation) == (1, 2)
    assert "reveal" in shown.can


def test_a_change_that_was_never_handed_out_is_no_question() -> None:
    """The device cannot hold it."""
    queued = escrow(1, state=EscrowState.CANDIDATE, current=record_id(1), candidate=record_id(2))
    shown = view(queued, records=(value(1), value(2)))[LOCK]
    assert (shown.standing.word, shown.is_uncertain) == ("change queued", False)
    assert chosen(queued) == (record_id(1),)
    assert shown.can == ("reveal",), "no second change beside one that is under way"


def test_a_change_that_waits_for_a_restart_shows_both() -> None:
    """FW-02."""
    kind = TokenKind.FIRMWARE_PASSWORD
    waiting = escrow(
        1, kind, state=EscrowState.PENDING_RESTART, current=record_id(1), candidate=record_id(2)
    )
    shown = view(waiting, records=(value(1, kind), value(2, kind)))[kind]
    assert shown.standing.word == "waits for a restart"
    assert chosen(waiting) == (record_id(1), record_id(2))


@pytest.mark.case("DL-02")
def test_a_pin_whose_lock_was_never_answered_is_shown_and_uncertain() -> None:
    """4.6: a PIN whose command never got an answer stays visible."""
    kind = TokenKind.LOCK_PIN
    for state in (EscrowState.IN_FLIGHT, EscrowState.UNCERTAIN):
        lost = escrow(1, kind, state=state, candidate=record_id(1))
        shown = view(lost, records=(value(1, kind, state=TokenState.CANDIDATE),))[kind]
        assert (shown.standing.word, shown.is_uncertain) == ("uncertain", True)
        assert chosen(lost) == (record_id(1),)


def test_a_locked_mac_that_speaks_again_was_unlocked_since() -> None:
    """4.6: mark "unlocked since", do not delete at once."""
    kind = TokenKind.LOCK_PIN
    locked = escrow(1, kind, current=record_id(1))
    records = (value(1, kind),)
    answered = view(locked, records=records, row=mac(last_seen_at=after(minutes=1)))[kind]
    assert answered.notes == ()
    spoke = view(locked, records=records, row=mac(last_seen_at=after(hours=5)))[kind]
    assert spoke.notes == ("Unlocked since: the device spoke at 2026-05-04 17:00 UTC.",)
    assert spoke.can == ("reveal",)
    lost = escrow(1, kind, state=EscrowState.UNCERTAIN, candidate=record_id(1))
    unsure = view(lost, records=records, row=mac(last_seen_at=after(hours=5)))[kind]
    assert unsure.notes == (
        "The device spoke at 2026-05-04 17:00 UTC, after the lock was sent: it is not locked now.",
    )
    queued = escrow(1, kind, state=EscrowState.CANDIDATE, candidate=record_id(1))
    assert view(queued, records=records, row=mac(last_seen_at=after(hours=5)))[kind].notes == ()


@pytest.mark.case("AA-04")
def test_after_a_refused_rotation_the_old_password_is_the_one_that_is_shown() -> None:
    """fleet#52610 hid the password that still worked."""
    kind = TokenKind.ADMIN_PASSWORD
    refused = escrow(1, kind, current=record_id(1), trouble="the device refused it: no such user")
    records = (value(1, kind), value(2, kind, state=TokenState.RETIRED))
    shown = view(refused, records=records)[kind]
    assert chosen(refused) == (record_id(1),)
    assert shown.current is not None
    assert shown.current.generation == 1
    assert shown.trouble == "the device refused it: no such user"
    assert shown.generations == 2


@pytest.mark.case("FV-11")
def test_a_key_that_the_mac_has_and_we_do_not_is_not_escrowed() -> None:
    """The bool says that the Mac has one, not that the server holds it."""
    said = sheet(1, facts={"FDE_Enabled": True, "FDE_HasPersonalRecoveryKey": True})
    shown = view(sheets=(said,))[DISK]
    assert shown.standing.word == "not escrowed"
    assert shown.can == ("rotate",)
    held = view(escrow(1, DISK, current=record_id(1)), records=(value(1, DISK),), sheets=(said,))
    assert held[DISK].standing.word == "unproven"


def test_a_key_of_a_disk_that_is_not_encrypted_now_is_kept_and_marked() -> None:
    """4.3 row 6."""
    said = sheet(1, facts={"FDE_Enabled": False})
    held = escrow(1, DISK, current=record_id(1))
    shown = view(held, records=(value(1, DISK),), sheets=(said,))[DISK]
    assert shown.current is not None
    assert "The disk is not encrypted now." in shown.notes


def test_a_key_in_an_envelope_that_nobody_opened_is_named() -> None:
    """FV-03: the blob is kept."""
    kind = TokenKind.FILEVAULT_ENVELOPE
    shown = view(records=(value(1, kind),))[kind]
    assert (shown.standing.word, shown.can) == ("unread", ("reveal",))


def test_unlock_and_bootstrap_tokens_are_listed_and_not_for_people() -> None:
    row = mac(bootstrap=pointer(1))
    kind = TokenKind.BOOTSTRAP
    shown = view(
        records=(value(1, kind), value(2, TokenKind.UNLOCK, state=TokenState.RETIRED)), row=row
    )
    assert shown[kind].current is not None
    assert shown[kind].can == ()
    assert shown[TokenKind.UNLOCK].standing.word == "missing"
    assert shown[TokenKind.UNLOCK].generations == 1


def test_push_tokens_escrow_keys_and_users_tokens_are_no_secrets_of_the_device() -> None:
    records = (
        value(1, TokenKind.PUSH),
        value(2, TokenKind.FILEVAULT_ESCROW_KEY),
        value(3, TokenKind.IDENTITY),
        record(4, 2, LOCK),
    )
    assert view(records=records) == {}


def test_who_saw_it_last_and_when_it_rotates_is_told() -> None:
    """4.0.2 rule 7."""
    seen = value(1, disclosed_at=after(hours=1))
    held = escrow(1, current=record_id(1), due_at=after(hours=2))
    shown = view(held, records=(seen,))[LOCK]
    assert (shown.disclosed_at, shown.rotation_due_at) == (after(hours=1), after(hours=2))
    flying = escrow(1, state=EscrowState.IN_FLIGHT, candidate=record_id(1), due_at=after(hours=2))
    assert view(flying, records=(seen,))[LOCK].rotation_due_at is None, "that is its patience"


def test_a_value_that_was_seen_while_its_change_was_open_is_not_forgotten() -> None:
    """Nothing was planned then; whoever looks afterwards is told."""
    seen = value(1, disclosed_at=after(hours=1))
    (note,) = view(escrow(1, current=record_id(1)), records=(seen,))[LOCK].notes
    assert "rotate it" in note
    planned = escrow(1, current=record_id(1), due_at=after(hours=2))
    assert view(planned, records=(seen,))[LOCK].notes == ()


def test_what_can_be_verified_is_verified_before_it_is_changed() -> None:
    """A change has to name the value in force. (4.0.3 row 7b)"""
    open_ = escrow(1, state=EscrowState.UNCERTAIN, current=record_id(1), candidate=record_id(2))
    records = (value(1), value(2))
    assert view(open_, records=records)[LOCK].can == ("reveal", "verify")
    kind = TokenKind.ADMIN_PASSWORD
    admin = escrow(
        1, kind, state=EscrowState.UNCERTAIN, current=record_id(1), candidate=record_id(2)
    )
    assert view(admin, records=(value(1, kind), value(2, kind)))[kind].can == ("reveal", "rotate")


def test_of_a_device_that_left_a_value_can_be_seen_and_nothing_else_be_done() -> None:
    """No command reaches it, and nothing is planned for it; what its disk takes stays known."""
    held = escrow(1, current=record_id(1), due_at=after(hours=2))
    shown = view(held, records=(value(1),), row=mac(state=State.OUT))[LOCK]
    assert (shown.can, shown.rotation_due_at) == (("reveal",), None)


@pytest.mark.parametrize("kind", ROTATES)
def test_what_a_device_may_not_be_asked_is_neither_offered_nor_announced(kind: TokenKind) -> None:
    """4.3 to 4.8: under User Enrollment no command replaces or verifies any of them."""
    seen = value(1, kind, disclosed_at=after(hours=1))
    held = escrow(1, kind, current=record_id(1), due_at=after(hours=2))
    theirs = mac(type=EnrollmentType.USER_ENROLLMENT_DEVICE)
    shown = view(held, records=(seen,), row=theirs)[kind]
    assert (shown.can, shown.rotation_due_at) == (("reveal",), None)
    (note,) = [one for one in shown.notes if "no command can replace it here" in one]
    assert "User Enrollment" in note


def test_a_mac_with_apple_silicon_is_offered_no_rotation_of_a_firmware_password() -> None:
    """4.5: it knows none; what it had as another machine stays visible."""
    kind = TokenKind.FIRMWARE_PASSWORD
    shown = view(escrow(1, kind, current=record_id(1)), records=(value(1, kind),))[kind]
    assert shown.can == ("reveal",)
    intel = mac(facts=DeviceFacts(os_version="14.5", product_name="MacBookPro15,1"))
    offered = view(escrow(1, kind, current=record_id(1)), records=(value(1, kind),), row=intel)
    assert offered[kind].can == ("reveal", "rotate", "verify")


def test_a_mac_that_waits_in_setup_assistant_is_offered_what_it_can_do_later() -> None:
    """4.4 field fact (a): not the time is not never."""
    held = escrow(1, current=record_id(1), due_at=after(hours=2))
    shown = view(held, records=(value(1),), row=mac(awaiting=True))[LOCK]
    assert "rotate" in shown.can
    assert shown.rotation_due_at == after(hours=2)


@pytest.mark.case("FW-02")
def test_before_the_restart_it_is_said_which_one_is_in_force() -> None:
    """4.5, for a change, a first password, a removal, and where it is not sure that it was taken."""
    kind, records = TokenKind.FIRMWARE_PASSWORD, (record_id(1), record_id(2))
    state: dict[str, Any] = {"state": EscrowState.PENDING_RESTART}
    said = {
        "until then the old one": {"current": records[0], "candidate": records[1]},
        "none that is known here": {"candidate": records[1]},
        "took the removal": {"current": records[0]},
        "may have taken": {"current": records[0], "candidate": records[1], "trouble": "refused"},
    }
    for words, pointers in said.items():
        waiting = escrow(1, kind, **state, **pointers)
        shown = view(waiting, records=(value(1, kind), value(2, kind)))[kind]
        assert words in shown.standing.consequence


@pytest.mark.parametrize("state", [EscrowState.CANDIDATE, EscrowState.IN_FLIGHT])
def test_of_a_secret_that_devices_make_no_value_is_said_to_wait(state: EscrowState) -> None:
    """4.3, 4.9: a Mac makes its key when it is told to; a bypass code is only asked for, and stays as it is. (AL-01)"""
    for kind, word in ((DISK, "make another key"), (TokenKind.BYPASS_DEVICE, "changes none")):
        asked = escrow(1, kind, state=state, current=record_id(1))
        shown = view(asked, records=(value(1, kind),))[kind]
        assert word in shown.standing.consequence
        assert "value" not in shown.standing.consequence
        assert shown.is_uncertain is (kind is DISK and state is EscrowState.IN_FLIGHT)


def test_what_cannot_be_in_force_is_offered_with_the_generation_that_shows_it() -> None:
    """`token reveal` alone shows none of these."""
    kind = TokenKind.LOCK_PIN
    queued = escrow(1, kind, state=EscrowState.CANDIDATE, candidate=record_id(2))
    old, new = value(1, kind, state=TokenState.RETIRED), value(2, kind, state=TokenState.CANDIDATE)
    assert view(queued, records=(old, new))[kind].can == ("reveal --generation 2",)
    assert view(escrow(1, kind), records=(old,))[kind].can == ("reveal --generation 1",)
    gone_out = escrow(1, kind, state=EscrowState.IN_FLIGHT, candidate=record_id(2))
    assert view(gone_out, records=(old, new))[kind].can == ("reveal",)


@pytest.mark.parametrize("state", [one for one in EscrowState if one is not EscrowState.SETTLED])
@pytest.mark.parametrize("kind", [one for one in MANNERS if MANNERS[one].verify is None])
def test_no_one_is_told_to_verify_what_no_device_can_be_asked_about(
    kind: TokenKind, state: EscrowState
) -> None:
    """4.6: a lock PIN; 4.3, 4.8, 4.9: nor keys, administrators' passwords, codes."""
    doubted = escrow(1, kind, state=state, current=record_id(1), candidate=record_id(2))
    shown = view(doubted, records=(value(1, kind), value(2, kind)))[kind]
    assert "verif" not in shown.standing.remedy
    assert "verify" not in shown.can


def test_which_bypass_code_to_try_is_told_where_there_is_more_than_one() -> None:
    """4.9: two slots, and history."""
    ours, theirs = TokenKind.BYPASS_SERVER, TokenKind.BYPASS_DEVICE
    told = mac(enrolled_at=NOON)

    def notes(*records: TokenRecord) -> dict[TokenKind, list[str]]:
        shown = view(records=records, row=told)
        return {
            kind: [note for note in one.notes if "cannot be known" in note]
            for kind, one in shown.items()
        }

    assert notes(value(1, theirs)) == {theirs: []}
    (older,) = notes(value(1, theirs), value(2, theirs))[theirs]
    assert older == (
        "Whether the newest code is the one in force cannot be known: try it first, then older ones."
    )
    both = notes(value(1, theirs), value(2, ours))
    assert both[ours] == both[theirs]
    assert "Which of the two" in both[ours][0]
