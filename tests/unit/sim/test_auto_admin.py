"""The account a server has made, and the login window. Source: escrowed-secrets.md 4.8, 4.10."""

import plistlib
from dataclasses import replace
from hashlib import pbkdf2_hmac
from typing import Any

import pytest

from ostiary_sim.device import Device
from ostiary_sim.errors import NotPossible
from ostiary_sim.login_window import ATTEMPTS
from ostiary_sim.password_hash import read_password_hash
from ostiary_sim.personality import PERSONALITIES
from unit.sim.fake_mdm import Stage

VECTOR = (
    "838175a0ee4802816910264763d26c77df0ce027af3b9ea0bc4b82fcf88f743ee01a4ca574d404737ba2e1283e3d959e"
    "1ac68eae98789e7735ca247a8bc9524b644eb238379ea2778743d195e747576fc6e806763fde43c3b956d4c1b03f1f2d"
    "7aca202b3812acddbc88648c887880d1c851e7143cca116abdf1d883f0982fcc"
)


def hashed(
    password: str, *, form: plistlib.PlistFormat = plistlib.FMT_XML, **changes: Any
) -> bytes:
    salt = bytes(range(32))
    inside = {
        "entropy": pbkdf2_hmac("sha512", password.encode(), salt, 20_000, 128),
        "salt": salt,
        "iterations": 20_000,
    } | changes
    return plistlib.dumps({"SALTED-SHA512-PBKDF2": inside}, fmt=form)


async def with_admin(stage: Stage, password: str = "first one", **keys: Any) -> Device:
    mac = await stage.enrolled("mac", awaiting=True)
    admin = {"shortName": "itadmin", "fullName": "IT", "passwordHash": hashed(password)}
    report = await stage.ask(mac, "AccountConfiguration", AutoSetupAdminAccounts=[admin], **keys)
    assert report["Status"] == "Acknowledged"
    await stage.ask(mac, "DeviceConfigured")
    return mac


def test_the_vector_of_the_sheet_is_understood() -> None:
    read = read_password_hash(hashed("ostiary-test", entropy=bytes.fromhex(VECTOR)))
    assert read.matches("ostiary-test")
    assert not read.matches("ostiary-test2")
    assert VECTOR[:8] not in repr(read)


async def test_the_account_takes_the_password_that_was_hashed_and_no_other(stage: Stage) -> None:
    mac = await with_admin(stage)
    assert not await mac.login("itadmin", "wrong")
    assert await mac.login("itadmin", "first one")
    assert mac.truth().is_admin_password("first one")
    assert not mac.truth().is_admin_password("wrong")


async def test_the_first_graphical_login_gives_the_account_its_secure_token(stage: Stage) -> None:
    mac = await with_admin(stage)
    (listed,) = (await stage.ask(mac, "UserList"))["Users"]
    assert (listed["UserName"], listed["HasSecureToken"]) == ("itadmin", False)
    await mac.login("itadmin", "first one")
    assert mac.users["itadmin"].secure_token
    assert "SetBootstrapToken" in stage.server.kinds()


async def test_a_second_account_gets_it_by_the_escrowed_bootstrap_token(stage: Stage) -> None:
    mac = await with_admin(stage)
    await mac.user_login("ada")
    stage.server.bootstrap_token = b""
    await mac.login("itadmin", "first one")
    assert not mac.users["itadmin"].secure_token
    stage.server.bootstrap_token = mac.truth().bootstrap_token or b""
    await mac.login("itadmin", "first one")
    assert mac.users["itadmin"].secure_token


async def test_the_guid_buys_another_password_and_a_wrong_one_does_not(stage: Stage) -> None:
    mac = await with_admin(stage)
    told = await stage.ask(mac, "DeviceInformation", Queries=["AutoSetupAdminAccounts"])
    (listed,) = told["QueryResponses"]["AutoSetupAdminAccounts"]
    assert listed == {"GUID": mac.truth().admin_guid, "shortName": "itadmin"}
    new = hashed("second one", form=plistlib.FMT_BINARY)
    wrong = await stage.ask(mac, "SetAutoAdminPassword", GUID="ANOTHER", passwordHash=new)
    assert wrong["Status"] == "Error"
    assert mac.truth().is_admin_password("first one")
    right = await stage.ask(mac, "SetAutoAdminPassword", GUID=listed["GUID"], passwordHash=new)
    assert right["Status"] == "Acknowledged"
    assert mac.truth().is_admin_password("second one")
    assert not mac.truth().is_admin_password("first one")


