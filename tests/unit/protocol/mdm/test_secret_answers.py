"""What reports say of secrets, and what hostile ones do not make us believe. Source: escrowed-secrets.md 4.2 to 4.5, 4.9."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.formats.fields import Fields
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.secret_answers import (
    FirmwareStatus,
    bypass_code,
    eacs_preflight,
    filevault_enabled,
    firmware_status,
    password_changed,
    password_verified,
    recovery_key_envelope,
    recovery_lock_enabled,
)

HUGE = "A" * 1_000_000
NO_FLAGS: list[PlistValue] = [0, 1, -1, 2.5, "", "yes", "1", b"true", [], [True], {}, {"a": True}]
NO_DICTS: list[PlistValue] = [True, 0, "PasswordVerified", b"", [], [{"PasswordVerified": True}]]
FLAGS: list[Callable[[Fields], bool | None]] = [
    password_changed,
    password_verified,
    recovery_lock_enabled,
    filevault_enabled,
]
ANY_PLIST = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "SecurityInfo",
                    "SetFirmwarePassword",
                    "VerifyFirmwarePassword",
                    "PasswordVerified",
                    "PasswordChanged",
                    "FirmwarePasswordStatus",
                    "ChangePending",
                    "IsRecoveryLockEnabled",
                    "RotateResult",
                    "EncryptedNewRecoveryKey",
                    "FDE_PersonalRecoveryKeyCMS",
                    "ActivationLockBypassCode",
                    "QueryResponses",
                    "EACSPreflight",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def report(**said: PlistValue) -> Fields:
    return Fields(said)


@pytest.mark.parametrize("said", [True, False])
def test_each_flag_is_read_where_its_page_puts_it(said: bool) -> None:
    assert password_changed(report(SetFirmwarePassword={"PasswordChanged": said})) is said
    assert password_verified(report(PasswordVerified=said)) is said
    assert password_verified(report(VerifyFirmwarePassword={"PasswordVerified": said})) is said
    assert recovery_lock_enabled(report(SecurityInfo={"IsRecoveryLockEnabled": said})) is said
    assert filevault_enabled(report(SecurityInfo={"FDE_Enabled": said})) is said


@pytest.mark.parametrize("flag", FLAGS)
def test_what_was_not_said_is_neither_yes_nor_no(flag: Callable[[Fields], bool | None]) -> None:
    assert flag(report()) is None


@pytest.mark.parametrize("said", ["true", "TRUE", "False"])
def test_a_flag_in_words_is_a_flag(said: str) -> None:
    """(4.2: "accept a bool too, store as text"; some write the one for the other)"""
    assert password_verified(report(PasswordVerified=said)) is (said.lower() == "true")


@pytest.mark.parametrize("said", NO_FLAGS)
def test_nothing_but_a_flag_is_a_flag(said: PlistValue) -> None:
    """A number one is no yes: on it hangs which password people are shown."""
    assert password_verified(report(PasswordVerified=said)) is None
    assert password_changed(report(SetFirmwarePassword={"PasswordChanged": said})) is None
    assert recovery_lock_enabled(report(SecurityInfo={"IsRecoveryLockEnabled": said})) is None
    assert firmware_status(report(SecurityInfo={"FirmwarePasswordStatus": {"X": said}})) == (
        FirmwareStatus(exists=None, change_pending=None)
    )


@pytest.mark.parametrize("said", NO_DICTS)
def test_what_should_be_a_dictionary_and_is_not_says_nothing(said: PlistValue) -> None:
    assert password_changed(report(SetFirmwarePassword=said)) is None
    assert password_verified(report(VerifyFirmwarePassword=said)) is None
    assert firmware_status(report(SecurityInfo=said)) is None
    assert firmware_status(report(SecurityInfo={"FirmwarePasswordStatus": said})) is None
    assert recovery_key_envelope(report(RotateResult=said)) is None
    assert eacs_preflight(report(QueryResponses=said)) is None


def test_the_flag_of_another_command_is_not_this_one_s() -> None:
    """A device that repeats the word elsewhere has verified nothing."""
    assert password_verified(report(SetFirmwarePassword={"PasswordVerified": True})) is None
    assert password_changed(report(PasswordChanged=True)) is None
    assert password_changed(report(VerifyFirmwarePassword={"PasswordChanged": True})) is None


def test_the_status_of_a_firmware_password_is_read_whole_or_in_part() -> None:
    whole = {"PasswordExists": True, "ChangePending": False, "AllowOroms": False}
    said = report(SecurityInfo={"FirmwarePasswordStatus": whole})
    assert firmware_status(said) == FirmwareStatus(exists=True, change_pending=False)
    part = report(SecurityInfo={"FirmwarePasswordStatus": {"PasswordExists": True}})
    assert firmware_status(part) == FirmwareStatus(exists=True, change_pending=None)


def test_a_recovery_key_is_read_from_either_report() -> None:
    security = report(SecurityInfo={"FDE_PersonalRecoveryKeyCMS": b"cms"})
    rotation = report(RotateResult={"EncryptedNewRecoveryKey": b"new"})
    assert recovery_key_envelope(security) == b"cms"
    assert recovery_key_envelope(rotation) == b"new"


@pytest.mark.parametrize("said", [b"", "cms", 7, True, [b"cms"], {"CMS": b"cms"}])
def test_an_empty_envelope_or_what_is_none_is_no_recovery_key(said: PlistValue) -> None:
    assert recovery_key_envelope(report(SecurityInfo={"FDE_PersonalRecoveryKeyCMS": said})) is None
    assert recovery_key_envelope(report(RotateResult={"EncryptedNewRecoveryKey": said})) is None


def test_a_useless_envelope_does_not_hide_the_one_of_the_rotation() -> None:
    """The new key comes once; nothing that stands beside it may swallow it."""
    said = report(
        FDE_PersonalRecoveryKeyCMS=b"", RotateResult={"EncryptedNewRecoveryKey": b"the new one"}
    )
    assert recovery_key_envelope(said) == b"the new one"


@pytest.mark.parametrize("said", ["", "  \n", b"code", 7, True, ["code"], {"code": "code"}])
def test_an_empty_code_or_what_is_none_is_absent(said: PlistValue) -> None:
    """(4.9: replaced only by a different, non-empty reply)"""
    assert bypass_code(report(ActivationLockBypassCode=said)) is None


def test_a_code_is_taken_as_it_came() -> None:
    """A value is never dropped for its look."""
    for code in ("3UM43-PUYVY-QYD1-UVCC-HEHJ-FKA4", "anything else", HUGE):
        assert bypass_code(report(ActivationLockBypassCode=code)) == code


def test_the_preflight_is_a_short_word() -> None:
    assert eacs_preflight(report(QueryResponses={"EACSPreflight": "success"})) == "success"
    long = eacs_preflight(report(QueryResponses={"EACSPreflight": HUGE}))
    assert long is not None
    assert len(long) <= 64
    for none in ("", b"success", 1, True, ["success"]):
        assert eacs_preflight(report(QueryResponses={"EACSPreflight": none})) is None


@given(st.dictionaries(st.text(max_size=4), ANY_PLIST, max_size=3) | ANY_PLIST)
def test_no_report_makes_reading_it_fail(said: PlistValue) -> None:
    fields = Fields(said if isinstance(said, dict) else {"SecurityInfo": said})
    for read in FLAGS:
        assert read(fields) in (True, False, None)
    firmware_status(fields)
    recovery_key_envelope(fields)
    bypass_code(fields)
    eacs_preflight(fields)
