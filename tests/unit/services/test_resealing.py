"""Sealing old values anew: everything in the end, nothing twice, and no harm to what changes meanwhile."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from conformance.storage_twins import store
from conformance.storage_values import NOON, MovedClock, record, record_id
from ostiary.domain.severity import Severity
from ostiary.domain.token import DEFAULT_TENANT, SealedValue, TokenKind
from ostiary.errors import Unavailable
from ostiary.keys.sealer import EpochSealer, open_keys, open_sealer
from ostiary.keys.wrapping import RootKeyring
from ostiary.ports.resealing import Resealed, SealedIn
from ostiary.ports.retention import START
from ostiary.secret import Secret
from ostiary.services.health import sealing_finding
from ostiary.services.resealing import PLACE, Progress, ResealingPace, ResealingService
from ostiary.storage.memory.sealed_values import MemorySealedValues
from ostiary.storage.memory.storage import MemoryStorage
from sealed_world import epochs, fill, label, opened, rows

ROOT = Secret(b"r" * 32)
AT_ONCE = ResealingPace(
    batch=4, together=3, batches=2, pause=timedelta(0), settle=timedelta(seconds=60)
)


class World:
    """A store, a sealer, and the service between them."""

    def __init__(self, pace: ResealingPace = AT_ONCE) -> None:
        self.storage, self.clock = MemoryStorage(), MovedClock()
        self.sealer, self.rows = open_sealer(ROOT, (), now=NOON)
        self.values: MemorySealedValues = self.storage.sealed_values
        self.pace = pace

    @property
    def service(self) -> ResealingService:
        """One that remembers nothing, as after a restart."""
        return ResealingService(
            self.values, self.storage.retention, self.sealer, self.clock, self.pace
        )

    def rotate(self, *, seals: bool = True) -> None:
        """Another epoch, which is in force at once."""
        ring = RootKeyring(ROOT)
        epoch = max(row.epoch for row in self.rows) + 1
        self.rows = (*self.rows, ring.wrap(DEFAULT_TENANT, epoch, bytes([epoch]) * 32, NOON))
        opened_keys = {
            tenant: replace(keys, current=epoch if seals else epoch - 1)
            for tenant, keys in open_keys(ring, self.rows).items()
        }
        self.sealer.put_in_force(opened_keys, {})

    async def finish(self, most: int = 200) -> int:
        """Rounds until all is done; how many."""
        for number in range(most):
            if (await self.service.stand()).is_done:
                return number
            if await self.service.run_round():
                self.clock.advance(seconds=30)
        raise AssertionError("it never ends")


async def test_everything_is_under_the_new_epoch_in_the_end() -> None:
    """Each round by a service of its own, as if every one were the first after a restart."""
    world = World()
    clear = await fill(world.storage, world.sealer)
    world.rotate()
    assert await world.finish() > 3
    assert await epochs(world.values) == {2}
    assert await opened(world.values, world.sealer) == clear
    standing = await world.service.stand()
    assert standing.progress is not None
    assert standing.progress.resealed == len(clear)
    settled = await rows(world.values)
    assert await world.service.run_round()
    assert await rows(world.values) == settled, "what is done is left alone"


async def test_an_installation_that_never_rotated_is_never_walked() -> None:
    world = World()
    await fill(world.storage, world.sealer)
    assert await world.service.run_round()
    assert await world.storage.retention.load_place(PLACE) == START
    standing = await world.service.stand()
    assert (standing.is_rotated, standing.is_done) == (False, True)


async def test_nothing_begins_while_the_new_epoch_rests() -> None:
    """What is sealed now is sealed under the older one: the walk would leave it behind."""
    world = World()
    await fill(world.storage, world.sealer)
    world.rotate(seals=False)
    assert await world.service.run_round()
    assert await world.storage.retention.load_place(PLACE) == START
    standing = await world.service.stand()
    assert (standing.is_rotated, standing.is_done, standing.progress) == (True, False, None)


async def test_a_value_that_came_under_the_old_epoch_meanwhile_is_found_by_the_last_walk() -> None:
    """A request that was sealed before the rotation, and stored after the walk had passed."""
    world = World(ResealingPace(pause=timedelta(0), settle=timedelta(seconds=60)))
    await fill(world.storage, world.sealer)
    plain = record(1_000, 0, TokenKind.LOCK_PIN)
    late = world.sealer.seal(Secret(b"late"), label(plain.holder, plain.kind, plain.id))
    world.rotate()
    await world.service.run_round()
    await store(world.storage, records=(record(1_000, 0, TokenKind.LOCK_PIN, value=late),))
    assert 1 in await epochs(world.values)
    await world.finish()
    assert await epochs(world.values) == {2}


async def test_what_a_process_stored_that_stood_still_is_found_a_day_later() -> None:
    """It sealed under the old epoch, was stopped, and went on when the work was done."""
    world = World()
    await fill(world.storage, world.sealer)
    plain = record(1_000, 0, TokenKind.LOCK_PIN)
    late = world.sealer.seal(Secret(b"late"), label(plain.holder, plain.kind, plain.id))
    world.rotate()
    await world.finish()
    await store(world.storage, records=(record(1_000, 0, TokenKind.LOCK_PIN, value=late),))
    for _ in range(20):
        assert await world.service.run_round(), "it looks again too soon"
    assert await epochs(world.values) == {1, 2}
    for _ in range(2):
        world.clock.advance(days=1)
        while not await world.service.run_round():
            pass
    assert await epochs(world.values) == {2}
    standing = await world.service.stand()
    assert standing.is_done
    assert standing.progress is not None
    assert standing.progress.is_closed


class Meddled(MemorySealedValues):
    """Somebody replaces every value between its reading and its replacement."""

    @override
    async def replace_sealed(self, where: SealedIn, values: Sequence[Resealed]) -> int:
        others = [replace(one, after=SealedValue(b"\x01\0\0\0\x02 newer")) for one in values]
        await super().replace_sealed(where, others)
        return await super().replace_sealed(where, values)


async def test_a_value_that_was_replaced_meanwhile_is_left_alone() -> None:
    world = World()
    await fill(world.storage, world.sealer, devices=1)
    world.values = Meddled(world.storage._store)
    world.rotate()
    await world.finish()
    assert {row.value for row in (await rows(world.values)).values()} == {b"\x01\0\0\0\x02 newer"}


async def test_what_does_not_open_is_told_and_holds_nothing_up() -> None:
    """Never overwritten, never lost from sight. (escrowed-secrets.md 4.0.2 rule 4)"""
    world = World()
    clear = await fill(world.storage, world.sealer)
    bad = SealedValue(b"\x01\0\0\0\x01" + b"damaged" * 9)
    await store(world.storage, records=(record(900, 0, TokenKind.UNLOCK, value=bad),))
    world.rotate()
    await world.finish()
    standing = await world.service.stand()
    assert standing.progress is not None
    assert standing.progress.broken == 1
    found = await rows(world.values)
    assert found[SealedIn.TOKENS, (record_id(900),)].value == bad
    assert len(found) == len(clear) + 1
    assert sealing_finding(standing).severity is Severity.CRITICAL


async def test_a_second_rotation_begins_again_and_takes_what_is_left_along() -> None:
    world = World()
    clear = await fill(world.storage, world.sealer)
    world.rotate()
    await world.service.run_round()
    world.rotate()
    await world.finish()
    assert await epochs(world.values) == {3}
    assert await opened(world.values, world.sealer) == clear


async def test_a_younger_value_than_is_known_is_not_touched() -> None:
    """Another node has rotated once more, and this one has not looked yet."""
    world = World()
    await fill(world.storage, world.sealer, devices=1)
    younger = SealedValue(b"\x01\0\0\0\x09" + b"of another node" * 3)
    await store(world.storage, records=(record(900, 0, TokenKind.UNLOCK, value=younger),))
    world.rotate()
    await world.finish()
    found = await rows(world.values)
    assert found[SealedIn.TOKENS, (record_id(900),)].value == younger


async def test_a_clock_that_was_years_ahead_does_not_put_the_walk_off() -> None:
    world = World()
    await fill(world.storage, world.sealer)
    world.rotate()
    world.clock.advance(days=4000)
    while not await world.service.run_round():
        pass
    world.clock.advance(days=-4000)
    await world.finish()
    assert await epochs(world.values) == {2}


async def test_large_values_are_taken_one_by_one() -> None:
    world = World(replace(AT_ONCE, bytes_together=1000))
    clear = await fill(world.storage, world.sealer, devices=1, size=900)
    world.rotate()
    taken: list[int] = []
    plain = world.values.replace_sealed

    async def noted(where: SealedIn, values: Sequence[Resealed]) -> int:
        taken.append(len(values))
        return await plain(where, values)

    world.values.replace_sealed = noted  # type: ignore[method-assign]  # it is asked all the same
    await world.finish()
    assert set(taken) == {1}
    assert sum(taken) == len(clear)


async def test_counting_says_what_is_left_in_parts() -> None:
    world = World()
    clear = await fill(world.storage, world.sealer)
    world.rotate()
    await world.service.run_round()
    tally, total = await world.service.count(), 0
    while True:
        total += sum(tally.numbers.values())
        assert set(tally.numbers) <= {(DEFAULT_TENANT, 1), (DEFAULT_TENANT, 2)}
        if tally.following is None:
            break
        tally = await world.service.count(*tally.following)
    assert total == len(clear)


async def test_a_storage_that_fails_leaves_the_place_as_it_was() -> None:
    world = World()
    await fill(world.storage, world.sealer)
    world.rotate()
    await world.service.run_round()
    before = await world.storage.retention.load_place(PLACE)

    class Away(MemorySealedValues):
        @override
        async def replace_sealed(self, where: SealedIn, values: Sequence[Resealed]) -> int:
            raise Unavailable

    world.values = Away(world.storage._store)
    with suppress(Unavailable):
        while not await world.service.run_round():
            before = await world.storage.retention.load_place(PLACE)
        pytest.fail("nothing was away")
    assert await world.storage.retention.load_place(PLACE) == before
    world.values = world.storage.sealed_values
    await world.finish()
    assert await epochs(world.values) == {2}


@given(st.text(max_size=40) | st.sampled_from(['{"targets": 3}', "[]", "null", '{"targets": {}}']))
def test_a_place_that_nobody_can_read_is_none(said: str) -> None:
    assert Progress.decode(said) is None


@pytest.mark.parametrize("ended", [None, NOON])
def test_progress_is_remembered_as_it_was(ended: object) -> None:
    progress = Progress(
        targets={DEFAULT_TENANT: 4},
        since=NOON,
        walk_at=NOON,
        where=SealedIn.COMMANDS,
        place='["a", "b"]',
        met=3,
        broken=1,
        resealed=7,
        ended_at=ended,  # type: ignore[arg-type]  # a moment or None
    )
    assert Progress.decode(progress.encode()) == progress


async def test_the_doctor_says_how_far_it_is() -> None:
    world = World()
    await fill(world.storage, world.sealer)
    told = [sealing_finding(await world.service.stand())]
    world.rotate()
    told.append(sealing_finding(await world.service.stand()))
    await world.service.run_round()
    told.append(sealing_finding(await world.service.stand()))
    await world.finish()
    told.append(sealing_finding(await world.service.stand()))
    assert [one.severity for one in told] == [
        Severity.OK,
        Severity.WARNING,
        Severity.WARNING,
        Severity.OK,
    ]
    assert "has not begun" in told[1].sentence
    assert "so far" in told[2].sentence
    assert "under epoch 2 of default" in told[3].sentence


def test_a_sealer_keeps_what_it_knew_when_it_learns_more() -> None:
    """A database that was restored while a server runs has fewer rows; nothing that is open closes for that."""
    sealer, first = open_sealer(ROOT, (), now=NOON)
    ring = RootKeyring(ROOT)
    second = ring.wrap(DEFAULT_TENANT, 2, b"2" * 32, NOON)
    both: EpochSealer = sealer
    both.put_in_force(open_keys(ring, (*first, second)), {})
    both.put_in_force(open_keys(ring, first), {})
    assert both.newest_epoch(DEFAULT_TENANT) == 2
