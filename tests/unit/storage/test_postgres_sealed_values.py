"""Re-sealing beside devices on PostgreSQL: it waits for no row that a message holds, and two workers do no harm."""

import asyncio
from datetime import timedelta

import asyncpg

from conformance.storage_values import NOON, MovedClock, record_id
from ostiary.domain.token import DEFAULT_TENANT, SealedValue
from ostiary.keys.sealer import open_keys, open_sealer
from ostiary.keys.wrapping import RootKeyring
from ostiary.ports.resealing import Resealed, SealedIn
from ostiary.secret import Secret
from ostiary.services.resealing import ResealingPace, ResealingService
from ostiary.storage.postgres.storage import PostgresStorage, open_postgres
from sealed_world import epochs, fill, opened, rows

ROOT = Secret(b"r" * 32)


async def test_a_row_that_a_message_holds_is_passed_over(postgres_url: str) -> None:
    """Whoever waited would hold the rows before it meanwhile, and devices behind them."""
    sealer, _ = open_sealer(ROOT, (), now=NOON)
    async with open_postgres(postgres_url, clock=MovedClock()) as storage:
        await fill(storage, sealer, devices=1)
        before = await rows(storage.sealed_values)
        anew = [
            Resealed(key=row.key, before=row.value, after=SealedValue(b"anew" + row.value))
            for (where, _), row in before.items()
            if where is SealedIn.TOKENS
        ]
        device = await asyncpg.connect(postgres_url)
        try:
            async with device.transaction():
                await device.execute("UPDATE token SET state = 'dead' WHERE id = $1", record_id(1))
                replaced = await storage.sealed_values.replace_sealed(SealedIn.TOKENS, anew)
            assert replaced == len(anew) - 1
            assert await storage.sealed_values.replace_sealed(SealedIn.TOKENS, anew) == 1
        finally:
            await device.close()


async def test_two_workers_at_once_do_no_harm(postgres_url: str) -> None:
    """As when a node wakes whose turn another one has taken."""
    sealer, first = open_sealer(ROOT, (), now=NOON)
    pace = ResealingPace(batch=5, together=2, pause=timedelta(0), settle=timedelta(0))
    async with (
        open_postgres(postgres_url, clock=MovedClock()) as one,
        open_postgres(postgres_url, clock=MovedClock()) as two,
    ):
        clear = await fill(one, sealer, devices=6)
        ring = RootKeyring(ROOT)
        second = ring.wrap(DEFAULT_TENANT, 2, b"2" * 32, NOON)
        sealer.put_in_force(open_keys(ring, (*first, second)), {DEFAULT_TENANT: 2})

        async def work(storage: PostgresStorage) -> None:
            service = ResealingService(
                storage.sealed_values, storage.retention, sealer, MovedClock(), pace
            )
            while not (await service.stand()).is_done:
                await service.run_round()

        await asyncio.gather(work(one), work(two))
        assert await epochs(one.sealed_values) == {2}
        assert await opened(two.sealed_values, sealer) == clear
