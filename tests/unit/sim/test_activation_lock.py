"""Activation Lock on the device's side. Source: activation-lock.md 3, 5, 6, 10; escrowed-secrets.md 4.9."""

from dataclasses import replace

import pytest

from ostiary_sim.activation_lock import LockedBy
from ostiary_sim.bypass_code import decode_bypass_code, encode_bypass_code, escrow_hash
from ostiary_sim.device import Device
from ostiary_sim.errors import NotPossible
from ostiary_sim.levers import LateBypassCode
from ostiary_sim.personality import PERSONALITIES
from unit.sim.fake_mdm import Stage

KEY = "ActivationLockBypassCode"
ALLOWED = {
    "Item": "MDMOptions",
    "MDMOptions": {"ActivationLockAllowedWhileSupervised": True},
}


async def allowed(stage: Stage, kind: str = "iphone") -> Device:
    device = await stage.enrolled(kind)
    await stage.ask(device, "Settings", Settings=[ALLOWED])
    return device


@pytest.mark.parametrize(
    ("raw", "code", "hashed"),
    [
        (
            "1ea841db5edfafe6075b5ae0d845d254",
            "3UM43-PUYVY-QYD1-UVCC-HEHJ-FKA4",
            "6ab40d5eabe7218ec04182f461005600c7e3426bddd82cdb405bde9a1e0014b5",
        ),
        (
            "ffffffffffffffffffffffffffffffff",
            "ZZZZZ-ZZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZ7",
            "ed6cfc1588b175d652d1dd6705ba7fec058b5c76facdd8ff41285ca0d341bd25",
        ),
        (
            "000102030405060708090a0b0c0d0e0f",
            "000H4-0R40M-30F2-0918-5HR3-8F17",
            "c5ced1d0c51459c1a887866a5868dd3e9e6f4fc4a8c244f3f9eb9383c0f8aecb",
        ),
    ],
)
def test_codes_look_as_apple_makes_them(raw: str, code: str, hashed: str) -> None:
    assert encode_bypass_code(bytes.fromhex(raw)) == code
    assert decode_bypass_code(code.lower().replace("-", " ")) == bytes.fromhex(raw)
    assert escrow_hash(bytes.fromhex(raw)) == hashed


@pytest.mark.parametrize("code", ["", "0" * 25, "B" + "0" * 25, "0" * 25 + "8"])
def test_what_is_no_code_is_none(code: str) -> None:
    assert decode_bypass_code(code) is None


@pytest.mark.parametrize("kind", ["iphone", "ipad", "mac", "vision"])
async def test_the_code_is_told_for_fifteen_days_after_supervision(stage: Stage, kind: str) -> None:
    device = await stage.enrolled(kind)
    stage.clock.advance(days=15)
    assert (await stage.ask(device, KEY))[KEY] == device.truth().bypass_code
    stage.clock.advance(seconds=1)
    late = await stage.ask(device, KEY)
    assert late["Status"] == "Error"
    assert KEY not in late
    device.levers.late_bypass_code = LateBypassCode.EMPTY
    late = await stage.ask(device, KEY)
    assert (late["Status"], late[KEY]) == ("Acknowledged", "")


@pytest.mark.parametrize("kind", ["byod-iphone", "byod-mac", "shared-ipad", "apple-tv", "watch"])
async def test_others_have_no_code(stage: Stage, kind: str) -> None:
    device = await stage.enrolled(kind)
    assert (await stage.ask(device, KEY))["Status"] == "Error"
    assert (await stage.ask(device, "ClearActivationLockBypassCode"))["Status"] == "Error"


async def test_without_supervision_there_is_no_code_to_tell(stage: Stage) -> None:
    phone = await stage.enrolled(replace(PERSONALITIES["iphone"], supervised=False))
    assert (await stage.ask(phone, KEY))["Status"] == "Error"


async def test_clearing_wipes_the_code_and_another_one_is_told_next(stage: Stage) -> None:
    phone = await stage.enrolled()
    first = (await stage.ask(phone, KEY))[KEY]
    await stage.ask(phone, "ClearActivationLockBypassCode")
    assert phone.truth().bypass_code is None
    assert (await stage.ask(phone, KEY))[KEY] not in (None, "", first)


async def test_an_erasure_and_anothers_backup_make_another_code_and_the_own_backup_none(
    stage: Stage,
) -> None:
    phone, other = await stage.enrolled(), await stage.enrolled()
    backup, first = phone.back_up(), phone.truth().bypass_code
    await phone.erase()
    assert phone.truth().bypass_code != first
    await phone.restore_from_backup(backup)
    assert phone.truth().bypass_code == first
    theirs = other.truth().bypass_code
    await other.restore_from_backup(backup)
    assert other.truth().bypass_code not in (first, theirs)


