"""What is forgotten in time, what a device that writes without end achieves, and what it never does."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from ostiary.domain.token import TokenKind, TokenRecord, TokenState
from ostiary.errors import Declined
from ostiary.ports.meter import NoMeter
from ostiary.services.reply import Reply
from ostiary.services.retention import RetentionPace, RetentionService
from scenes.house import IPAD, IPHONE, MAC, Device, House

AT_ONCE = RetentionPace(batch=200, pause=timedelta(0))


def forgetful(house: House) -> RetentionService:
    """The service that forgets, over this house."""
    return RetentionService(
        house.storage.retention, lambda: house.policy, house.clock, NoMeter(), AT_ONCE
    )


async def swept(house: House) -> Counter[str]:
    """Sweep until nothing is left; what went."""
    done = await forgetful(house).sweep_by_hand(anew=True)
    dropped = Counter(done.dropped)
    while not done.is_done:
        done = await forgetful(house).sweep_by_hand(anew=False)
        dropped += done.dropped
    return dropped


async def opened(house: House, listed: TokenRecord) -> bytes:
    """The value of a record that a list showed without it."""
    record = await house.storage.enrollments.load_record(listed.id)
    assert record is not None
    return house.open(record)


async def flood(device: Device, count: int, **pause: float) -> None:
    """Hand over so many values, one after the other."""
    for number in range(count):
        device.house.clock.advance(**pause)
        await device.token_update(UnlockToken=b"false %d" % number, Token=b"t%031d" % number)


async def test_a_device_that_changes_its_tokens_without_end_does_not_fill_the_store(
    house: House,
) -> None:
    """The true values, the one in force and the last ones stay; an operator is told. (docs/decisions/0016)"""
    house.set_policy(most_brief_generations=20)
    iphone = await house.enrolled(IPHONE, unlock=b"the true one")
    house.clock.advance(days=3)
    service = forgetful(house)
    for _ in range(3):
        await flood(iphone, 60, seconds=1)
        await service.tend()
        assert len(await house.history(iphone.id, TokenKind.UNLOCK)) >= 60
        assert await house.alerts() >= {"unlock-token-flood", "push-token-flood"}
        house.clock.advance(days=1)
        assert (await swept(house))["generations"] > 0
        for kind in (TokenKind.UNLOCK, TokenKind.PUSH):
            assert len(await house.history(iphone.id, kind)) <= 20 + 8
    kept = await house.history(iphone.id, TokenKind.UNLOCK)
    assert await opened(house, kept[0]) == b"the true one"
    assert await house.value(iphone.id, TokenKind.UNLOCK) == b"false 59"


async def test_a_bootstrap_token_that_is_set_and_taken_back_all_day_leaves_the_true_one(
    house: House,
) -> None:
    house.set_policy(most_brief_generations=20)
    mac = await house.enrolled(MAC)
    await mac.send("SetBootstrapToken", BootstrapToken=b"the true one")
    house.clock.advance(hours=30)
    for number in range(100):
        house.clock.advance(seconds=1)
        await mac.send("SetBootstrapToken", BootstrapToken=b"false %d" % number)
        await mac.send("SetBootstrapToken")
    house.clock.advance(days=1)
    await forgetful(house).tend()
    kept = await house.history(mac.id, TokenKind.BOOTSTRAP)
    assert len(kept) <= 25
    assert await opened(house, kept[0]) == b"the true one"


async def test_an_old_message_that_is_played_again_raises_an_alert(house: House) -> None:
    """A replayed TokenUpdate puts an older value in force; the keyed digest tells. (users.md 5.4)"""
    ipad = await house.enrolled(IPAD, unlock=b"first")
    service = forgetful(house)
    house.clock.advance(hours=1)
    await ipad.token_update(UnlockToken=b"second")
    await service.tend()
    assert not await house.alerts()
    house.clock.advance(hours=1)
    await ipad.token_update(UnlockToken=b"first")
    await service.tend()
    assert await house.alerts() == {"unlock-token-returned"}
    history = await house.history(ipad.id, TokenKind.UNLOCK)
    assert [await opened(house, one) for one in history] == [b"first", b"second", b"first"]


async def test_an_enrollment_that_begins_anew_with_the_same_values_raises_none(
    house: House,
) -> None:
    """A device that was not erased keeps its keys. (2.3-C)"""
    ipad = await house.enrolled(IPAD)
    await ipad.authenticate()
    await ipad.token_update()
    await forgetful(house).tend()
    assert not await house.alerts()


async def test_the_same_alert_is_not_raised_again_for_the_same_message(house: House) -> None:
    ipad = await house.enrolled(IPAD, unlock=b"first")
    for value in (b"second", b"first"):
        house.clock.advance(hours=1)
        await ipad.token_update(UnlockToken=value)
    for _ in range(3):
        await forgetful(house).tend()
        await swept(house)
    (line,) = await house.storage.reports.list_alerts("default", limit=9)  # type: ignore[arg-type]  # the default tenant
    assert line.count == 1


async def test_users_beyond_what_policy_allows_are_declined_and_never_the_device(
    house: House,
) -> None:
    """410 concerns this user's login alone; nobody is told 401. (TU-13)"""
    house.set_policy(most_user_channels=3)
    mac, other = await house.enrolled(MAC), await house.enrolled(MAC)
    for number in range(3):
        await mac.token_update(UserID=f"user-{number}", UserShortName=f"u{number}")
    with pytest.raises(Declined):
        await mac.token_update(UserID="user-3", UserShortName="u3")
    house.set_policy(user_login="empty-challenge")
    with pytest.raises(Declined):
        await mac.send("UserAuthenticate", UserID="user-4")
    assert await house.alerts() == {"too-many-users"}
    for known in (mac.token_update(UserID="user-1", UserShortName="u1"), mac.token_update()):
        assert isinstance(await known, Reply)
    assert isinstance(await other.token_update(UserID="user-3", UserShortName="u3"), Reply)


