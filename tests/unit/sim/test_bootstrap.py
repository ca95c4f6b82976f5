"""The Mac's side of the bootstrap token. Source: escrowed-secrets.md 4.2 (Simulated device)."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from ostiary_sim.personality import PERSONALITIES
from unit.sim.fake_mdm import Stage, plist_reply


async def test_the_first_secure_token_login_escrows(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    assert mac.profiles_status().splitlines() == [
        "profiles: Bootstrap Token supported on server: YES",
        "profiles: Bootstrap Token escrowed to server: NO",
    ]
    ada = await mac.user_login("ada")
    assert ada.secure_token
    message = stage.server.last("SetBootstrapToken")
    assert message["BootstrapToken"] == mac.bootstrap.token
    assert message["UDID"] == mac.udid
    assert message["AwaitingConfiguration"] is False
    assert mac.profiles_status().endswith("escrowed to server: YES")
    await mac.user_login("ada")
    assert stage.server.kinds().count("SetBootstrapToken") == 1


async def test_without_the_capability_in_the_installed_profile_nothing_is_escrowed(
    stage: Stage,
) -> None:
    mac = stage.device("mac")
    await mac.enroll(stage.server.profile(ServerCapabilities=[]))
    await mac.user_login("ada")
    assert "SetBootstrapToken" not in stage.server.kinds()
    assert "supported on server: NO" in mac.profiles_status()


async def test_catalina_waits_for_the_option(stage: Stage) -> None:
    """4.2: Settings, MDMOptions, BootstrapTokenAllowed."""
    mac = await stage.enrolled("mac-10.15")
    await mac.user_login("ada")
    assert "SetBootstrapToken" not in stage.server.kinds()
    option = {"Item": "MDMOptions", "MDMOptions": {"BootstrapTokenAllowed": True}}
    stage.server.queue("Settings", Settings=[option])
    await mac.idle()
    await mac.user_login("ada")
    assert mac.bootstrap.escrowed


@pytest.mark.parametrize(
    ("version", "keys", "who", "escrows"),
    [
        ("10.15.3", {}, "itadmin", False),
        ("10.15.3", {}, "ada", True),
        ("10.15.7", {}, "itadmin", True),
        ("10.15.7", {"SkipPrimarySetupAccountCreation": True}, "itadmin", False),
        ("11.6", {"SkipPrimarySetupAccountCreation": True}, "itadmin", True),
    ],
)
async def test_catalina_escrows_only_after_certain_logins(
    stage: Stage, version: str, keys: dict[str, Any], who: str, escrows: bool
) -> None:
    """4.2, the table of triggers."""
    mac = await stage.enrolled(
        replace(PERSONALITIES["mac-10.15"], os_version=version), awaiting=True
    )
    mac.mdm_options["BootstrapTokenAllowed"] = True
    admin = {"shortName": "itadmin"}
    await stage.ask(mac, "AccountConfiguration", AutoSetupAdminAccounts=[admin], **keys)
    await stage.ask(mac, "DeviceConfigured")
    await mac.user_login(who)
    assert mac.bootstrap.escrowed is escrows


@pytest.mark.parametrize("change", [{"supervised": False}, {"bootstrap_tokens": False}])
async def test_only_supervised_macs_take_part(stage: Stage, change: dict[str, Any]) -> None:
    mac = await stage.enrolled(replace(PERSONALITIES["mac"], **change))
    await mac.user_login("ada")
    assert "SetBootstrapToken" not in stage.server.kinds()


async def test_the_memory_is_set_only_by_a_2xx_and_survives_the_servers_loss(
    stage: Stage,
) -> None:
    mac = await stage.enrolled("mac")
    stage.server.script("SetBootstrapToken", 500, 500)
    await mac.user_login("ada")
    assert not mac.bootstrap.escrowed
    assert mac.bootstrap.is_pending
    await mac.idle()
    assert mac.bootstrap.escrowed
    stage.server.bootstrap_token = b""
    await mac.get_bootstrap_token()
    assert mac.bootstrap.escrowed


async def test_a_renewal_sends_no_token_again(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada")
    await mac.replace_profile(stage.server.profile())
    await mac.user_login("ada")
    assert stage.server.kinds().count("SetBootstrapToken") == 1


async def test_a_new_relationship_sends_it_again(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada")
    await mac.remove_profile()
    await mac.enroll(stage.server.profile())
    await mac.user_login("ada")
    assert stage.server.kinds().count("SetBootstrapToken") == 2


@pytest.mark.parametrize(
    ("answer", "gains"),
    [
        (None, True),
        (plist_reply({"BootstrapToken": b""}), False),
        (plist_reply({}), False),
        (plist_reply({"BootstrapToken": b"another"}), False),
        (httpx.Response(500), False),
    ],
)
async def test_a_new_user_gains_a_secure_token_only_by_the_equal_bytes(
    stage: Stage, answer: httpx.Response | None, gains: bool
) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada")
    if answer is not None:
        stage.server.script("GetBootstrapToken", answer)
    grace = await mac.user_login("grace")
    assert stage.server.kinds().count("GetBootstrapToken") == 1
    assert grace.secure_token is gains
    assert grace.logged_in
    assert ("user_without_secure_token" in stage.said()) is not gains
    await mac.user_login("grace")
    assert stage.server.kinds().count("GetBootstrapToken") == 1


async def test_removal_on_the_mac_withdraws_by_emptiness_or_absence(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.set_bootstrap_token(b"mine")
    assert mac.bootstrap.token == b"mine"
    await mac.set_bootstrap_token(b"")
    assert stage.server.last("SetBootstrapToken")["BootstrapToken"] == b""
    assert not mac.bootstrap.escrowed
    await mac.set_bootstrap_token(None)
    assert "BootstrapToken" not in stage.server.last("SetBootstrapToken")
    mac.levers.bootstrap_without_udid = True
    await mac.set_bootstrap_token()
    assert "UDID" not in stage.server.last("SetBootstrapToken")


async def test_an_update_asks_the_user_unless_the_token_authorises_it(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada")
    assert await mac.update_software()
    stage.server.bootstrap_token = b"wrong"
    assert not await mac.update_software()
    fetched = await mac.get_bootstrap_token()
    assert (fetched.status, fetched.token) == (200, b"wrong")
    assert "wrong" not in repr(fetched)


async def test_restart_with_a_kernel_cache_asks_first(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    stage.server.queue("RestartDevice", RebuildKernelCache=True)
    await mac.idle()
    assert "GetBootstrapToken" in stage.server.kinds()