async def test_a_persons_lock_needs_the_servers_leave(stage: Stage) -> None:
    phone = await stage.enrolled()
    assert not phone.turn_on_find_my("ada@example.org", "hers")
    assert phone.truth().activation_lock_opens_by is None
    await stage.ask(phone, "Settings", Settings=[ALLOWED])
    assert phone.turn_on_find_my("ada@example.org", "hers")


async def test_an_erased_device_stops_at_the_lock_until_account_or_code_opens_it(
    stage: Stage,
) -> None:
    phone = await allowed(stage)
    code = phone.truth().bypass_code or ""
    assert phone.turn_on_find_my("ada@example.org", "hers")
    await phone.erase()
    assert phone.truth().bypass_code != code
    with pytest.raises(NotPossible, match="Activation Lock"):
        await phone.enroll(stage.server.profile())
    lock = phone.activation_lock
    assert not lock.unlock("", phone.truth().bypass_code or "")  # the new code is not the lock's
    assert not lock.unlock("ada@example.org", "wrong")
    assert not lock.unlock("", "nonsense")
    assert lock.unlock("", code.lower())
    await phone.enroll(stage.server.profile())
    assert phone.enrolled


async def test_the_account_opens_it_too(stage: Stage) -> None:
    phone = await allowed(stage)
    phone.turn_on_find_my("ada@example.org", "hers")
    await phone.erase()
    assert phone.activation_lock.unlock("ada@example.org", "hers")
    assert not phone.activation_lock.stands_in_setup


async def test_find_my_may_make_another_code(stage: Stage) -> None:
    """Section 5 rule 6: the code fetched before does not open, the one fetched after does."""
    phone = await allowed(stage)
    phone.levers.find_my_renews_bypass_code = True
    before = (await stage.ask(phone, KEY))[KEY]
    phone.turn_on_find_my("ada@example.org", "hers")
    after = (await stage.ask(phone, KEY))[KEY]
    assert before != after
    opens = phone.truth().activation_lock_opens_by
    assert opens is not None
    assert (opens("", before), opens("", after)) == (False, True)


async def test_whichever_lock_comes_first_wins(stage: Stage) -> None:
    phone = await allowed(stage)
    raw = bytes(range(16))
    assert phone.activation_lock.lock_by_organization(escrow_hash(raw).upper())
    assert not phone.turn_on_find_my("ada@example.org", "hers")
    assert not phone.activation_lock.lock_by_organization(escrow_hash(bytes(16)))
    assert phone.activation_lock.in_force is not None
    assert phone.activation_lock.in_force.by is LockedBy.ORGANIZATION
    await phone.erase()
    assert not phone.activation_lock.unlock("ada@example.org", "hers")
    assert phone.activation_lock.unlock("", encode_bypass_code(raw))


async def test_a_lock_without_a_code_is_bound_to_a_person(stage: Stage) -> None:
    phone = await stage.enrolled()
    phone.activation_lock.lock_by_organization(None, account="founder", password="theirs")
    await phone.erase()
    assert not phone.activation_lock.unlock("", phone.truth().bypass_code or "")
    assert phone.activation_lock.unlock("founder", "theirs")


@pytest.mark.parametrize(("kind", "manageable"), [("mac", True), ("mac-intel", False)])
async def test_a_mac_says_whether_it_can_be_managed(
    stage: Stage, kind: str, manageable: bool
) -> None:
    mac = await allowed(stage, kind)
    told = (await stage.ask(mac, "SecurityInfo"))["SecurityInfo"]["ManagementStatus"]
    assert told["IsActivationLockManageable"] is manageable
    queries = ["IsActivationLockSupported"]
    told = (await stage.ask(mac, "DeviceInformation", Queries=queries))["QueryResponses"]
    assert told == {"IsActivationLockSupported": manageable}
    assert mac.turn_on_find_my("ada@example.org", "hers") is manageable


async def test_the_query_for_the_lock_may_be_wrong(stage: Stage) -> None:
    phone = await allowed(stage)
    phone.turn_on_find_my("ada@example.org", "hers")
    queries = {"Queries": ["IsActivationLockEnabled"]}
    for lever, said in ((None, True), (False, False)):
        phone.levers.activation_lock_told = lever
        told = await stage.ask(phone, "DeviceInformation", **queries)
        assert told["QueryResponses"] == {"IsActivationLockEnabled": said}
