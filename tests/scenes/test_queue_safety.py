"""Destructive commands: capped by the hour, tried without harm, and looked at once more before they leave."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from ostiary.domain.decision import Ask, Change, Snapshot
from ostiary.domain.destructive_cap import AnotherNumberConfirmed, TooManyDestructive
from ostiary.domain.enqueueing import CommandUuidTaken
from ostiary.domain.escrow_machine import SetUnderWay
from ostiary.domain.escrow_orders import RecoveryKeyNotHeld
from ostiary.domain.operator import EnrollmentUnknown
from ostiary.domain.suitability import CommandNotForThisChannel, NoUnlockToken
from ostiary.domain.token import DEFAULT_TENANT, TokenKind
from ostiary.ports.storage import AnswerT
from ostiary.protocol.mdm.commands import Command
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.caller import Caller, Scope, ScopeMissing
from ostiary.services.commands import Enqueued
from scenes.house import IPHONE, MAC, OPERATOR, Device, House

ERASE = {"RequestType": "EraseDevice"}


async def _erase(house: House, devices: list[Device], confirmed: int | None = None) -> Enqueued:
    ids = [EnrollmentId(device.id) for device in devices]
    return await house.desk.enqueue(ids, ERASE, OPERATOR, confirmed=confirmed)


async def _phones(house: House, number: int) -> list[Device]:
    return [await house.enrolled(IPHONE) for _ in range(number)]


async def test_a_request_beyond_the_cap_is_refused_as_a_whole(house: House) -> None:
    """Issue 4, item 6: a slip of a script must not erase a fleet; nothing of it is queued for anybody."""
    house.set_policy(most_destructive_an_hour=3)
    phones = await _phones(house, 4)
    with pytest.raises(TooManyDestructive, match="devices=4"):
        await _erase(house, phones)
    for phone in phones:
        assert await phone.report() is None


async def test_the_cap_counts_what_was_queued_within_the_hour(house: House) -> None:
    """Requests for one device each add up, locks and erases alike; an hour later there is room again."""
    house.set_policy(most_destructive_an_hour=3)
    phones = await _phones(house, 4)
    await _erase(house, phones[:2])
    await house.enqueue(phones[2].id, "DeviceLock")
    with pytest.raises(TooManyDestructive, match="queued_within_the_hour=3"):
        await house.enqueue(phones[3].id, "DeviceLock")
    await house.enqueue(phones[3].id, "DeviceInformation")
    house.clock.advance(minutes=61)
    await _erase(house, phones[3:])


async def test_who_names_the_right_number_has_counted(house: House) -> None:
    """Beyond the cap a request passes whose number somebody said; a number that is wrong is a slip, too."""
    house.set_policy(most_destructive_an_hour=1)
    phones = await _phones(house, 3)
    with pytest.raises(AnotherNumberConfirmed):
        await _erase(house, phones, confirmed=2)
    assert set((await _erase(house, phones, confirmed=3)).refused.values()) == {None}


async def test_a_cap_of_zero_lets_nothing_pass_that_nobody_counted(house: House) -> None:
    house.set_policy(most_destructive_an_hour=0)
    (phone,) = await _phones(house, 1)
    with pytest.raises(TooManyDestructive):
        await _erase(house, [phone])
    await _erase(house, [phone], confirmed=1)


async def test_a_dry_run_says_who_is_meant_and_why_not(house: House) -> None:
    """Issue 4, item 6: decided by the same rules, and nothing is queued."""
    mac, phone = await house.enrolled(MAC), await house.enrolled(IPHONE)
    nobody, user = EnrollmentId("NOBODY"), EnrollmentId(f"{phone.id}:user")
    ids = [EnrollmentId(mac.id), EnrollmentId(phone.id), nobody, user]
    tried = await house.desk.rehearse(ids, ERASE, OPERATOR)
    assert tried.refused is None
    assert tried.targets[ids[0]].refused is None
    known = tried.targets[ids[0]].device
    assert known is not None
    assert (known.facts.serial_number, known.facts.product_name) == (mac.serial, "Mac14,2")
    assert known.last_seen_at is not None
    assert isinstance(tried.targets[nobody].refused, EnrollmentUnknown)
    assert tried.targets[nobody].device is None
    assert isinstance(tried.targets[user].refused, EnrollmentUnknown | CommandNotForThisChannel)
    for device in (mac, phone):
        assert "EraseDevice" not in dict(await house.queue(device.id))
    assert await house.history(mac.id, TokenKind.LOCK_PIN) == [], "a drawn PIN is not kept"


async def test_a_dry_run_counts_and_is_not_counted(house: House) -> None:
    """It audits nothing; it tells that the whole would be refused; and it needs the same scope."""
    house.set_policy(most_destructive_an_hour=1)
    phones = await _phones(house, 2)
    ids = [EnrollmentId(phone.id) for phone in phones]
    for _ in range(3):
        assert (await house.desk.rehearse(ids[:1], ERASE, OPERATOR)).refused is None
    assert isinstance((await house.desk.rehearse(ids, ERASE, OPERATOR)).refused, TooManyDestructive)
    clerk = Caller(name="clerk", tenant=DEFAULT_TENANT, scopes=frozenset({Scope.COMMANDS}))
    with pytest.raises(ScopeMissing):
        await house.desk.rehearse(ids, ERASE, clerk)


async def test_a_dry_run_works_for_every_command(house: House) -> None:
    mac = await house.enrolled(MAC)
    target = EnrollmentId(mac.id)
    clear = await house.desk.rehearse([target], {"RequestType": "ClearPasscode"}, OPERATOR)
    assert clear.targets[target].refused is not None
    assert not isinstance(clear.targets[target].refused, NoUnlockToken)
    lock = {"RequestType": "SetRecoveryLock", "NewPassword": "an old horse battery"}
    assert (await house.desk.rehearse([target], lock, OPERATOR)).targets[target].refused is None
    assert await house.history(mac.id, TokenKind.RECOVERY_LOCK) == []


async def test_an_erase_does_not_leave_while_the_enrollment_is_contested(house: House) -> None:
    """Which of two certificates speaks for the device meant is not settled; the next command goes out."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "EraseDevice")
    await house.enqueue(phone.id, "DeviceInformation")
    newcomer = phone.with_certificate("a certificate that proved nothing")
    await newcomer.authenticate()
    command = await phone.report()
    assert command is not None
    assert command["Command"]["RequestType"] == "DeviceInformation"
    assert ("EraseDevice", "cancelled") in await house.queue(phone.id)
    assert "destructive-withheld" in await house.alerts()


