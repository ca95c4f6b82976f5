"""Typed commands: the keys that Apple's schemas name, and nothing secret among them."""

import plistlib

import pytest

from ostiary.formats import plist
from ostiary.formats.plist import Fields
from ostiary.protocol.mdm import secret_commands
from ostiary.protocol.mdm.account_commands import (
    AdminAccountMissing,
    NewAdmin,
    PrimaryAccount,
    UnusableAccountName,
    UnusableGuid,
    account_configuration,
    checked_account_configuration,
    set_auto_admin_password,
    unlock_user_account,
)
from ostiary.protocol.mdm.commands import (
    Command,
    NothingToSet,
    allow_bootstrap_token,
    mdm_options,
    standard_form,
    user_list,
)
from ostiary.protocol.mdm.lights_out import (
    LightsOutSetup,
    LightsOutSetupUnknown,
    NoLightsOutRequests,
    Switch,
    UnusableDnsName,
    decode_lights_out,
    decode_lom_answers,
    lom_device_request,
    lom_setup_request,
    plan_lights_out,
)
from ostiary.protocol.mdm.lock_commands import (
    Obliteration,
    ReturnToService,
    UnusablePin,
    device_lock,
    erase_device,
)
from ostiary.protocol.mdm.nature import NATURE
from ostiary.secret import Secret

HASH = Secret(b"a property list")
ADMIN = NewAdmin(short_name="itadmin", password_hash=HASH)


def test_options_are_settings_of_one_item() -> None:
    """escrowed-secrets.md 4.2: the shape of the settings command."""
    assert allow_bootstrap_token() == {
        "RequestType": "Settings",
        "Settings": [{"Item": "MDMOptions", "MDMOptions": {"BootstrapTokenAllowed": True}}],
    }
    command = mdm_options(prompt_for_bootstrap_token=False, activation_lock_allowed=True)
    assert command["Settings"] == [
        {
            "Item": "MDMOptions",
            "MDMOptions": {
                "PromptUserToAllowBootstrapTokenForAuthentication": False,
                "ActivationLockAllowedWhileSupervised": True,
            },
        }
    ]
    with pytest.raises(NothingToSet):
        mdm_options()


@pytest.mark.parametrize(
    "command",
    [
        secret_commands.set_recovery_lock(),
        secret_commands.verify_recovery_lock(),
        secret_commands.set_firmware_password(),
        secret_commands.verify_firmware_password(),
        secret_commands.activation_lock_bypass_code(),
        secret_commands.clear_activation_lock_bypass_code(),
        user_list(),
        lom_setup_request(),
    ],
)
def test_what_carries_only_references_or_nothing_is_its_request_type(command: Command) -> None:
    """escrowed-secrets.md 4.0.2 rule 6: so an empty payload stands for it."""
    assert command == {"RequestType": command["RequestType"]}
    assert command == standard_form(str(command["RequestType"]))
    assert command["RequestType"] in NATURE


def test_clearing_a_password_is_an_empty_new_one() -> None:
    """escrowed-secrets.md 4.4, 4.5."""
    assert secret_commands.set_recovery_lock(clears=True)["NewPassword"] == ""
    command = secret_commands.set_firmware_password(clears=True, allow_oroms=False)
    assert command == {
        "RequestType": "SetFirmwarePassword",
        "NewPassword": "",
        "AllowOroms": False,
    }


def test_a_rotation_always_carries_the_certificate_for_its_answer() -> None:
    """escrowed-secrets.md 4.3: without it the reply carries no key."""
    command = secret_commands.rotate_filevault_key(reply_certificate=b"DER")
    assert command["KeyType"] == "personal"
    assert command["ReplyEncryptionCertificate"] == b"DER"
    assert command["FileVaultUnlock"] == {}
    with pytest.raises(secret_commands.ReplyCertificateMissing):
        secret_commands.rotate_filevault_key(reply_certificate=b"")


def test_a_lock_carries_what_was_given_and_no_more() -> None:
    """escrowed-secrets.md 4.6."""
    assert device_lock() == {"RequestType": "DeviceLock"}
    command = device_lock(pin=Secret(b"012345"), message="Call us", phone_number="+1 555 0100")
    assert command == {
        "RequestType": "DeviceLock",
        "PIN": "012345",
        "Message": "Call us",
        "PhoneNumber": "+1 555 0100",
    }
    for pin in (b"12345", b"1234567", b"12345x"):
        with pytest.raises(UnusablePin):
            device_lock(pin=Secret(pin))
        with pytest.raises(UnusablePin):
            erase_device(pin=Secret(pin))


def test_an_erase_has_every_key_of_the_schema() -> None:
    """escrowed-secrets.md 4.7; the bootstrap token is filled in at hand-out."""
    assert erase_device() == {"RequestType": "EraseDevice"}
    command = erase_device(
        pin=Secret(b"123456"),
        preserve_data_plan=True,
        disallow_proximity_setup=True,
        obliteration=Obliteration.DO_NOT,
        return_to_service=ReturnToService(
            wifi_profile=b"wifi", mdm_profile=b"mdm", keeps_apps=True
        ),
    )
    assert command == {
        "RequestType": "EraseDevice",
        "PIN": "123456",
        "PreserveDataPlan": True,
        "DisallowProximitySetup": True,
        "ObliterationBehavior": "DoNotObliterate",
        "ReturnToService": {
            "Enabled": True,
            "WiFiProfileData": b"wifi",
            "MDMProfileData": b"mdm",
            "BootstrapToken": b"",
        },
    }
    plain = erase_device(return_to_service=ReturnToService())
    assert plain["ReturnToService"] == {"Enabled": True}


