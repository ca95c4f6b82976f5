"""Sealed values wherever they are, walked and replaced, on every engine. (design.md 2; escrowed-secrets.md 4.0.2)"""

import pytest

from conformance.storage_twins import AnyStorage, show, store
from conformance.storage_values import command, device, key, record, record_id
from ostiary.domain.decision import Ask, ByKey, QueueView
from ostiary.domain.token import DEFAULT_TENANT, SealedValue, TokenKind
from ostiary.keys.sealer import open_sealer
from ostiary.ports.resealing import HEAD_BYTES, Resealed, SealedIn
from ostiary.ports.retention import START
from ostiary.secret import Secret
from sealed_world import fill, opened, rows
from unit.keys.test_sealer import NOW

SEALER, _ = open_sealer(Secret(b"k" * 32), (), now=NOW)


async def test_a_walk_meets_everything_that_is_sealed_and_nothing_else(storage: AnyStorage) -> None:
    """In pages of any size; public values, digests and standard forms are left out."""
    clear = await fill(storage, SEALER)
    values = storage.sealed_values
    assert await opened(values, SEALER) == clear
    for limit in (1, 2, 1000):
        met = []
        for where in SealedIn:
            place = START
            while True:
                page = await values.find_sealed(where, place, limit=limit)
                met += [(where, site.key) for site in page.sites]
                assert len(page.sites) <= limit
                if (place := page.place) == START:
                    break
        assert len(met) == len(clear)
        assert set(met) == set(clear)


async def test_a_value_is_told_by_its_head_and_its_size(storage: AnyStorage) -> None:
    await fill(storage, SEALER, devices=1)
    found = await rows(storage.sealed_values)
    for where in SealedIn:
        page = await storage.sealed_values.find_sealed(where, START, limit=100)
        for site in page.sites:
            value = found[where, site.key].value
            assert (site.head, site.size) == (value[:HEAD_BYTES], len(value))
            assert site.tenant == DEFAULT_TENANT


@pytest.mark.parametrize("place", ["no json", "[]", '["a", "b", "c"]', "7", "null", '"x"'])
async def test_a_place_that_nobody_can_read_is_the_beginning(
    storage: AnyStorage, place: str
) -> None:
    await fill(storage, SEALER, devices=1)
    for where in SealedIn:
        first = await storage.sealed_values.find_sealed(where, START, limit=1)
        assert await storage.sealed_values.find_sealed(where, place, limit=1) == first


async def test_a_value_is_replaced_only_where_it_still_is_what_was_read(
    storage: AnyStorage,
) -> None:
    await fill(storage, SEALER, devices=2)
    values = storage.sealed_values
    before = await rows(values)
    for where in SealedIn:
        here = [row for (at, _), row in before.items() if at is where]
        stale = Resealed(key=here[0].key, before=SealedValue(b"other"), after=SealedValue(b"never"))
        gone = Resealed(
            key=tuple("f" * 32 for _ in here[0].key), before=here[0].value, after=here[0].value
        )
        good = [
            Resealed(
                key=row.key, before=row.value, after=SealedValue(b"anew " + row.key[-1].encode())
            )
            for row in here[1:]
        ]
        assert await values.replace_sealed(where, [stale, gone, *good]) == len(good)
        assert await values.replace_sealed(where, good) == 0
    for (where, at), row in (await rows(values)).items():
        old = before[where, at].value
        assert row.value in (old, b"anew " + at[-1].encode())
    assert await values.replace_sealed(SealedIn.TOKENS, []) == 0
    assert await values.load_sealed(SealedIn.TOKENS, []) == ()


async def test_everything_else_of_a_row_stays_as_it_is(storage: AnyStorage) -> None:
    """A decision that is under way meanwhile sees the same record and the same command, but for their values."""
    await store(storage, rows=(device(1),), records=(record(1, 1, TokenKind.UNLOCK),))
    await store(storage, enqueue=(command("a", 1),))
    values = storage.sealed_values
    anew = SealedValue(b"sealed anew")
    one = Resealed(key=(record_id(1),), before=SealedValue(b"sealed 1"), after=anew)
    two = Resealed(key=(key(1), command("a", 1).uuid), before=SealedValue(b"sealed a"), after=anew)
    assert await values.replace_sealed(SealedIn.TOKENS, [one]) == 1
    assert await values.replace_sealed(SealedIn.COMMANDS, [two]) == 1
    new = await storage.enrollments.load_record(record_id(1))
    assert new == record(1, 1, TokenKind.UNLOCK, value=anew, generation=1)
    shown = await show(storage, Ask(who=ByKey(key=key(1)), queue=QueueView.WHOLE))
    assert [(live.uuid, live.payload) for live in shown.queue] == [(command("a", 1).uuid, anew)]
