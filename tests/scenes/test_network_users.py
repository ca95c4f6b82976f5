"""UserAuthenticate: a Mac's network users, declined, let in, or asked for a digest. (1.5)"""

import hashlib

import pytest

from ostiary.domain.enrollment import State
from ostiary.domain.policy import BadDigest, UserLogin
from ostiary.formats import plist
from ostiary.formats.plist import Fields
from ostiary.secret import Secret
from ostiary.services.network_users import REALM
from ostiary.services.reply import Farewell, Reply, UserIsNotManaged
from scenes.house import MAC, Device, House

USER = {"UserID": "U-1", "UserShortName": "ada"}


def fields_of(reply: Reply | Farewell) -> Fields:
    assert isinstance(reply, Reply)
    return plist.read_dict(reply.body)


def digest_line(nonce: str, password: str = "lovelace", method: str = "PUT") -> str:
    left = hashlib.md5(f"ada:{REALM}:{password}".encode()).hexdigest()
    right = hashlib.md5(f"{method}:/".encode()).hexdigest()
    response = hashlib.md5(f"{left}:{nonce}:{right}".encode()).hexdigest()
    return (
        f'Digest username="ada", realm="{REALM}", nonce="{nonce}", uri="/", response="{response}"'
    )


async def nonce_for(mac: Device) -> str:
    challenge = fields_of(await mac.send("UserAuthenticate", **USER)).text("DigestChallenge")
    return challenge.split('nonce="')[1].split('"')[0]


@pytest.fixture
def proving(house: House) -> House:
    """A house that asks network users for a digest, and knows one."""
    known = hashlib.md5(f"ada:{REALM}:lovelace".encode()).hexdigest()
    proving = House(
        path=house.path,
        storage=house.storage,
        clock=house.clock,
        sealer=house.sealer,
        htdigest={"ada": Secret(known.encode())},
    )
    proving.set_policy(user_login=UserLogin.DIGEST)
    return proving


@pytest.mark.case("CI-31")
async def test_by_default_network_users_are_not_managed(house: House) -> None:
    """The default of all peers: 410."""
    mac = await house.enrolled(MAC)
    with pytest.raises(UserIsNotManaged):
        await mac.send("UserAuthenticate", **USER)
    assert await house.row(f"{mac.id}:U-1") is None


@pytest.mark.case("CI-32")
async def test_an_empty_challenge_lets_users_in_without_proof(house: House) -> None:
    """1.5 (b): a second request may still arrive; it is answered empty."""
    mac = await house.enrolled(MAC)
    house.set_policy(user_login=UserLogin.EMPTY_CHALLENGE)
    first = await mac.send("UserAuthenticate", **USER)
    assert fields_of(first).text("DigestChallenge") == ""
    assert await mac.send("UserAuthenticate", DigestResponse="whatever", **USER) is Reply.EMPTY
    await mac.token_update(**USER)
    assert (await house.require_row(f"{mac.id}:U-1")).state is State.ENROLLED


@pytest.mark.case("CI-33")
@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_right_digest_earns_a_token_that_serves_the_user(
    proving: House, method: str
) -> None:
    """1.5 (c): each request carries the AuthToken; the method in the digest is unconfirmed, so both count."""
    mac = await proving.enrolled(MAC)
    line = digest_line(await nonce_for(mac), method=method)
    token = fields_of(await mac.send("UserAuthenticate", DigestResponse=line, **USER)).text(
        "AuthToken"
    )
    assert token
    await mac.token_update(AuthToken=token, **USER)
    await proving.enqueue(f"{mac.id}:U-1", "ProfileList")
    assert await mac.drain(AuthToken=token, **USER) == ["ProfileList"]


@pytest.mark.case("CI-34")
async def test_a_wrong_digest_gets_an_empty_token_and_no_service(proving: House) -> None:
    """1.5: 200 with an empty AuthToken; 410 where policy says so."""
    mac = await proving.enrolled(MAC)
    line = digest_line(await nonce_for(mac), password="wrong")
    assert (
        fields_of(await mac.send("UserAuthenticate", DigestResponse=line, **USER)).text("AuthToken")
        == ""
    )
    with pytest.raises(UserIsNotManaged):
        await mac.token_update(**USER)
    proving.set_policy(bad_digest=BadDigest.DECLINE)
    line = digest_line(await nonce_for(mac), password="wrong")
    with pytest.raises(UserIsNotManaged):
        await mac.send("UserAuthenticate", DigestResponse=line, **USER)


async def test_a_digest_over_another_nonce_is_wrong(proving: House) -> None:
    """A nonce is good for one answer."""
    mac = await proving.enrolled(MAC)
    line = digest_line(await nonce_for(mac))
    await nonce_for(mac)
    assert (
        fields_of(await mac.send("UserAuthenticate", DigestResponse=line, **USER)).text("AuthToken")
        == ""
    )


@pytest.mark.case("CI-35")
async def test_a_new_login_ends_the_old_session(proving: House) -> None:
    """1.5: refused, 410 on the user channel, never 401."""
    mac = await proving.enrolled(MAC)
    line = digest_line(await nonce_for(mac))
    token = fields_of(await mac.send("UserAuthenticate", DigestResponse=line, **USER)).text(
        "AuthToken"
    )
    await mac.token_update(AuthToken=token, **USER)
    await nonce_for(mac)
    with pytest.raises(UserIsNotManaged):
        await mac.report(AuthToken=token, **USER)
    with pytest.raises(UserIsNotManaged):
        await mac.token_update(AuthToken=token, **USER)


async def test_a_token_that_no_session_knows_is_stale(proving: House) -> None:
    """1.5: 410 for a stale AuthToken, after the device enrolled again and on a Mac that never gave it out."""
    mac, other = await proving.enrolled(MAC), await proving.enrolled(MAC)
    line = digest_line(await nonce_for(mac))
    given = fields_of(await mac.send("UserAuthenticate", DigestResponse=line, **USER))
    token = given.text("AuthToken")
    await mac.token_update(AuthToken=token, **USER)
    with pytest.raises(UserIsNotManaged):
        await other.token_update(AuthToken=token, **USER)
    await mac.authenticate()
    await mac.token_update()
    with pytest.raises(UserIsNotManaged):
        await mac.token_update(AuthToken=token, **USER)


async def test_nobodys_password_proves_another_users_channel(proving: House) -> None:
    """1.5: the digest's user name is the channel's user."""
    mac = await proving.enrolled(MAC)
    bob = {"UserID": "U-2", "UserShortName": "bob"}
    challenge = fields_of(await mac.send("UserAuthenticate", **bob)).text("DigestChallenge")
    line = digest_line(challenge.split('nonce="')[1].split('"')[0])
    answer = await mac.send("UserAuthenticate", DigestResponse=line, **bob)
    assert fields_of(answer).text("AuthToken") == ""


async def test_who_needed_a_proof_needs_one_after_enrolling_again(proving: House) -> None:
    """2.3: AuthTokens are dropped, the demand is not."""
    mac = await proving.enrolled(MAC)
    line = digest_line(await nonce_for(mac))
    sent = await mac.send("UserAuthenticate", DigestResponse=line, **USER)
    await mac.token_update(AuthToken=fields_of(sent).text("AuthToken"), **USER)
    await mac.authenticate()
    await mac.token_update()
    with pytest.raises(UserIsNotManaged):
        await mac.token_update(**USER)
