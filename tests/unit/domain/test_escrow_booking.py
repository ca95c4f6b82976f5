"""What reports and hand-outs mean for secrets. Source: escrowed-secrets.md 4.0.3, 4.2 to 4.9."""

from dataclasses import replace

import pytest

from escrow_world import (
    DEVICE,
    LATER,
    NEW,
    OLD,
    OTHER,
    SET,
    VERIFY,
    command,
    escrow,
    sealed,
    shown,
    told,
)
from ostiary.domain.decision import Change
from ostiary.domain.enrollment import Standing
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.escrow_booking import (
    NOTHING,
    News,
    book_cancelled,
    book_hand_out,
    book_report,
    book_stray,
)
from ostiary.domain.escrow_machine import ANSWER_WITHIN, was_denied
from ostiary.domain.token import (
    KeyedDigest,
    RecordId,
    TokenKind,
    TokenPointer,
    TokenState,
    TokenStep,
)
from ostiary.protocol.mdm.connect import CommandUuid, Status

LOCK, FIRMWARE, PIN = TokenKind.RECOVERY_LOCK, TokenKind.FIRMWARE_PASSWORD, TokenKind.LOCK_PIN
KEY, CODE, ENVELOPE = (
    TokenKind.FILEVAULT_KEY,
    TokenKind.BYPASS_DEVICE,
    TokenKind.FILEVAULT_ENVELOPE,
)
INFO = CommandUuid("INFO")
SET_NAME = {
    LOCK: "SetRecoveryLock",
    FIRMWARE: "SetFirmwarePassword",
    TokenKind.ADMIN_PASSWORD: "SetAutoAdminPassword",
    PIN: "DeviceLock",
    KEY: "RotateFileVaultKey",
    CODE: "ActivationLockBypassCode",
}
EVERY_KIND = pytest.mark.parametrize("kind", list(SET_NAME))


def flying(kind: TokenKind) -> Escrow:
    """Its command is with the device."""
    candidate = None if kind in (KEY, CODE) else NEW
    return escrow(
        kind,
        EscrowState.IN_FLIGHT,
        current=OLD,
        digest=KeyedDigest(b"P1"),
        candidate=candidate,
        set_uuid=SET,
    )


def of(news: News, kind: TokenKind) -> Escrow:
    (one,) = (one for one in news.escrows if one.kind is kind)
    return one


def states(news: News) -> dict[RecordId, TokenState]:
    return {step.record_id: step.state for step in news.steps}


@EVERY_KIND
def test_the_hand_out_of_a_set_is_where_the_device_may_have_the_new_value(kind: TokenKind) -> None:
    before = replace(flying(kind), state=EscrowState.CANDIDATE)
    news = book_hand_out(shown(before), command(SET_NAME[kind], SET, hand_outs=0), LATER)
    assert of(news, kind).state is EscrowState.IN_FLIGHT
    again = shown(of(news, kind))
    assert book_hand_out(again, command(SET_NAME[kind], SET), LATER) == NOTHING


@pytest.mark.parametrize("name", ["DeviceInformation", "SetRecoveryLock", "VerifyRecoveryLock"])
def test_the_hand_out_of_anything_else_means_nothing(name: str) -> None:
    assert book_hand_out(shown(flying(PIN)), command(name, SET), LATER) == NOTHING


@EVERY_KIND
def test_not_now_brings_a_set_back(kind: TokenKind) -> None:
    said = told(Status.NOT_NOW, SET)
    news = book_report(shown(flying(kind)), DEVICE, command(SET_NAME[kind], SET), said)
    assert of(news, kind).state is EscrowState.CANDIDATE


@EVERY_KIND
def test_not_now_after_an_unheard_hand_out_waits_anew(kind: TokenKind) -> None:
    said = told(Status.NOT_NOW, SET)
    before = replace(flying(kind), due_at=LATER)
    twice = command(SET_NAME[kind], SET, hand_outs=2)
    news = book_report(shown(before), DEVICE, twice, said)
    if kind is CODE:
        assert news == NOTHING, "a code is asked for by the day"
        return
    assert of(news, kind) == replace(before, due_at=LATER + ANSWER_WITHIN)