@pytest.mark.case("AA-05")
def test_nobody_s_account_is_skipped_or_demoted_without_an_administrator() -> None:
    """escrowed-secrets.md 4.8: refused, typed or written by hand."""
    with pytest.raises(AdminAccountMissing):
        account_configuration(skip_primary_account=True)
    with pytest.raises(AdminAccountMissing):
        account_configuration(primary_is_regular_user=True)
    none: list[plist.PlistValue] = []
    for key in ("SkipPrimarySetupAccountCreation", "SetPrimarySetupAccountAsRegularUser"):
        with pytest.raises(AdminAccountMissing):
            checked_account_configuration({key: True, "AutoSetupAdminAccounts": none})
    command = account_configuration(admin=ADMIN, skip_primary_account=True)
    assert command["SkipPrimarySetupAccountCreation"] is True


def test_only_the_first_account_goes_out() -> None:
    """escrowed-secrets.md 4.8: Setup Assistant ignores the others, so nobody is to believe in them."""
    first: dict[str, plist.PlistValue] = {"shortName": "one"}
    written = checked_account_configuration(
        {
            "RequestType": "AccountConfiguration",
            "AutoSetupAdminAccounts": [first, {"shortName": "2"}],
        }
    )
    assert written["AutoSetupAdminAccounts"] == [first]


def test_an_account_configuration_has_every_key_of_the_schema() -> None:
    """escrowed-secrets.md 4.8."""
    command = account_configuration(
        admin=NewAdmin(short_name="itadmin", password_hash=HASH, full_name="IT", hidden=True),
        primary_is_regular_user=True,
        primary=PrimaryAccount(full_name="Ada L", user_name="ada", locked=True),
        managed_user="ada",
    )
    read = plistlib.loads(plist.encode(command))
    assert read == {
        "RequestType": "AccountConfiguration",
        "SetPrimarySetupAccountAsRegularUser": True,
        "LockPrimaryAccountInfo": True,
        "PrimaryAccountFullName": "Ada L",
        "PrimaryAccountUserName": "ada",
        "ManagedLocalUserShortName": "ada",
        "AutoSetupAdminAccounts": [
            {
                "shortName": "itadmin",
                "fullName": "IT",
                "passwordHash": b"a property list",
                "hidden": True,
            }
        ],
    }
    assert account_configuration() == {"RequestType": "AccountConfiguration"}


def test_names_that_no_account_has_are_refused() -> None:
    for name in ("", "  ", "a\x00b", "x" * 256):
        with pytest.raises(UnusableAccountName):
            unlock_user_account(name)
    with pytest.raises(UnusableGuid):
        set_auto_admin_password(guid="", password_hash=HASH)
    assert unlock_user_account("ada") == {"RequestType": "UnlockUserAccount", "UserName": "ada"}
    assert set_auto_admin_password(guid="G-1", password_hash=HASH) == {
        "RequestType": "SetAutoAdminPassword",
        "GUID": "G-1",
        "passwordHash": b"a property list",
    }


@pytest.mark.case("LO-01")
def test_a_mac_that_never_answered_the_setup_request_cannot_be_switched() -> None:
    """escrowed-secrets.md 4.11: setup before any device request."""
    unanswered = LightsOutSetup.read({})
    with pytest.raises(LightsOutSetupUnknown) as refused:
        plan_lights_out(uuid="R1", switch=Switch.ON, dns_name="mac.example", setup=unanswered)
    assert "lom-setup-request" in refused.value.hint


def test_a_lights_out_request_names_target_and_addresses() -> None:
    """escrowed-secrets.md 4.11."""
    report: dict[str, plist.PlistValue] = {
        "PrimaryIPv6AddressList": ["fe80::1", 7, "x" * 999],
        "SecondaryIPv6AddressList": ["fe80::2"],
        "LOMProtocolVersion": 1,
    }
    setup = LightsOutSetup.read(decode_lights_out(Fields(report)))
    assert setup == LightsOutSetup(primary=("fe80::1",), secondary=("fe80::2",), protocol_version=1)
    request = plan_lights_out(uuid="R1", switch=Switch.RESET, dns_name="mac.example", setup=setup)
    assert lom_device_request([request]) == {
        "RequestType": "LOMDeviceRequest",
        "RequestList": [
            {
                "DeviceRequestType": "Reset",
                "DeviceRequestUUID": "R1",
                "DeviceDNSName": "mac.example",
                "PrimaryIPv6AddressList": ["fe80::1"],
                "SecondaryIPv6AddressList": ["fe80::2"],
                "LOMProtocolVersion": 1,
            }
        ],
    }
    with pytest.raises(NoLightsOutRequests):
        lom_device_request([])
    with pytest.raises(UnusableDnsName):
        plan_lights_out(uuid="R1", switch=Switch.ON, dns_name="a mac", setup=setup)


@pytest.mark.case("LO-02")
def test_each_line_of_a_lights_out_answer_is_judged_by_itself() -> None:
    """escrowed-secrets.md 4.11: one Acknowledged may contain failed items."""
    report: dict[str, plist.PlistValue] = {
        "Status": "Acknowledged",
        "ResponseList": [
            {"DeviceRequestUUID": "R1", "DeviceRequestSuccess": True},
            {
                "DeviceRequestUUID": "R2",
                "DeviceRequestSuccess": False,
                "DeviceRequestReturnError": "unreachable",
            },
            {"DeviceRequestUUID": "R3"},
            {"DeviceRequestSuccess": True},
            "hostile",
        ],
    }
    done = {one.uuid: (one.succeeded, one.trouble) for one in decode_lom_answers(Fields(report))}
    assert done == {"R1": (True, None), "R2": (False, "unreachable"), "R3": (False, None)}
