"""Commands that people name in words: what they come to, and what is refused."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from ostiary.errors import OstiaryError
from ostiary.formats import plist
from ostiary.protocol.mdm.account_commands import UnusableAccountName
from ostiary.protocol.mdm.commands import standard_form
from ostiary.protocol.mdm.lock_commands import UnusablePin
from ostiary.web.asks import AskUnreadable, WordUnknown
from ostiary.web.typed_commands import CommandNotTyped, NotAProfile, build_command

PROFILE = plist.encode({"PayloadType": "Configuration", "PayloadIdentifier": "example"})
ENCODED = base64.b64encode(PROFILE).decode()


@pytest.mark.parametrize(
    ("word", "request_type"),
    [
        ("device-information", "DeviceInformation"),
        ("security-info", "SecurityInfo"),
        ("user-list", "UserList"),
        ("lom-setup-request", "LOMSetupRequest"),
        ("clear-passcode", "ClearPasscode"),
    ],
)
def test_a_word_alone_is_the_standard_form(word: str, request_type: str) -> None:
    assert build_command(word, {}) == standard_form(request_type)


def test_an_account_is_unlocked_by_its_name() -> None:
    """escrowed-secrets.md 4.10."""
    command = build_command("unlock-user-account", {"name": "ada"})
    assert command == {"RequestType": "UnlockUserAccount", "UserName": "ada"}


def test_an_erase_is_what_its_options_say() -> None:
    """escrowed-secrets.md 4.7."""
    assert build_command("erase-device", {"pin": None}) == {"RequestType": "EraseDevice"}
    ask = {
        "pin": "123456",
        "preserve_data_plan": True,
        "disallow_proximity_setup": True,
        "obliteration": "DoNotObliterate",
        "return_to_service": True,
        "keep_apps": True,
        "wifi_profile": ENCODED,
        "mdm_profile": ENCODED,
    }
    assert build_command("erase-device", ask) == {
        "RequestType": "EraseDevice",
        "PIN": "123456",
        "PreserveDataPlan": True,
        "DisallowProximitySetup": True,
        "ObliterationBehavior": "DoNotObliterate",
        "ReturnToService": {
            "Enabled": True,
            "WiFiProfileData": PROFILE,
            "MDMProfileData": PROFILE,
            "BootstrapToken": b"",
        },
    }


@pytest.mark.parametrize(
    ("word", "ask", "error"),
    [
        ("erase", {}, CommandNotTyped),
        ("erase-device", {"pin": "12345"}, UnusablePin),
        ("erase-device", {"obliteration": "Sometimes"}, WordUnknown),
        ("erase-device", {"return_to_service": "yes"}, AskUnreadable),
        (
            "erase-device",
            {"return_to_service": True, "mdm_profile": base64.b64encode(b"hello").decode()},
            NotAProfile,
        ),
        ("unlock-user-account", {}, AskUnreadable),
        ("unlock-user-account", {"name": "a\x00"}, UnusableAccountName),
    ],
)
def test_what_is_wrong_with_a_word_is_said_before_anything_is_queued(
    word: str, ask: Mapping[str, Any], error: type[OstiaryError]
) -> None:
    with pytest.raises(error):
        build_command(word, ask)