@EVERY_KIND
@pytest.mark.parametrize("status", [Status.ERROR, Status.COMMAND_FORMAT_ERROR])
def test_a_refused_set_keeps_what_was_in_force(kind: TokenKind, status: Status) -> None:
    said = told(status, SET, error="no")
    news = book_report(shown(flying(kind)), DEVICE, command(SET_NAME[kind], SET), said)
    after = of(news, kind)
    assert (after.state, after.current) == (EscrowState.SETTLED, OLD)
    assert "MCMDMErrorDomain 12" in (after.trouble or "")


def test_an_erase_that_failed_may_have_erased() -> None:
    """(4.7 consequence 1)"""
    said = told(Status.ERROR, SET, error="preflight")
    news = book_report(shown(flying(PIN)), DEVICE, command("EraseDevice", SET), said)
    after = of(news, PIN)
    assert (after.state, after.candidate) == (EscrowState.UNCERTAIN, NEW)
    assert news.alerts


def test_a_rotation_that_fails_when_it_comes_again_may_have_been_done_before() -> None:
    said = told(Status.ERROR, SET, error="wrong password")
    twice = command("RotateFileVaultKey", SET, hand_outs=2)
    news = book_report(shown(flying(KEY)), DEVICE, twice, said)
    assert of(news, KEY).state is EscrowState.UNCERTAIN
    assert [one.request_type for one in news.enqueue] == ["SecurityInfo"]


def test_an_answer_to_an_older_set_moves_nothing() -> None:
    """(Row 10)"""
    older = CommandUuid("OLDER")
    for status in (Status.ACKNOWLEDGED, Status.ERROR, Status.NOT_NOW):
        said = told(status, older)
        older_set = command("SetRecoveryLock", older)
        assert book_report(shown(flying(LOCK)), DEVICE, older_set, said) == NOTHING


def test_an_acknowledged_lock_is_verified_with_the_pinned_value() -> None:
    said = told(Status.ACKNOWLEDGED, SET)
    news = book_report(shown(flying(LOCK)), DEVICE, command("SetRecoveryLock", SET), said)
    (verify,) = news.enqueue
    assert verify.request_type == "VerifyRecoveryLock"
    assert verify.uuid == of(news, LOCK).verify_uuid
    (hole,) = verify.references
    assert (hole.key, hole.record_id) == ("Password", NEW)


@pytest.mark.parametrize("flag", [True, "true"])
def test_a_verified_lock_is_in_force(flag: bool | str) -> None:
    before = escrow(LOCK, EscrowState.VERIFYING, candidate=NEW, verify_uuid=VERIFY)
    said = told(Status.ACKNOWLEDGED, VERIFY, result={"PasswordVerified": flag})
    news = book_report(shown(before), DEVICE, command("VerifyRecoveryLock", VERIFY), said)
    assert of(news, LOCK).current == NEW


@pytest.mark.parametrize("flag", [False, "false"])
def test_only_a_plain_no_has_the_old_lock_asked_about(flag: bool | str) -> None:
    before = escrow(LOCK, EscrowState.VERIFYING, current=OLD, candidate=NEW, verify_uuid=VERIFY)
    said = told(Status.ACKNOWLEDGED, VERIFY, result={"PasswordVerified": flag})
    news = book_report(shown(before), DEVICE, command("VerifyRecoveryLock", VERIFY), said)
    assert of(news, LOCK).state is EscrowState.CHECKING


def test_a_passing_error_to_the_question_is_no_answer() -> None:
    """(Row 7b: "errors for good")"""
    before = escrow(LOCK, EscrowState.VERIFYING, current=OLD, candidate=NEW, verify_uuid=VERIFY)
    said = told(Status.ERROR, VERIFY, error="busy")
    news = book_report(shown(before), DEVICE, command("VerifyRecoveryLock", VERIFY), said)
    after = of(news, LOCK)
    assert (after.state, after.candidate) == (EscrowState.UNCERTAIN, NEW)
    assert after.due_at is not None
    assert not was_denied(after)
    assert states(news) == {}


