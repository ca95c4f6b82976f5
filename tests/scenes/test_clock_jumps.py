"""A clock that is set by a day or a year, between any two messages: no token is lost, nobody is left out for long."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from conformance.storage_values import challenge
from ostiary.domain.enrollment import Bound, Proof, Standing, State
from ostiary.domain.token import DEFAULT_TENANT, TokenKind, TokenState
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.reply import Reply
from ostiary.services.spending import ChallengeRefused, Spending
from scenes.house import IPHONE, MAC, Device, House

DAY, YEAR = timedelta(days=1), timedelta(days=365)
JUMPS = pytest.mark.parametrize("jump", [DAY, -DAY, YEAR, -YEAR], ids=["+d", "-d", "+y", "-y"])
BOOTSTRAP, PUSH, UNLOCK = TokenKind.BOOTSTRAP, TokenKind.PUSH, TokenKind.UNLOCK


async def values(house: House, device: Device) -> dict[TokenKind, bytes | None]:
    return {kind: await house.value(device.id, kind) for kind in (BOOTSTRAP, UNLOCK)}


async def lives(device: Device, house: House) -> AsyncIterator[str]:
    """A life from the first message to a renewal, with a breath between any two messages."""
    await device.authenticate()
    yield "Authenticate"
    await device.set_bootstrap(b"first")
    yield "SetBootstrapToken"
    await device.token_update()
    yield "TokenUpdate"
    handed = await device.report()
    assert handed is not None
    yield "Idle"
    await device.report("NotNow", handed["CommandUUID"])
    yield "NotNow"
    assert len(await device.drain()) == 3
    yield "Acknowledged"
    await device.set_bootstrap(b"second")
    yield "SetBootstrapToken again"
    renewed = await house.renewal_of(device)
    await renewed.authenticate()
    yield "Authenticate to renew"
    await renewed.token_update(Token=b"\x02" * 32)
    yield "TokenUpdate to renew"
    await renewed.report()


@JUMPS
@pytest.mark.parametrize("after", range(9))
async def test_a_clock_that_jumps_between_two_messages_loses_no_token(
    house: House, jump: timedelta, after: int
) -> None:
    """TU-3, TU-5; 2.3-B: generations follow each other in the order they came, whatever the clock said."""
    device = house.device(MAC, unlock=b"unlock")
    breath = 0
    async for _ in lives(device, house):
        if breath == after:
            house.clock.moment += jump
        breath += 1
    assert breath == 9
    assert await house.value(device.id, BOOTSTRAP) == b"second"
    assert (await house.push_address(device.id))[0] == b"\x02" * 32
    row = await house.require_row(device.id)
    assert (row.state, row.standing) == (State.ENROLLED, Standing.CURRENT)
    for kind, count in ((BOOTSTRAP, 2), (PUSH, 2)):
        history = await house.history(device.id, kind)
        assert [record.generation for record in history] == list(range(1, count + 1))
        assert [record.state for record in history] == [TokenState.SUPERSEDED, TokenState.OK]


@JUMPS
async def test_what_an_erased_device_hands_over_is_kept_though_the_clock_jumped_meanwhile(
    house: House, jump: timedelta
) -> None:
    """2.3, cause D: only what came before its Authenticate is dead to it, and that is told by the order alone."""
    device = await house.enrolled(MAC)
    await device.set_bootstrap(b"before the erase")
    renewed = await house.renewal_of(device)
    await renewed.authenticate()
    house.clock.moment += jump
    await renewed.set_bootstrap(b"after the erase")
    house.clock.moment += jump
    await renewed.token_update(AwaitingConfiguration=True)
    assert await renewed.get_bootstrap() == b"after the erase"


@JUMPS
async def test_what_a_device_held_before_an_erase_is_not_offered_though_the_clock_jumped(
    house: House, jump: timedelta
) -> None:
    """The reverse: handed over by a clock that was ahead, it is old all the same."""
    device = await house.enrolled(MAC)
    await device.set_bootstrap(b"before the erase")
    renewed = await house.renewal_of(device)
    house.clock.moment += jump
    await renewed.authenticate()
    await renewed.token_update(AwaitingConfiguration=True)
    assert await renewed.get_bootstrap() == b""
    (old,) = await house.history(device.id, BOOTSTRAP)
    assert old.state is TokenState.RETIRED


@pytest.mark.parametrize("ahead", [DAY, YEAR], ids=["a day", "a year"])
async def test_work_that_a_clock_ahead_has_planned_is_pushed_within_a_day(
    house: House, ahead: timedelta
) -> None:
    """3.4 rule 5, 5.2: a command, one that was deferred, and one that was handed out and never reported."""
    waiting, deferring, silent = [await house.enrolled(IPHONE) for _ in "123"]
    house.clock.moment += ahead
    for device in (waiting, deferring, silent):
        await house.enqueue(device.id, "ProfileList")
    for device in (deferring, silent):
        handed = await device.report()
        assert handed is not None
        if device is deferring:
            assert await device.report("NotNow", handed["CommandUUID"]) is None
    house.clock.moment -= ahead
    house.clock.advance(days=1, hours=2)
    assert sorted(await house.due()) == sorted([waiting.id, deferring.id, silent.id])


async def test_a_device_that_was_released_by_a_clock_ahead_comes_back_when_it_is_invited(
    house: House,
) -> None:
    """2.4 row 12: an invitation since the release brings it back, and not only in a year."""
    device = await house.enrolled(IPHONE)
    house.clock.moment += YEAR
    await house.devices.release(
        DEFAULT_TENANT, EnrollmentId(device.id), actor="operator", reason="sold"
    )
    house.clock.moment -= YEAR
    house.clock.advance(hours=3)
    invited = device.with_certificate("of a new invitation")
    await house.credential(invited, bound=Bound(serial_number=device.serial))
    assert await invited.authenticate() is Reply.EMPTY
    await invited.token_update()
    row = await house.require_row(device.id)
    assert (row.state, row.proof) == (State.ENROLLED, Proof.PROVEN)


async def test_an_old_invitation_brings_nobody_back_whom_a_clock_ahead_released(
    house: House,
) -> None:
    device = await house.enrolled(IPHONE)
    old = device.with_certificate("of an old invitation")
    await house.credential(old, bound=Bound(serial_number=device.serial))
    house.clock.moment += YEAR
    await house.devices.release(
        DEFAULT_TENANT, EnrollmentId(device.id), actor="operator", reason="sold"
    )
    house.clock.moment -= YEAR - timedelta(hours=3)
    with pytest.raises(Exception, match="released"):
        await old.authenticate()


def test_a_challenge_that_seemed_too_old_is_good_again_once_the_clock_is_right() -> None:
    """6.3: what depends on time is compared each time and never stored; a retry stays a retry by a clock set back."""
    made = challenge(1)
    ahead, right = made.valid_until + YEAR, made.valid_until - timedelta(minutes=1)
    with pytest.raises(ChallengeRefused):
        Spending(key_digest="key", now=ahead).is_repeat(made, None)
    assert Spending(key_digest="key", now=right).is_repeat(made, None) is False
    spent = replace(made, spent_at=ahead, spent_by_key="key")
    assert Spending(key_digest="key", now=right).is_repeat(spent, None) is True


async def test_a_push_that_a_clock_ahead_noted_does_not_count_as_asking_the_old_side(
    house: House,
) -> None:
    """2.3: nobody loses a live enrollment who was not asked to speak since the contest began."""
    device = await house.enrolled(IPHONE)
    house.clock.moment += YEAR
    await house.enqueue(device.id, "ProfileList")
    await house.pushed(device.id)
    house.clock.moment -= YEAR
    newcomer = device.with_certificate("newcomer")
    await newcomer.authenticate()
    await newcomer.token_update()
    house.clock.advance(hours=25)
    await newcomer.report()
    assert await house.value(device.id, UNLOCK) == device.unlock
    rows = await house.storage.reports.find_enrollments(DEFAULT_TENANT, EnrollmentId(device.id))
    assert {row.standing for row in rows} == {Standing.CURRENT, Standing.CONTESTED}
