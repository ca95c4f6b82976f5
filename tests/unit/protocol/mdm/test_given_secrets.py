"""Secrets that people wrote into a command, and secrets that people chose: taken out, and refused in time."""

import pytest

from ostiary.errors import Malformed
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.account_commands import AdminAccountMissing
from ostiary.protocol.mdm.given_secrets import GivenSecretUnreadable, lift
from ostiary.protocol.mdm.lock_commands import UnusablePin, device_lock
from ostiary.protocol.mdm.passwords import (
    UnusablePassword,
    require_admin_password,
    require_lock_password,
)
from ostiary.secret import Secret

MARKER = "Marker-of-a-secret-1"


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ({"RequestType": "SetRecoveryLock", "NewPassword": MARKER}, "NewPassword"),
        ({"RequestType": "setrecoverylock", "CurrentPassword": MARKER}, "CurrentPassword"),
        ({"RequestType": "VerifyRecoveryLock", "Password": MARKER}, "Password"),
        ({"RequestType": "SetFirmwarePassword", "NewPassword": MARKER}, "NewPassword"),
        ({"RequestType": "VerifyFirmwarePassword", "Password": MARKER}, "Password"),
        (
            {"RequestType": "RotateFileVaultKey", "FileVaultUnlock": {"Password": MARKER}},
            "FileVaultUnlock/Password",
        ),
        (
            {
                "RequestType": "EraseDevice",
                "ReturnToService": {"Enabled": True, "BootstrapToken": MARKER.encode()},
            },
            "ReturnToService/BootstrapToken",
        ),
        ({"RequestType": "ClearPasscode", "UnlockToken": MARKER.encode()}, "UnlockToken"),
    ],
)
def test_a_secret_that_somebody_wrote_is_taken_out(
    command: dict[str, PlistValue], place: str
) -> None:
    """escrowed-secrets.md 4.0.2 rule 6: a queued command refers to its secrets."""
    before = repr(command)
    lifted = lift(command)
    assert lifted.secrets[place].reveal() == MARKER.encode()
    assert MARKER not in repr(lifted)
    assert lifted.command["RequestType"] == command["RequestType"]
    assert repr(command) == before, "what was given is not changed"


def test_what_clears_a_password_holds_no_secret_and_stays() -> None:
    """escrowed-secrets.md 4.4, 4.5: empty clears."""
    command: dict[str, PlistValue] = {"RequestType": "SetRecoveryLock", "NewPassword": ""}
    lifted = lift(command)
    assert not lifted.secrets
    assert lifted.command == command


@pytest.mark.case("AA-05")
def test_accounts_that_contradict_are_refused_however_they_were_written() -> None:
    """escrowed-secrets.md 4.8: nobody could log in to that Mac."""
    wrong: dict[str, PlistValue] = {
        "RequestType": "AccountConfiguration",
        "SkipPrimarySetupAccountCreation": True,
    }
    with pytest.raises(AdminAccountMissing):
        lift(wrong)
    account: list[PlistValue] = [{"shortName": "it"}]
    assert lift(wrong | {"AutoSetupAdminAccounts": account}).command == wrong | {
        "AutoSetupAdminAccounts": account
    }


def test_a_command_without_secrets_is_left_as_it_is() -> None:
    for command in (
        device_lock(message="come back"),
        {"RequestType": "ProfileList"},
        {"RequestType": "RotateFileVaultKey", "FileVaultUnlock": "hostile"},
    ):
        assert lift(command).command == command
        assert not lift(command).secrets


@pytest.mark.parametrize("value", [7, True, ["x"], {"x": "y"}])
def test_a_secret_of_another_type_is_refused(value: PlistValue) -> None:
    with pytest.raises(GivenSecretUnreadable):
        lift({"RequestType": "SetFirmwarePassword", "NewPassword": value})


@pytest.mark.parametrize("pin", ["12345", "1234567", "12a456", "١٢٣٤٥٦"])
def test_a_pin_that_is_not_six_digits_is_refused(pin: str) -> None:
    """escrowed-secrets.md 4.6: letters are UNCONFIRMED."""
    for command in (
        {"RequestType": "DeviceLock", "PIN": pin},
        {"RequestType": "EraseDevice", "PIN": pin},
    ):
        with pytest.raises(UnusablePin) as refused:
            lift(command)
        assert pin not in str(refused.value)


@pytest.mark.case("FW-04")
@pytest.mark.parametrize("given", ["pass\tword", "pässword", "pass\x7fword", "password\n"])
@pytest.mark.parametrize("request_type", ["SetFirmwarePassword", "SetRecoveryLock"])
def test_a_password_that_cannot_be_typed_at_start_up_is_refused_before_it_is_queued(
    given: str, request_type: str
) -> None:
    """escrowed-secrets.md 4.5: only 0x20 to 0x7E; the message names the place and not the password."""
    with pytest.raises(UnusablePassword) as refused:
        lift({"RequestType": request_type, "NewPassword": given})
    assert isinstance(refused.value, Malformed)
    assert "pass" not in str(refused.value)


def test_a_lock_password_has_eight_to_thirty_two_characters() -> None:
    """escrowed-secrets.md 4.4, Design."""
    for good in ("8 chars~", "x" * 32, " !#$%&'()*+,-./"):
        assert require_lock_password(Secret(good.encode())).reveal() == good.encode()
    for bad in ("", "7 chars", "x" * 33):
        with pytest.raises(UnusablePassword):
            require_lock_password(Secret(bad.encode()))


def test_an_administrator_s_password_is_long() -> None:
    """escrowed-secrets.md 4.8: its hash travels, and can be guessed at."""
    for good in ("twenty characters ok", "zwanzig Zeichen, ähm"):
        assert require_admin_password(Secret(good.encode())).reveal() == good.encode()
    for bad in (b"nineteen characters", b"x" * 129, b"twenty characters \x00k", b"\xff" * 20):
        with pytest.raises(UnusablePassword):
            require_admin_password(Secret(bad))