async def test_a_report_of_a_forgotten_command_is_answered_like_any_other(house: House) -> None:
    """Anything but 2xx would make the device repeat it for ever. (3.4 rules 2 and 3)"""
    mac = await house.enrolled(MAC)
    uuid = await house.enqueue(mac.id, "ProfileList")
    command = await mac.report()
    assert command is not None
    await mac.report("Acknowledged", uuid)
    house.clock.advance(days=91)
    assert (await swept(house))["ended-commands"] > 0
    assert await house.queue(mac.id) == []
    assert await mac.report("Acknowledged", uuid) is None


async def test_a_passcode_can_be_cleared_after_everything_old_was_forgotten(house: House) -> None:
    """escrowed-secrets.md 4.1: the token may have come once, years ago. (TU-5)"""
    iphone = await house.enrolled(IPHONE, unlock=b"the only one")
    house.clock.advance(days=3000)
    await swept(house)
    await house.enqueue(iphone.id, "ClearPasscode")
    command = await iphone.report()
    assert command is not None
    assert command["Command"]["UnlockToken"] == b"the only one"


async def test_replaced_tokens_go_with_the_years_and_leave_the_last_few(house: House) -> None:
    house.set_policy(most_brief_generations=1000)
    iphone = await house.enrolled(IPHONE)
    await flood(iphone, 30, days=2)
    house.clock.advance(days=500)
    assert (await swept(house))["generations"] > 0
    for kind, most in ((TokenKind.UNLOCK, 5), (TokenKind.PUSH, 1)):
        kept = await house.history(iphone.id, kind)
        assert len(kept) <= most
        assert kept[-1].state is TokenState.OK
    assert await swept(house) == {}


async def test_a_clock_that_jumps_ahead_makes_nothing_old(house: House) -> None:
    """users.md 5.2, promise 10: loss of the clock gives no wrong data."""
    mac = await house.enrolled(MAC)
    service = forgetful(house)
    assert (await service.sweep()).dropped == {}
    house.clock.advance(days=9000)
    for _ in range(20):
        house.clock.advance(hours=1)
        assert (await service.sweep()).dropped == {}
    assert len(await house.queue(mac.id)) > 0
    house.clock.advance(hours=5)
    assert (await service.sweep()).dropped["ended-commands"] > 0


async def test_a_clock_that_was_set_right_again_is_believed_at_once(house: House) -> None:
    mac = await house.enrolled(MAC)
    service = forgetful(house)
    house.clock.advance(days=89)
    await service.sweep()
    house.clock.advance(days=9000)
    await service.sweep()
    house.clock.advance(days=-8998)
    assert (await service.sweep()).dropped["ended-commands"] > 0
    assert await house.queue(mac.id) == []


async def test_large_tables_are_walked_twice_a_day_from_where_the_last_walk_stopped(
    house: House,
) -> None:
    """A ledger of a million records is not read through every few minutes."""
    iphone = await house.enrolled(IPHONE)
    await flood(iphone, 4, minutes=1)
    service = forgetful(house)
    await service.sweep()
    house.clock.advance(hours=11)
    await iphone.token_update(Token=b"x" * 32)
    house.set_policy(keep_push_tokens=timedelta(0))
    assert (await service.sweep()).dropped == {}
    house.clock.advance(hours=2)
    assert (await service.sweep()).dropped == {"generations": 5}


async def test_a_dry_run_counts_what_a_sweep_removes(house: House) -> None:
    iphone = await house.enrolled(IPHONE)
    await flood(iphone, 10, days=1)
    house.clock.advance(days=1000)
    before = len(await house.history(iphone.id, TokenKind.UNLOCK))
    outlook = {one.records: one.number for one in await forgetful(house).look_ahead()}
    assert len(await house.history(iphone.id, TokenKind.UNLOCK)) == before
    dropped = await swept(house)
    assert dropped["generations"] == outlook["generations"]
    assert dropped["ended-commands"] == outlook["ended-commands"]


async def test_a_person_who_asks_for_everything_comes_to_an_end_however_long_the_walks_are(
    house: House,
) -> None:
    """Three rounds through histories, two through channels: no walk begins anew because the other goes on."""
    for number in range(60):
        await house.enrolled(IPHONE, udid=f"DEVICE-{number:03d}")
    slow = replace(AT_ONCE, batch=70, batches=1)
    service = RetentionService(
        house.storage.retention, lambda: house.policy, house.clock, NoMeter(), slow
    )
    rounds = [(await service.sweep_by_hand(anew=True)).is_done]
    while not rounds[-1]:
        assert len(rounds) < 10
        rounds.append((await service.sweep_by_hand(anew=False)).is_done)
    assert len(rounds) == 4
    assert not (await service.sweep_by_hand(anew=True)).is_done


async def test_a_device_that_floods_keeps_no_other_history_from_being_looked_at(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its notes fill page after page of what is looked through; one round goes on until nothing is left. (0016)"""
    monkeypatch.setattr("ostiary.storage.sqlite.retention._NOTES_AT_ONCE", 10)
    first, second = [await house.enrolled(IPHONE, udid=f"DEVICE-{n}") for n in (1, 2)]
    await flood(first, 40, seconds=1)
    await flood(second, 1, seconds=1)
    await forgetful(house).tend()
    assert await house.storage.retention.list_reviews(limit=9) == ()
