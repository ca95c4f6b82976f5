"""User channels and UserAuthenticate. Source: check-in-and-commands.md 1.3.1, 1.5, 2.5 step 5."""

import hashlib
from typing import Any

import pytest

from ostiary_sim.errors import NotPossible
from ostiary_sim.logins import Login, digest_response
from unit.sim.fake_mdm import Stage, plist_reply

CHALLENGE = 'Digest nonce="abc", realm="example"'


async def test_the_installing_mac_user_is_managed_and_others_are_not(stage: Stage) -> None:
    """2.5 step 5."""
    mac = stage.device("mac")
    await mac.enroll(stage.server.profile(), installing_user="ada")
    update = stage.server.last("TokenUpdate")
    ada = mac.users["ada"]
    assert update["UserID"] == ada.guid
    assert update["UserShortName"] == "ada"
    assert update["UserLongName"] == "Ada"
    assert update["NotOnConsole"] is False
    assert update["Token"] == mac.channel("ada").push_token != mac.push_token
    assert "UnlockToken" not in update
    updates = stage.server.kinds().count("TokenUpdate")
    grace = await mac.user_login("grace")
    assert not grace.managed
    assert stage.server.kinds().count("TokenUpdate") == updates
    assert mac.identity is not None
    assert set(stage.server.signers) == {mac.identity.certificate}


async def test_without_the_capability_no_user_has_a_channel(stage: Stage) -> None:
    mac = stage.device("mac")
    await mac.enroll(stage.server.profile(ServerCapabilities=None))
    ada = await mac.user_login("ada")
    assert not ada.managed


async def test_nobody_logs_in_while_the_mac_waits(stage: Stage) -> None:
    mac = await stage.enrolled("mac", awaiting=True)
    with pytest.raises(NotPossible):
        await mac.user_login("ada")


async def test_users_follow_a_replacement_with_the_new_certificate(stage: Stage) -> None:
    mac = await stage.enrolled("mac")
    await mac.user_login("ada")
    await mac.replace_profile(stage.server.profile())
    assert stage.server.last("TokenUpdate")["UserShortName"] == "ada"
    assert mac.identity is not None
    assert stage.server.signers[-1] == mac.identity.certificate


async def test_a_byod_mac_user_has_an_enrollment_user_id(stage: Stage) -> None:
    mac = await stage.enrolled("byod-mac")
    ada = await mac.user_login("ada")
    update = stage.server.last("TokenUpdate")
    assert update["EnrollmentID"] == mac.enrollment_id
    assert update["EnrollmentUserID"] == ada.guid
    assert "UDID" not in update
    assert "UserID" not in update


async def log_in_mobile(stage: Stage, *answers: Any) -> tuple[Any, Any]:
    mac = await stage.enrolled("mac")
    stage.server.script("UserAuthenticate", *answers)
    user = await mac.user_login("ada", mobile=True, password="secret")
    return mac, user


async def test_a_network_user_whom_the_server_declines_stays_silent(stage: Stage) -> None:
    """1.5 S0 a."""
    mac, ada = await log_in_mobile(stage, 410)
    assert not ada.managed
    assert ada.refused
    assert stage.server.kinds().count("TokenUpdate") == 1
    assert await mac.user_authenticate("ada") is Login.DECLINED


async def test_an_empty_challenge_manages_without_proof(stage: Stage) -> None:
    """1.5 S0 b."""
    _, ada = await log_in_mobile(stage, plist_reply({"DigestChallenge": ""}))
    assert ada.managed
    assert "AuthToken" not in stage.server.last("TokenUpdate")


async def test_a_proven_user_carries_the_auth_token_everywhere(stage: Stage) -> None:
    """1.5 S1 a, S2."""
    mac, ada = await log_in_mobile(
        stage,
        plist_reply({"DigestChallenge": CHALLENGE}),
        plist_reply({"AuthToken": "T"}),
    )
    second = stage.server.last("UserAuthenticate")
    assert second["DigestResponse"] == digest_response(CHALLENGE, "ada", "secret")
    assert stage.server.last("TokenUpdate")["AuthToken"] == "T"
    await mac.idle(ada)
    assert stage.server.reports[-1]["AuthToken"] == "T"
    stage.server.script("UserAuthenticate", plist_reply({"DigestChallenge": ""}))
    await mac.user_authenticate("ada")
    assert ada.auth_token is None


@pytest.mark.parametrize(
    ("second", "result"),
    [(plist_reply({"AuthToken": ""}), Login.WRONG), (410, Login.DECLINED), (500, Login.FAILED)],
)
async def test_a_wrong_digest_leaves_the_user_unmanaged(
    stage: Stage, second: Any, result: Login
) -> None:
    """1.5 S1 b, c."""
    mac, ada = await log_in_mobile(stage, plist_reply({"DigestChallenge": CHALLENGE}), second)
    assert not ada.managed
    stage.server.script("UserAuthenticate", plist_reply({"DigestChallenge": CHALLENGE}), second)
    assert await mac.user_authenticate("ada") is result


def test_the_digest_is_the_classic_one() -> None:
    """1.5: MD5(MD5(user:realm:password):nonce:MD5(method:uri))."""

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    expected = md5(f"{md5('ada:example:secret')}:abc:{md5('PUT:/')}")
    assert f'response="{expected}"' in digest_response(CHALLENGE, "ada", "secret")
