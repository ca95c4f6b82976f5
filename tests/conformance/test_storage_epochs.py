"""The wrapped keys on both engines: added and wrapped anew in one step, or not at all. (design.md 2)"""

import asyncio
from dataclasses import replace

import pytest

from conformance.storage_twins import Database
from conformance.storage_values import after, audit
from ostiary.domain.token import DEFAULT_TENANT, TenantId
from ostiary.errors import Conflicting
from ostiary.ports.storage import EpochRow


def row(epoch: int, tenant: str = DEFAULT_TENANT, by: bytes = b"old") -> EpochRow:
    return EpochRow(
        tenant=TenantId(tenant),
        epoch=epoch,
        wrapped=b"wrapped by %b, %d" % (by, epoch),
        check=b"check of " + by,
        created_at=after(days=epoch),
    )


FIRST = (row(0), row(1))


async def begin(database: Database) -> None:
    for one in FIRST:
        await database.epochs.add_epoch(one)


async def test_an_epoch_is_added_with_its_audit(database: Database) -> None:
    await begin(database)
    await database.epochs.replace_epochs(FIRST, (*FIRST, row(2)), audit("key-rotate"))
    assert await database.epochs.load_epochs() == (*FIRST, row(2))


async def test_every_key_is_wrapped_anew_and_stays_as_old_as_it_is(database: Database) -> None:
    await begin(database)
    anew = tuple(row(one.epoch, by=b"new") for one in FIRST)
    moved = tuple(replace(one, created_at=after(days=99)) for one in anew)
    await database.epochs.replace_epochs(FIRST, moved, audit("key-rotate-root"))
    assert await database.epochs.load_epochs() == anew


@pytest.mark.parametrize(
    "seen",
    [(), FIRST[:1], (*FIRST, row(2)), (FIRST[0], replace(FIRST[1], wrapped=b"another"))],
    ids=["none", "fewer", "more", "another"],
)
async def test_nothing_is_stored_on_keys_that_are_others_by_now(
    database: Database, seen: tuple[EpochRow, ...]
) -> None:
    """A rotation of the root key that misses an epoch would lose it."""
    await begin(database)
    with pytest.raises(Conflicting):
        await database.epochs.replace_epochs(seen, (*seen, row(5)), audit("key-rotate"))
    assert await database.epochs.load_epochs() == FIRST


async def test_a_change_that_would_lose_a_key_is_refused(database: Database) -> None:
    await begin(database)
    with pytest.raises(ValueError, match="keeps every epoch"):
        await database.epochs.replace_epochs(FIRST, FIRST[:1], audit("key-rotate"))


async def test_of_two_at_once_one_wins(database: Database) -> None:
    """Were both stored, one of them would be wrapped under a root key that is gone."""
    await begin(database)
    root = tuple(row(one.epoch, by=b"new") for one in FIRST)
    outcomes = await asyncio.gather(
        database.epochs.replace_epochs(FIRST, (*FIRST, row(2)), audit("key-rotate")),
        database.epochs.replace_epochs(FIRST, root, audit("key-rotate-root")),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in outcomes) == ["ChangeDoesNotFit", "NoneType"]
    assert await database.epochs.load_epochs() in ((*FIRST, row(2)), root)
