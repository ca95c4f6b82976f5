"""What somebody wrote is refused where it would be read in two ways; everything else passes as it is."""

import pytest

from ostiary.errors import OstiaryError
from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.commands import removes_profile
from ostiary.protocol.mdm.nature import NATURE, spelling_of
from ostiary.protocol.mdm.written_commands import (
    AccountsUnreadable,
    MisspelledRequestType,
    NewPasswordMissing,
    NotAPersonalKey,
    PasswordNotKnownHere,
    ReturnToServiceUnreadable,
    require_sound,
)


@pytest.mark.parametrize(
    "name", [*(name.lower() for name in NATURE), "SETTINGS", "removeProfile", "setrecoverylock"]
)
def test_a_known_name_in_other_capitals_is_refused_with_the_right_one(name: str) -> None:
    """Apple's names are exact; one that we and the device read differently slips past the rules of its type."""
    meant = spelling_of(name)
    with pytest.raises(MisspelledRequestType, match=f"meant={meant}"):
        require_sound({"RequestType": name})


@pytest.mark.parametrize("name", ["ProfileList", "RestartDevice", "SomethingNew", "somethingnew"])
def test_right_names_and_unknown_ones_pass(name: str) -> None:
    """Apple adds new ones."""
    require_sound({"RequestType": name})


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ({"RequestType": "SetAutoAdminPassword", "GUID": "G"}, PasswordNotKnownHere),
        (
            {
                "RequestType": "AccountConfiguration",
                "AutoSetupAdminAccounts": [{"shortName": "a"}, {"passwordHash": b"x"}],
            },
            PasswordNotKnownHere,
        ),
        (
            {
                "RequestType": "AccountConfiguration",
                "AutoSetupAdminAccounts": [{"passwordHash": "text"}],
            },
            AccountsUnreadable,
        ),
        (
            {
                "RequestType": "AccountConfiguration",
                "AutoSetupAdminAccounts": {"passwordHash": b"x"},
            },
            AccountsUnreadable,
        ),
        (
            {"RequestType": "AccountConfiguration", "AutoSetupAdminAccounts": ["x"]},
            AccountsUnreadable,
        ),
        ({"RequestType": "RotateFileVaultKey", "KeyType": "institutional"}, NotAPersonalKey),
        ({"RequestType": "SetRecoveryLock"}, NewPasswordMissing),
        ({"RequestType": "SetFirmwarePassword", "AllowOroms": True}, NewPasswordMissing),
    ],
)
def test_what_nobody_would_keep_or_nobody_asked_for_is_refused(
    command: dict[str, PlistValue], error: type[OstiaryError]
) -> None:
    """escrowed-secrets.md 4.3, 4.4, 4.5, 4.8."""
    with pytest.raises(error) as refused:
        require_sound(command)
    assert refused.value.title
    assert refused.value.hint or error is AccountsUnreadable


@pytest.mark.parametrize(
    "wish",
    [
        "text",
        {},
        {"Enabled": 1},
        {"Enabled": "true"},
        {"Enabled": True, "MDMProfileData": "text"},
        {"Enabled": True, "BootstrapToken": ""},
    ],
)
def test_a_return_to_service_that_devices_may_read_otherwise_is_refused(wish: PlistValue) -> None:
    """escrowed-secrets.md 4.7: an erase whose way back was not judged."""
    with pytest.raises(ReturnToServiceUnreadable):
        require_sound({"RequestType": "EraseDevice", "ReturnToService": wish})


@pytest.mark.parametrize(
    "command",
    [
        {"RequestType": "SetRecoveryLock", "NewPassword": ""},
        {"RequestType": "RotateFileVaultKey", "KeyType": "personal"},
        {"RequestType": "AccountConfiguration", "AutoSetupAdminAccounts": [{"passwordHash": b""}]},
        {"RequestType": "EraseDevice", "ReturnToService": {"Enabled": False}},
        {"RequestType": "DeviceInformation", "ReturnToService": "means nothing here"},
    ],
)
def test_what_is_clear_passes(command: dict[str, PlistValue]) -> None:
    """Empty clears, and an account without a hash has its password drawn."""
    require_sound(command)


def test_a_profile_is_the_same_one_however_its_name_is_capitalised() -> None:
    """Whether a device compares exactly is not for a fleet to find out."""
    for named in ("org.example.mdm", "Org.Example.MDM", " org.example.mdm "):
        assert removes_profile(
            {"RequestType": "RemoveProfile", "Identifier": named}, "org.example.mdm"
        )
    for other in ("org.example.mdm.wifi", "", 7, None):
        command: dict[str, PlistValue] = {"RequestType": "RemoveProfile"}
        if other is not None:
            command["Identifier"] = other
        assert not removes_profile(command, "org.example.mdm")
    assert not removes_profile(
        {"RequestType": "ProfileList", "Identifier": "org.example.mdm"}, "org.example.mdm"
    )
