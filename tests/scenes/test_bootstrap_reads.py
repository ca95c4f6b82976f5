"""A bootstrap token that is fetched when nothing explains it: answered, and an operator is told. (design.md 5)"""

from datetime import timedelta

import pytest

from ostiary.domain.bootstrap import MANY_READS
from ostiary.domain.token import Fingerprint, TokenKind
from ostiary.services import bootstrap_reads
from ostiary.services.bootstrap_reads import BootstrapTokenAskedTooOften
from scenes.house import MAC, START, Device, House

V = b"the bootstrap token"
READ = "bootstrap-token-read"


async def escrowed(house: House) -> Device:
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(V)
    return mac


async def test_a_mac_that_was_just_heard_of_may_ask(house: House) -> None:
    """Source: escrowed-secrets.md 4.2, "When the device sends Get"."""
    mac = await escrowed(house)
    house.clock.advance(hours=23)
    assert await mac.get_bootstrap() == V
    assert READ not in await house.alerts()


async def test_a_mac_that_was_silent_for_days_and_asks_first_of_all_is_worth_a_look(
    house: House,
) -> None:
    """The signature over this message never changes: whoever logged one may play it while the Mac is off."""
    mac = await escrowed(house)
    house.clock.advance(days=3)
    assert await mac.get_bootstrap() == V, "row 6: it is answered all the same"
    assert READ in await house.alerts()


async def test_a_mac_that_spoke_of_something_else_first_is_not(house: House) -> None:
    mac = await escrowed(house)
    house.clock.advance(days=3)
    await mac.report()
    await mac.get_bootstrap()
    assert READ not in await house.alerts()


async def test_a_certificate_of_minutes_that_asks_for_an_older_token_is_worth_a_look(
    house: House,
) -> None:
    """users.md 5.4 case 11."""
    mac = await escrowed(house)
    house.clock.advance(hours=2)
    renewed = await house.renewal_of(mac)
    await renewed.authenticate()
    await renewed.token_update()
    assert await renewed.get_bootstrap() == V
    assert READ in await house.alerts()


async def test_the_same_certificate_later_is_not(house: House) -> None:
    mac = await escrowed(house)
    house.clock.advance(hours=2)
    renewed = await house.renewal_of(mac)
    await renewed.authenticate()
    await renewed.token_update()
    house.clock.advance(minutes=16)
    await renewed.get_bootstrap()
    assert READ not in await house.alerts()


async def test_a_flood_is_told_of_once_and_then_answered_no_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """users.md 5.4 case 11: bounded in rate; another certificate's requests are not touched."""
    monkeypatch.setattr(bootstrap_reads, "MOST_READS", MANY_READS + 5)
    mac, other = await escrowed(house), await escrowed(house)
    for _ in range(MANY_READS):
        await mac.get_bootstrap()
    assert READ not in await house.alerts()
    for _ in range(5):
        await mac.get_bootstrap()
    assert READ in await house.alerts()
    with pytest.raises(BootstrapTokenAskedTooOften):
        await mac.get_bootstrap()
    assert await other.get_bootstrap() == V
    house.clock.advance(days=1)
    assert await mac.get_bootstrap() == V


async def test_a_request_that_is_shown_nothing_alarms_nobody(house: House) -> None:
    """Row 7: none is held, so none was disclosed."""
    mac = await house.enrolled(MAC)
    house.clock.advance(days=3)
    assert await mac.get_bootstrap() == b""
    assert READ not in await house.alerts()


async def test_a_fetch_is_written_down_once_a_day(house: House) -> None:
    """A use of the secret; most of them cost no write."""
    mac = await escrowed(house)
    used = []
    for _ in range(4):
        house.clock.advance(hours=9)
        await mac.get_bootstrap()
        (record,) = await house.history(mac.id, TokenKind.BOOTSTRAP)
        assert record.proven_by == "fetched by the device"
        used.append(record.proven_at)
    first = START + timedelta(hours=9)
    assert used == [first, first, first, START + timedelta(hours=36)]


def test_days_of_certificates_that_are_gone_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory is bounded whatever certificates there are."""
    monkeypatch.setattr(bootstrap_reads, "_MOST_REMEMBERED", 2)
    reads = bootstrap_reads.BootstrapReads()
    one, two, three = (Fingerprint(name) for name in ("1", "2", "3"))
    assert [reads.count(name, START) for name in (one, one, two, three)] == [1, 2, 1, 1]
    assert reads.count(one, START) == 1
