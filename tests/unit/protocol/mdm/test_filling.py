"""The holes of a queued command, filled where their keys say."""

import pytest

from ostiary.formats.plist import PlistValue
from ostiary.protocol.mdm.filling import fill


def test_a_plain_key_is_put_into_the_command() -> None:
    command: dict[str, PlistValue] = {"RequestType": "SetRecoveryLock"}
    fill(command, "NewPassword", "secret")
    assert command == {"RequestType": "SetRecoveryLock", "NewPassword": "secret"}


def test_a_key_inside_another_makes_the_dictionaries_on_its_way() -> None:
    command: dict[str, PlistValue] = {}
    fill(command, "A/B/C", b"token")
    assert command == {"A": {"B": {"C": b"token"}}}


def test_what_stands_beside_the_hole_stays() -> None:
    command: dict[str, PlistValue] = {"ReturnToService": {"Enabled": True}}
    fill(command, "ReturnToService/BootstrapToken", b"token")
    assert command == {"ReturnToService": {"Enabled": True, "BootstrapToken": b"token"}}


def test_the_dictionary_that_the_command_was_made_of_is_not_changed() -> None:
    """A template is used for every device; one device's secret must not stay in it."""
    template: dict[str, PlistValue] = {"Enabled": True}
    command: dict[str, PlistValue] = {"ReturnToService": template}
    fill(command, "ReturnToService/BootstrapToken", b"token")
    assert template == {"Enabled": True}


@pytest.mark.parametrize("stands_there", ["text", b"data", 7, True, ["list"]])
def test_what_is_no_dictionary_gives_way(stands_there: PlistValue) -> None:
    command: dict[str, PlistValue] = {"FileVaultUnlock": stands_there}
    fill(command, "FileVaultUnlock/Password", "secret")
    assert command == {"FileVaultUnlock": {"Password": "secret"}}


def test_a_value_that_was_there_is_replaced() -> None:
    command: dict[str, PlistValue] = {"PIN": "000000"}
    fill(command, "PIN", "482913")
    assert command["PIN"] == "482913"


def test_two_holes_in_one_dictionary_are_both_filled() -> None:
    command: dict[str, PlistValue] = {}
    fill(command, "A/B", 1)
    fill(command, "A/C", 2)
    assert command == {"A": {"B": 1, "C": 2}}