@pytest.mark.parametrize("flag", [None, 1, "yes", b"true", ["true"]])
def test_what_is_neither_yes_nor_no_is_no_answer(
    flag: int | str | bytes | list[str] | None,
) -> None:
    before = escrow(LOCK, EscrowState.VERIFYING, current=OLD, candidate=NEW, verify_uuid=VERIFY)
    result = {} if flag is None else {"PasswordVerified": flag}
    said = told(Status.ACKNOWLEDGED, VERIFY, result=result)  # type: ignore[arg-type]  # hostile
    news = book_report(shown(before), DEVICE, command("VerifyRecoveryLock", VERIFY), said)
    assert of(news, LOCK).state is EscrowState.UNCERTAIN
    assert not was_denied(of(news, LOCK))


def test_a_device_that_holds_nothing_we_know_is_asked_whether_it_has_a_lock() -> None:
    before = escrow(LOCK, EscrowState.CHECKING, current=OLD, candidate=NEW, verify_uuid=VERIFY)
    said = told(Status.ACKNOWLEDGED, VERIFY, result={"PasswordVerified": False})
    news = book_report(shown(before), DEVICE, command("VerifyRecoveryLock", VERIFY), said)
    assert of(news, LOCK).state is EscrowState.UNCERTAIN
    assert [one.request_type for one in news.enqueue] == ["SecurityInfo"]


@pytest.mark.parametrize(
    ("denied", "enabled", "state", "current", "asks"),
    [
        (False, False, EscrowState.CHECKING, OLD, ["VerifyRecoveryLock"]),
        (False, True, EscrowState.CHECKING, OLD, ["VerifyRecoveryLock"]),
        (True, False, EscrowState.SETTLED, None, []),
    ],
)
def test_a_doubtful_lock_is_cleared_if_the_mac_neither_verifies_nor_has_one(
    denied: bool, enabled: bool, state: EscrowState, current: RecordId | None, asks: list[str]
) -> None:
    """(4.4: PasswordVerified false and IsRecoveryLockEnabled false)"""
    before = escrow(
        LOCK, EscrowState.UNCERTAIN, current=OLD, verify_uuid=VERIFY if denied else None
    )
    said = told(
        Status.ACKNOWLEDGED, INFO, result={"SecurityInfo": {"IsRecoveryLockEnabled": enabled}}
    )
    news = book_report(shown(before), DEVICE, command("SecurityInfo", INFO), said)
    after = of(news, LOCK)
    assert (after.state, after.current) == (state, current)
    assert [one.request_type for one in news.enqueue] == asks


def test_a_lock_that_we_do_not_know_is_not_asked_about_without_end() -> None:
    before = escrow(LOCK, EscrowState.UNCERTAIN, current=OLD, verify_uuid=VERIFY)
    said = told(Status.ACKNOWLEDGED, INFO, result={"SecurityInfo": {"IsRecoveryLockEnabled": True}})
    assert book_report(shown(before), DEVICE, command("SecurityInfo", INFO), said) == NOTHING


def test_a_settled_lock_that_the_mac_has_not_got_is_asked_about() -> None:
    before = escrow(LOCK, current=OLD)
    for enabled, asks in ((True, []), (False, ["VerifyRecoveryLock"])):
        said = told(
            Status.ACKNOWLEDGED, INFO, result={"SecurityInfo": {"IsRecoveryLockEnabled": enabled}}
        )
        news = book_report(shown(before), DEVICE, command("SecurityInfo", INFO), said)
        assert [one.request_type for one in news.enqueue] == asks


@pytest.mark.parametrize(
    ("pending", "state"),
    [
        (True, EscrowState.PENDING_RESTART),
        (None, EscrowState.PENDING_RESTART),
        (False, EscrowState.VERIFYING),
    ],
)
def test_a_firmware_password_is_verified_once_no_change_is_pending(
    pending: bool | None, state: EscrowState
) -> None:
    before = replace(flying(FIRMWARE), state=EscrowState.PENDING_RESTART)
    status = {"PasswordExists": True} | ({} if pending is None else {"ChangePending": pending})
    said = told(
        Status.ACKNOWLEDGED, INFO, result={"SecurityInfo": {"FirmwarePasswordStatus": status}}
    )
    news = book_report(shown(before), DEVICE, command("SecurityInfo", INFO), said)
    assert next(iter(news.escrows), before).state is state