async def test_the_guid_may_show_up_late(stage: Stage) -> None:
    mac = await stage.enrolled("mac", awaiting=True)
    query = {"Queries": ["AutoSetupAdminAccounts"]}
    none = await stage.ask(mac, "DeviceInformation", **query)
    assert none["QueryResponses"] == {"AutoSetupAdminAccounts": []}
    mac.levers.admin_guid_hidden_for = 2
    admin = {"shortName": "itadmin", "passwordHash": hashed("x")}
    await stage.ask(mac, "AccountConfiguration", AutoSetupAdminAccounts=[admin])
    for found in (False, False, True):
        told = (await stage.ask(mac, "DeviceInformation", **query))["QueryResponses"]
        assert ("AutoSetupAdminAccounts" in told) is found


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        ({"SkipPrimarySetupAccountCreation": True}, "Error"),
        ({"SetPrimarySetupAccountAsRegularUser": True}, "Error"),
        ({"AutoSetupAdminAccounts": [{}]}, "CommandFormatError"),
        ({"AutoSetupAdminAccounts": {}}, "CommandFormatError"),
        ({"AutoSetupAdminAccounts": [{"shortName": "a", "passwordHash": b"x"}]}, "Error"),
        (
            {"AutoSetupAdminAccounts": [{"shortName": "a", "passwordHash": "x"}]},
            "CommandFormatError",
        ),
        ({"ManagedLocalUserShortName": "ada"}, "Acknowledged"),
    ],
)
async def test_a_configuration_is_checked_before_anything_is_made(
    stage: Stage, keys: dict[str, Any], status: str
) -> None:
    mac = await stage.enrolled("mac", awaiting=True)
    assert (await stage.ask(mac, "AccountConfiguration", **keys))["Status"] == status
    assert mac.users == {}


@pytest.mark.parametrize(
    "changes", [{"entropy": "text"}, {"salt": b""}, {"iterations": 0}, {"iterations": 10**9}]
)
async def test_a_hash_that_no_mac_understands_is_an_error(
    stage: Stage, changes: dict[str, Any]
) -> None:
    mac = await with_admin(stage)
    report = await stage.ask(
        mac,
        "SetAutoAdminPassword",
        GUID=mac.truth().admin_guid,
        passwordHash=hashed("x", **changes),
    )
    assert report["Status"] == "Error"
    assert mac.truth().is_admin_password("first one")


async def test_only_a_mac_that_waits_takes_a_configuration(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    admin = {"shortName": "itadmin", "passwordHash": hashed("x")}
    report = await stage.ask(mac, "AccountConfiguration", AutoSetupAdminAccounts=[admin])
    assert report["Status"] == "Error"
    by_hand = await stage.enrolled(replace(PERSONALITIES["mac"], automated=False), awaiting=True)
    report = await stage.ask(by_hand, "AccountConfiguration", AutoSetupAdminAccounts=[admin])
    assert report["Status"] == "Error"
    assert by_hand.truth().admin_guid is None


async def test_the_named_local_account_becomes_the_managed_one(stage: Stage) -> None:
    mac = await with_admin(stage, ManagedLocalUserShortName="grace")
    assert not (await mac.user_login("ada")).managed
    assert (await mac.user_login("grace")).managed


async def test_too_many_wrong_passwords_lock_out_until_the_server_unlocks(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada", password="hers")
    for _ in range(ATTEMPTS):
        assert not await mac.login("ada", "wrong")
    assert mac.users["ada"].locked_out
    assert not await mac.login("ada", "hers")
    unknown = await stage.ask(mac, "UnlockUserAccount", UserName="nobody")
    assert unknown["Status"] == "Error"
    report = await stage.ask(mac, "UnlockUserAccount", UserName="ada")
    assert report["Status"] == "Acknowledged"
    assert await mac.login("ada", "hers")
    with pytest.raises(NotPossible):
        await mac.login("nobody", "x")


async def test_unlocking_needs_the_right_to_lock(stage: Stage) -> None:
    mac = stage.device("mac")
    await mac.enroll(stage.server.profile(AccessRights=8191 & ~4))
    await mac.user_login("ada")
    report = await stage.ask(mac, "UnlockUserAccount", UserName="ada")
    assert report["Status"] == "Error"