async def test_an_erase_waits_no_longer_than_policy_says(house: House) -> None:
    """A phone that was found again after a month is not the one that was lost."""
    house.set_policy(destructive_expires_after=timedelta(days=7))
    phone, other = await _phones(house, 2)
    await _erase(house, [phone, other])
    house.clock.advance(days=6)
    command = await other.report()
    assert command is not None
    house.clock.advance(days=2)
    assert await phone.report() is None
    assert ("EraseDevice", "cancelled") in await house.queue(phone.id)


async def test_a_lock_that_is_withheld_leaves_its_pin_in_history(house: House) -> None:
    """Its candidate never left, so the device cannot hold it. (escrowed-secrets.md 4.0.3 row 9)"""
    house.set_policy(destructive_expires_after=timedelta(days=1))
    mac = await house.enrolled(MAC)
    await house.enqueue(mac.id, "DeviceLock")
    house.clock.advance(days=2)
    assert await mac.report() is None
    (kept,) = await house.history(mac.id, TokenKind.LOCK_PIN)
    assert kept.state == "retired"
    await house.enqueue(mac.id, "DeviceLock")
    assert await mac.report() is not None


async def test_an_erase_leaves_whatever_its_age_unless_policy_says_otherwise(house: House) -> None:
    """Off by default: a lost device is erased whenever it comes."""
    (phone,) = await _phones(house, 1)
    await _erase(house, [phone])
    house.clock.advance(days=300)
    command = await phone.report()
    assert command is not None
    assert command["Command"]["RequestType"] == "EraseDevice"
    assert await phone.report() == command, "and goes out again until it is answered"


async def test_a_device_that_became_another_kind_is_not_erased(house: House) -> None:
    """Still suitable at hand-out: the profile it runs now lets nobody erase it."""
    (phone,) = await _phones(house, 1)
    await _erase(house, [phone])
    row = await phone.row()
    assert row.profile is None
    renewed = await house.renewal_of(phone)
    await renewed.authenticate(ProductName="Watch6,1", OSVersion="9.0")
    await renewed.token_update()
    assert await renewed.report() is None
    assert ("EraseDevice", "cancelled") in await house.queue(phone.id)


async def test_a_renewed_identity_is_the_same_enrollment(house: House) -> None:
    """A renewal begins nothing anew, and an erase that waited goes out to it."""
    (phone,) = await _phones(house, 1)
    await _erase(house, [phone])
    house.clock.advance(hours=1)
    renewed = await house.renewal_of(phone)
    await renewed.authenticate()
    await renewed.token_update()
    command = await renewed.report()
    assert command is not None
    assert command["Command"]["RequestType"] == "EraseDevice"


