"""The administrator account that Setup Assistant makes: asked for with the enrollment, its password kept and rotated."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest

from ostiary.domain.auto_admin import AdminAccountNotKnown
from ostiary.domain.suitability import NotAwaiting
from ostiary.domain.token import DEFAULT_TENANT, Holder, TokenKind
from ostiary.formats import plist
from ostiary.protocol.mdm.account_commands import AdminAccountMissing
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.admin_account import NoAdminAccountNamed, account_of
from ostiary.services.escrow import Changing, Wish
from scenes.house import IPAD, MAC, OPERATOR, Device, House

ADMIN = TokenKind.ADMIN_PASSWORD
GUID = "5B1C8C4F-0000-4000-8000-00000000ADM1"


async def _waiting(house: House, *, model: Any = MAC) -> Device:
    mac = house.device(model)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    return mac


async def _with_account(house: House) -> Device:
    """A Mac whose account was made, and whose setup has ended."""
    house.set_policy(admin_account="admin")
    mac = await _waiting(house)
    await mac.drain()
    return mac


async def _passwords(house: House, mac: Device) -> dict[str, bytes]:
    """Each generation's value by its state."""
    found = {}
    for record in await house.history(mac.id, ADMIN):
        whole = await house.storage.enrollments.load_record(record.id)
        assert whole is not None
        found[record.state.value] = house.open(whole)
    return found


def _takes(account: dict[str, Any], password: bytes) -> bool:
    """Whether a Mac with this account would let somebody in."""
    (kind,) = plist.read_dict(account["passwordHash"]).as_mapping().items()
    name, parts = kind
    assert name == "SALTED-SHA512-PBKDF2"
    assert isinstance(parts, dict)
    entropy = hashlib.pbkdf2_hmac("sha512", password, parts["salt"], parts["iterations"], 128)
    return bool(entropy == parts["entropy"])


async def _rotate(house: House, mac: Device, **wish: Any) -> Changing:
    wanted = Wish(enrollment_id=EnrollmentId(mac.id), kind=ADMIN, **wish)
    return await house.escrow.change_or_defer(wanted, OPERATOR)


async def test_a_mac_that_enrolls_waiting_gets_its_account_before_it_is_let_go(
    house: House,
) -> None:
    """escrowed-secrets.md 4.8: only while awaiting, before DeviceConfigured; the password is kept with the enrollment."""
    house.set_policy(admin_account="it-staff", admin_full_name="IT", admin_hidden=True)
    mac = await _waiting(house)
    (kept,) = (await _passwords(house, mac)).items()
    assert kept[0] == "candidate", "committed before the command can be fetched"
    assert len(kept[1]) >= 20
    order, command = [], await mac.report()
    while command is not None:
        body = command["Command"]
        order.append(body["RequestType"])
        if body["RequestType"] == "AccountConfiguration":
            (account,) = body["AutoSetupAdminAccounts"]
            named = {key: account[key] for key in ("shortName", "fullName", "hidden")}
            assert named == {"shortName": "it-staff", "fullName": "IT", "hidden": True}
            assert _takes(account, kept[1])
        command = await mac.report("Acknowledged", command["CommandUUID"])
    assert order.index("AccountConfiguration") < order.index("DeviceConfigured")
    assert order[-1] == "DeviceConfigured"
    assert await _passwords(house, mac) == {"ok": kept[1]}


async def test_each_mac_has_a_password_of_its_own(house: House) -> None:
    one, other = await _with_account(house), await _with_account(house)
    assert await _passwords(house, one) != await _passwords(house, other)


async def test_nobody_else_gets_one(house: House) -> None:
    """No iPad, no Mac that does not wait, and nobody while policy names no account."""
    assert "AccountConfiguration" not in await (await _waiting(house)).drain()
    house.set_policy(admin_account="admin")
    assert "AccountConfiguration" not in await (await _waiting(house, model=IPAD)).drain()
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.token_update()
    assert "AccountConfiguration" not in await mac.drain()
    await mac.token_update(AwaitingConfiguration=True)
    assert "AccountConfiguration" not in await mac.drain(), "this is no enrollment"
    assert await house.history(mac.id, ADMIN) == []


async def test_a_mac_that_is_erased_gets_another_password(house: House) -> None:
    """4.13, column D: the old account is gone with the disk; its password is history."""
    mac = await _with_account(house)
    before = (await _passwords(house, mac))["ok"]
    house.clock.advance(days=1)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    await mac.drain()
    after = await _passwords(house, mac)
    assert after["retired"] == before
    assert after["ok"] != before


async def test_a_mac_that_refuses_the_account_is_let_go_all_the_same(house: House) -> None:
    """4.0.3 row 5: the password never was in force; it is history."""
    house.set_policy(admin_account="admin")
    mac = await _waiting(house)
    command = await mac.report()
    while command is not None:
        refuses = command["Command"]["RequestType"] == "AccountConfiguration"
        status = "Error" if refuses else "Acknowledged"
        command = await mac.report(status, command["CommandUUID"])
    assert ("DeviceConfigured", "done") in await house.queue(mac.id)
    assert set(await _passwords(house, mac)) == {"retired"}