def test_a_firmware_flag_that_says_no_is_a_failure() -> None:
    """(FW-01)"""
    result = {"SetFirmwarePassword": {"PasswordChanged": False}}
    said = told(Status.ACKNOWLEDGED, SET, result=result)  # type: ignore[arg-type]  # a plist
    news = book_report(shown(flying(FIRMWARE)), DEVICE, command("SetFirmwarePassword", SET), said)
    after = of(news, FIRMWARE)
    assert (after.state, after.current) == (EscrowState.SETTLED, OLD)


def test_a_firmware_password_that_is_denied_and_does_not_exist_is_cleared() -> None:
    before = escrow(FIRMWARE, EscrowState.UNCERTAIN, current=OLD, verify_uuid=VERIFY)
    status = {"PasswordExists": False, "ChangePending": False}
    said = told(
        Status.ACKNOWLEDGED, INFO, result={"SecurityInfo": {"FirmwarePasswordStatus": status}}
    )
    news = book_report(shown(before), DEVICE, command("SecurityInfo", INFO), said)
    assert of(news, FIRMWARE).current is None


def test_a_rotation_that_tells_its_key_settles() -> None:
    """(FV-05)"""
    said = told(Status.ACKNOWLEDGED, SET, sealed(KEY, NEW, "P2"))
    news = book_report(shown(flying(KEY)), DEVICE, command("RotateFileVaultKey", SET), said)
    assert (of(news, KEY).state, of(news, KEY).current) == (EscrowState.SETTLED, NEW)
    assert states(news) == {OLD: TokenState.SUPERSEDED}


@pytest.mark.parametrize("brings_envelope", [False, True])
def test_a_rotation_that_tells_no_readable_key_leaves_both_in_doubt_and_asks(
    brings_envelope: bool,
) -> None:
    """(FV-06; 4.3 row 9)"""
    brought = (sealed(ENVELOPE, OTHER, "cms"),) if brings_envelope else ()
    said = told(Status.ACKNOWLEDGED, SET, *brought)
    news = book_report(shown(flying(KEY)), DEVICE, command("RotateFileVaultKey", SET), said)
    assert (of(news, KEY).state, of(news, KEY).current) == (EscrowState.UNCERTAIN, OLD)
    assert [one.request_type for one in news.enqueue] == ["SecurityInfo"]
    assert [record.kind for record in news.records] == [ENVELOPE] * brings_envelope
    assert any(alert.kind == "filevault-key-uncertain" for alert in news.alerts)


def test_an_answer_without_a_code_keeps_the_code() -> None:
    """(AL-01)"""
    said = told(Status.ACKNOWLEDGED, SET)
    news = book_report(shown(flying(CODE)), DEVICE, command("ActivationLockBypassCode", SET), said)
    assert (of(news, CODE).state, of(news, CODE).current) == (EscrowState.SETTLED, OLD)
    assert states(news) == {}


def test_a_disk_that_is_not_encrypted_keeps_its_key_with_a_note() -> None:
    """(4.3 row 6)"""
    before = escrow(KEY, current=OLD)
    off = told(Status.ACKNOWLEDGED, INFO, result={"SecurityInfo": {"FDE_Enabled": False}})
    noted = of(book_report(shown(before), DEVICE, command("SecurityInfo", INFO), off), KEY)
    assert noted.current == OLD
    assert noted.trouble is not None
    on = told(Status.ACKNOWLEDGED, INFO, result={"SecurityInfo": {"FDE_Enabled": True}})
    assert of(book_report(shown(noted), DEVICE, command("SecurityInfo", INFO), on), KEY) == before


def test_the_note_of_an_unencrypted_disk_does_not_cover_a_doubt() -> None:
    doubted = escrow(KEY, EscrowState.UNCERTAIN, current=OLD, trouble="no answer")
    off = told(Status.ACKNOWLEDGED, INFO, result={"SecurityInfo": {"FDE_Enabled": False}})
    assert book_report(shown(doubted), DEVICE, command("SecurityInfo", INFO), off) == NOTHING


def test_a_newcomer_whose_place_is_contested_moves_no_pointer() -> None:
    contested = replace(DEVICE, standing=Standing.CONTESTED)
    said = told(Status.ACKNOWLEDGED, SET, sealed(KEY, NEW, "P2"))
    news = book_report(shown(flying(KEY)), contested, command("RotateFileVaultKey", SET), said)
    assert news.escrows == ()
    assert [record.state for record in news.records] == [TokenState.CANDIDATE]
    assert book_stray(shown(flying(KEY)), contested, said) == news