async def test_ordinary_commands_are_not_looked_at_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No further statement where nothing is destructive: one decision, one commit."""
    phone, doomed = await _phones(house, 2)
    await house.enqueue(phone.id, "DeviceInformation")
    await _erase(house, [doomed])
    decide = house.storage.enrollments.decide
    asked: list[Ask] = []

    async def counted(ask: Ask, rule: Callable[[Snapshot], Change[AnswerT]]) -> Change[AnswerT]:
        asked.append(ask)
        return await decide(ask, rule)

    monkeypatch.setattr(house.storage.enrollments, "decide", counted)
    assert await phone.report() is not None
    assert [ask.facts for ask in asked] == [False]
    asked.clear()
    assert await doomed.report() is not None
    assert [ask.facts for ask in asked] == [False, True], "and a destructive one is, once"


OWN_PROFILE = "example.mdm.ostiary.enrollment"


@pytest.mark.parametrize("spelling", [OWN_PROFILE, OWN_PROFILE.upper(), f" {OWN_PROFILE}\n"])
async def test_to_remove_the_enrollment_profile_is_destructive(house: House, spelling: str) -> None:
    """Whoever takes it off takes the device out of management: its own scope, the cap, a dry run."""
    house.set_policy(most_destructive_an_hour=1)
    phones = await _phones(house, 2)
    ids, command = (
        [EnrollmentId(phone.id) for phone in phones],
        {
            "RequestType": "RemoveProfile",
            "Identifier": spelling,
        },
    )
    clerk = Caller(name="clerk", tenant=DEFAULT_TENANT, scopes=frozenset({Scope.COMMANDS}))
    with pytest.raises(ScopeMissing):
        await house.desk.enqueue(ids[:1], command, clerk)
    with pytest.raises(TooManyDestructive):
        await house.desk.enqueue(ids, command, OPERATOR)
    assert isinstance(
        (await house.desk.rehearse(ids, command, OPERATOR)).refused, TooManyDestructive
    )
    await house.desk.enqueue(ids[:1], command, OPERATOR)
    with pytest.raises(TooManyDestructive, match="queued_within_the_hour=1"):
        await house.desk.enqueue(ids[1:], command, OPERATOR)
    assert (await phones[0].report() or {})["Command"] == command
    assert await phones[1].report() is None


async def test_the_enrollment_profile_is_not_taken_off_while_the_enrollment_is_contested(
    house: House,
) -> None:
    """The last look, as at an erase."""
    (phone,) = await _phones(house, 1)
    await house.enqueue(phone.id, "RemoveProfile", Identifier=OWN_PROFILE)
    await phone.with_certificate("a certificate that proved nothing").authenticate()
    assert await phone.report() is None
    assert ("RemoveProfile", "cancelled") in await house.queue(phone.id)
    assert "destructive-withheld" in await house.alerts()


async def test_to_remove_any_other_profile_is_ordinary(house: House) -> None:
    house.set_policy(most_destructive_an_hour=0)
    (phone,) = await _phones(house, 1)
    clerk = Caller(name="clerk", tenant=DEFAULT_TENANT, scopes=frozenset({Scope.COMMANDS}))
    command = {"RequestType": "RemoveProfile", "Identifier": f"{OWN_PROFILE}.wifi"}
    done = await house.desk.enqueue([EnrollmentId(phone.id)], command, clerk)
    assert set(done.refused.values()) == {None}
    assert await phone.report() is not None


async def test_a_dry_run_says_of_commands_that_draw_secrets_what_the_real_thing_says(
    house: House,
) -> None:
    """A rotation without a key to unlock with, a change while one is under way, and both where nothing is against it."""
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    ids = [EnrollmentId(mac.id)]
    rotate: Command = {"RequestType": "RotateFileVaultKey", "KeyType": "personal"}
    account: Command = {
        "RequestType": "AccountConfiguration",
        "AutoSetupAdminAccounts": [{"shortName": "admin"}],
    }
    unlocked: Command = rotate | {"FileVaultUnlock": {"Password": "a user's"}}
    for command, refusal in (
        (rotate, RecoveryKeyNotHeld),
        (account, None),
        (account, SetUnderWay),
        (unlocked, None),
        (unlocked, SetUnderWay),
    ):
        tried = (await house.desk.rehearse(ids, command, OPERATOR)).targets[ids[0]].refused
        done = (await house.desk.enqueue(ids, command, OPERATOR)).refused[ids[0]]
        for answer in (tried, done):
            assert answer is None if refusal is None else isinstance(answer, refusal)
    assert len(await house.history(mac.id, TokenKind.ADMIN_PASSWORD)) == 1


async def test_a_rotation_under_a_name_that_is_taken_is_refused_as_its_dry_run_says(
    house: House,
) -> None:
    mac = await house.enrolled(MAC)
    ids, taken = [EnrollmentId(mac.id)], CommandUuid(await house.enqueue(mac.id, "SecurityInfo"))
    rotate: Command = {
        "RequestType": "RotateFileVaultKey",
        "FileVaultUnlock": {"Password": "a user's"},
    }
    tried = (await house.desk.rehearse(ids, rotate, OPERATOR, uuid=taken)).targets[ids[0]].refused
    done = (await house.desk.enqueue(ids, rotate, OPERATOR, uuid=taken)).refused[ids[0]]
    assert isinstance(tried, CommandUuidTaken)
    assert isinstance(done, CommandUuidTaken)


async def test_a_rotation_wakes_nobody_who_is_not_to_be_woken(house: House) -> None:
    """`nopush` holds for each command."""
    macs = [await house.enrolled(MAC) for _ in range(2)]
    command: Command = {
        "RequestType": "RotateFileVaultKey",
        "KeyType": "personal",
        "FileVaultUnlock": {"Password": "a user's"},
    }
    for mac, pushes in zip(macs, (False, True), strict=True):
        ids = [EnrollmentId(mac.id)]
        done = await house.desk.enqueue(ids, command, OPERATOR, pushes=pushes)
        assert done.refused == {ids[0]: None}
    assert await house.due(timedelta(hours=1)) == [macs[1].id]
