"""Devices whose server moves to the other engine, and back: nobody notices, and nothing is lost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from conformance.transfer_progress import Unheard
from ostiary.domain.token import DEFAULT_TENANT, TokenKind
from ostiary.errors import Refused
from ostiary.keys.sealer import open_sealer
from ostiary.secret import Secret
from ostiary.storage import open_storage
from ostiary.storage.transfer.move import move
from scenes.house import IPHONE, MAC, START, Device, House, MovedClock


@asynccontextmanager
async def opened(url: str, clock: MovedClock) -> AsyncIterator[House]:
    """The house on this database, its keys opened with the one root key."""
    storage = open_storage(url, clock)
    try:
        epochs = await storage.epochs.load_epochs()
        sealer, new = open_sealer(Secret(b"k" * 32), epochs, now=START, tenants=[DEFAULT_TENANT])
        for row in new:
            await storage.epochs.add_epoch(row)
        yield House(path=Path(), storage=storage, clock=clock, sealer=sealer)
    finally:
        await storage.close()


async def test_a_device_goes_on_with_everything_after_each_migration(
    tmp_path: Path, postgres_url: str
) -> None:
    """Bootstrap and unlock tokens, the command in hand, the queue, the certificate: design.md 1 and 4."""
    clock, first, last = (
        MovedClock(),
        f"sqlite:///{tmp_path / 'a.db'}",
        f"sqlite:///{tmp_path / 'b.db'}",
    )
    async with opened(first, clock) as house:
        await house.hold_topic()
        mac, phone = await house.enrolled(MAC), await house.enrolled(IPHONE)
        await mac.set_bootstrap(b"escrowed on SQLite")
        for request_type in ("ProfileList", "SecurityInfo", "CertificateList"):
            await house.enqueue(phone.id, request_type)
        in_hand = await phone.report()
        assert in_hand is not None
        assert await mac.report() is None
        await house.enqueue(mac.id, "ProfileList")
        queue = await house.queue(phone.id)

    await move(first, postgres_url, clock=clock, progress=Unheard())

    async with opened(postgres_url, clock) as house:
        mac, phone = _at(house, mac), _at(house, phone)
        assert await house.queue(phone.id) == queue
        assert await mac.get_bootstrap() == b"escrowed on SQLite"
        assert await house.value(phone.id, TokenKind.UNLOCK) == phone.unlock
        assert await house.push_address(phone.id) == (phone.token, phone.magic.encode())
        await house.enqueue(phone.id, "ClearPasscode")
        command = await phone.report("Acknowledged", in_hand["CommandUUID"])
        assert command is not None
        assert command["Command"]["UnlockToken"] == phone.unlock
        waits = await phone.report("Acknowledged", command["CommandUUID"])
        assert waits is not None
        assert waits["Command"]["RequestType"] == "SecurityInfo"
        command = await phone.report("NotNow", waits["CommandUUID"])
        assert command is not None
        assert command["Command"]["RequestType"] == "CertificateList"
        assert mac.id in await house.due(within=timedelta(minutes=1))
        with pytest.raises(Refused):
            await phone.with_certificate("somebody else's").token_update()
        await mac.set_bootstrap(b"escrowed on PostgreSQL")
        await phone.token_update(Token=b"\x02" * 32, UnlockToken=None)

    await move(postgres_url, last, clock=clock, progress=Unheard())

    async with opened(last, clock) as house:
        mac, phone = _at(house, mac), _at(house, phone)
        assert await mac.get_bootstrap() == b"escrowed on PostgreSQL"
        assert await house.value(phone.id, TokenKind.UNLOCK) == phone.unlock
        await mac.set_bootstrap(b"escrowed on SQLite again")
        history = await house.history(mac.id, TokenKind.BOOTSTRAP)
        records = [await house.storage.enrollments.load_record(one.id) for one in history]
        assert [house.open(record) for record in records if record is not None] == [
            b"escrowed on SQLite",
            b"escrowed on PostgreSQL",
            b"escrowed on SQLite again",
        ]
        assert [record.generation for record in history] == [1, 2, 3]
        assert await phone.report("Acknowledged", command["CommandUUID"]) is None
        clock.advance(hours=1)
        again = await phone.report()
        assert again is not None
        assert again["CommandUUID"] == waits["CommandUUID"]
        assert await phone.report("Acknowledged", again["CommandUUID"]) is None


def _at(house: House, device: Device) -> Device:
    """The same device before the door of the next house."""
    return replace(device, house=house)