def test_a_key_that_comes_with_an_ended_command_is_shown_and_not_promoted() -> None:
    said = told(Status.ACKNOWLEDGED, CommandUuid("ENDED"), sealed(KEY, NEW, "P2"))
    news = book_stray(shown(escrow(KEY, current=OLD)), DEVICE, said)
    after = of(news, KEY)
    assert (after.state, after.current, after.candidate) == (EscrowState.UNCERTAIN, OLD, NEW)
    assert [record.id for record in news.records] == [NEW]
    assert news.alerts


def test_a_key_that_came_astray_before_another_is_shown_still() -> None:
    said = told(Status.ACKNOWLEDGED, CommandUuid("ENDED"), sealed(KEY, OTHER, "P3"))
    doubted = escrow(KEY, EscrowState.UNCERTAIN, current=OLD, candidate=NEW, trouble="astray")
    news = book_stray(shown(doubted), DEVICE, said)
    assert of(news, KEY).candidate == OTHER
    assert states(news) == {NEW: TokenState.SUSPECT}


def test_the_key_that_we_hold_is_no_news_though_its_command_has_ended() -> None:
    held = escrow(KEY, current=OLD, digest=KeyedDigest(b"P1"))
    said = told(Status.ACKNOWLEDGED, CommandUuid("ENDED"), sealed(KEY, NEW, "P1"))
    assert book_stray(shown(held), DEVICE, said) == NOTHING


def test_a_key_that_comes_astray_does_not_end_a_rotation_that_is_under_way() -> None:
    """Else a second rotation could be asked for while the first is with the device."""
    said = told(Status.ACKNOWLEDGED, CommandUuid("ENDED"), sealed(KEY, NEW, "P2"))
    after = of(book_stray(shown(flying(KEY)), DEVICE, said), KEY)
    assert (after.state, after.candidate) == (EscrowState.IN_FLIGHT, NEW)


@EVERY_KIND
def test_a_cancelled_set_that_went_out_leaves_a_doubt(kind: TokenKind) -> None:
    cancelled = command(SET_NAME[kind], SET)
    news = book_cancelled(shown(flying(kind)), DEVICE, cancelled, "cancelled", LATER)
    wanted = EscrowState.SETTLED if kind is CODE else EscrowState.UNCERTAIN
    assert of(news, kind).state is wanted
    assert of(news, kind).current == OLD


def test_cancelling_what_is_not_the_change_under_way_means_nothing() -> None:
    other = command("SetRecoveryLock", CommandUuid("OLDER"))
    assert book_cancelled(shown(flying(LOCK)), DEVICE, other, "cancelled", LATER) == NOTHING
    info = command("DeviceInformation", SET)
    assert book_cancelled(shown(flying(LOCK)), DEVICE, info, "cancelled", LATER) == NOTHING


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("success", TokenState.OK),
        ("unknown failure", TokenState.SUSPECT),
        ("not supported", None),
    ],
)
def test_the_preflight_of_an_erase_judges_the_bootstrap_token(
    said: str, state: TokenState | None
) -> None:
    """(BT-21)"""
    pointer = TokenPointer(
        record_id=OLD, digest=KeyedDigest(b"B"), received_at=LATER, arrived_at=LATER
    )
    mac = replace(DEVICE, bootstrap=pointer)
    report = told(Status.ACKNOWLEDGED, INFO, result={"QueryResponses": {"EACSPreflight": said}})
    news = book_report(shown(), mac, command("DeviceInformation", INFO), report)
    assert states(news) == ({} if state is None else {OLD: state})
    assert bool(news.alerts) is (state is TokenState.SUSPECT)


def test_one_change_steps_a_record_once_to_where_it_comes_to_rest() -> None:
    """PostgreSQL does the steps of one statement in no particular order."""
    doubted = TokenStep(record_id=OLD, state=TokenState.SUSPECT, cause="first")
    gone = TokenStep(record_id=OLD, state=TokenState.RETIRED, cause="then")
    assert (News(steps=(doubted,)) + News(steps=(gone,))).steps == (gone,)
    change: Change[None] = Change(at=LATER, answer=None, steps=(doubted,))
    assert News(steps=(gone,)).into(change).steps == (gone,)