@pytest.mark.case("AA-02")
async def test_an_account_is_made_by_hand_only_while_the_mac_waits(house: House) -> None:
    """4.8: `ostiary enqueue ID account-configuration`; the password is drawn here, and kept."""
    mac = await _waiting(house)
    house.set_policy(admin_account="admin")
    ids, command = [EnrollmentId(mac.id)], account_of(house.policy)
    assert (await house.desk.enqueue(ids, command, OPERATOR)).refused == {ids[0]: None}
    handed_out = await mac.drain()
    assert handed_out.index("AccountConfiguration") < handed_out.index("DeviceConfigured")
    assert set(await _passwords(house, mac)) == {"ok"}
    (refused,) = (await house.desk.enqueue(ids, command, OPERATOR)).refused.values()
    assert isinstance(refused, NotAwaiting)
    assert set(await _passwords(house, mac)) == {"ok"}
    assert ("AccountConfiguration", "queued") not in await house.queue(mac.id)


async def test_an_account_without_a_name_is_no_account(house: House) -> None:
    with pytest.raises(NoAdminAccountNamed):
        account_of(house.policy)


@pytest.mark.case("AA-05")
async def test_a_persons_account_is_not_skipped_without_another(house: House) -> None:
    """4.8: a Mac without any account could be used by nobody."""
    mac = await _waiting(house)
    with pytest.raises(AdminAccountMissing):
        await house.enqueue(mac.id, "AccountConfiguration", SkipPrimarySetupAccountCreation=True)
    assert "AccountConfiguration" not in await mac.drain()


@pytest.mark.case("AA-03")
async def test_a_rotation_waits_until_the_mac_tells_the_guid(house: House) -> None:
    """4.8: right after enrollment the GUID may be missing; the rotation is put off and follows by itself."""
    mac = await _with_account(house)
    asked = await _rotate(house, mac)
    assert asked.waits_for is not None
    command = await mac.report()
    assert command is not None
    assert (command["Command"]["RequestType"], command["CommandUUID"]) == (
        "DeviceInformation",
        asked.uuid,
    )
    await mac.report("Acknowledged", asked.uuid, QueryResponses={"DeviceName": "no GUID yet"})
    house.clock.advance(minutes=11)
    await house.escrow_watch.tend()
    command = await mac.report()
    assert command is not None
    assert command["Command"]["RequestType"] == "DeviceInformation", "it is asked again"
    told = {"AutoSetupAdminAccounts": [{"GUID": GUID, "shortName": "admin"}]}
    await mac.report("Acknowledged", command["CommandUUID"], QueryResponses=told)
    await house.escrow_watch.tend()
    command = await mac.report()
    assert command is not None
    assert command["Command"]["RequestType"] == "SetAutoAdminPassword"
    assert command["Command"]["GUID"] == GUID
    before = await _passwords(house, mac)
    await mac.report("Acknowledged", command["CommandUUID"])
    assert await _passwords(house, mac) == {"superseded": before["ok"], "ok": before["candidate"]}


async def test_a_mac_is_asked_for_the_guid_once_at_a_time(house: House) -> None:
    """A Mac that is away for a week answers one question, not one for each time somebody looked."""
    mac = await _with_account(house)
    asked = await _rotate(house, mac)
    assert (await _rotate(house, mac)).uuid == asked.uuid
    for _ in range(5):
        house.clock.advance(hours=5)
        await house.escrow_watch.tend()
    waiting = [one for one in await house.queue(mac.id) if one == ("DeviceInformation", "queued")]
    assert len(waiting) == 1


async def test_what_cannot_follow_is_not_put_off(house: House) -> None:
    """No account was ever made; or somebody chose the password, which is not kept waiting."""
    mac, other = await _with_account(house), await house.enrolled(MAC)
    with pytest.raises(AdminAccountNotKnown):
        await _rotate(house, other)
    with pytest.raises(AdminAccountNotKnown):
        await _rotate(house, mac, value=Secret(b"a password that somebody chose"))
    assert await mac.report() is None


async def test_a_guid_that_comes_does_not_hurry_a_rotation_that_has_its_time(house: House) -> None:
    """A rotation an hour after a disclosure stays one an hour after a disclosure. (4.0.2 rule 7)"""
    mac = await _with_account(house)
    uuid = await house.enqueue(mac.id, "DeviceInformation")
    await mac.report()
    told = {"AutoSetupAdminAccounts": [{"GUID": GUID, "shortName": "admin"}]}
    await mac.report("Acknowledged", uuid, QueryResponses=told)
    (escrow,) = [
        one
        for one in await house.storage.escrows.find(DEFAULT_TENANT, Holder(mac.id))
        if one.kind is ADMIN
    ]
    assert escrow.due_at is None


@pytest.mark.case("AA-04")
async def test_a_rotation_that_failed_leaves_the_old_password_in_force(house: House) -> None:
    """4.0.3 row 5, 4.8: the old one stays what an operator is shown."""
    mac = await _with_account(house)
    before = (await _passwords(house, mac))["ok"]
    uuid = await house.enqueue(mac.id, "DeviceInformation")
    await mac.report()
    told = {"AutoSetupAdminAccounts": [{"GUID": GUID, "shortName": "admin"}]}
    await mac.report("Acknowledged", uuid, QueryResponses=told)
    rotation = await _rotate(house, mac)
    assert rotation.waits_for is None
    await mac.report()
    house.clock.advance(seconds=timedelta(minutes=1).total_seconds())
    await mac.report("Error", rotation.uuid, ErrorChain=[])
    after = await _passwords(house, mac)
    assert after["ok"] == before
    assert set(after) == {"ok", "retired"}
