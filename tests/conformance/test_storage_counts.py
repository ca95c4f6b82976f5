"""The figures that are kept are those that counting gives, after whatever happened. (design.md 4)"""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from conformance.storage_twins import Database, store_as, visible_state
from conformance.storage_values import after, device, key, record, record_id, user
from ostiary.domain.decision import Ask, ByKey, CancelCommands, Change, DisableUsers
from ostiary.domain.enrollment import Enrollment, Standing, State
from ostiary.domain.retention import Aged
from ostiary.domain.token import TokenKind, TokenState, TokenStep

DEVICES = 6
KINDS = (TokenKind.PUSH, TokenKind.UNLOCK, TokenKind.BOOTSTRAP, TokenKind.IDENTITY)


class Life:
    """A random life of a few devices: rows begin, move and end, generations come, step and are forgotten."""

    def __init__(self, storage: Any, seed: int) -> None:
        self._storage = storage
        self._random = random.Random(seed)
        self._records = 0

    async def step(self) -> None:
        """One thing, or nothing where it does not fit."""
        acts = (
            self._begin,
            self._move,
            self._grow,
            self._grow,
            self._walk,
            self._forget,
            self._fold,
        )
        await self._random.choice(acts)()

    async def _row(self) -> Enrollment | None:
        state = await visible_state(self._storage)
        rows = list(state["enrollments"].values())
        return self._random.choice(rows) if rows else None

    async def _begin(self) -> None:
        state = await visible_state(self._storage)
        number = self._random.randrange(1, DEVICES)
        if key(number) not in state["enrollments"]:
            await self._store(number, rows=(device(number, state=State.PENDING),))
        elif key(100 + number) not in state["enrollments"]:
            await self._store(number, rows=(user(100 + number, number),))

    async def _move(self) -> None:
        row = await self._row()
        if row is None:
            return
        if self._random.random() < 0.2 and not row.is_user_channel:
            await self._storage.enrollments.decide(
                Ask(who=ByKey(key=row.key)),
                lambda _seen: _change(disable_users=(DisableUsers(device_key=row.key),)),
            )
            return
        standing = Standing.ENDED if self._random.random() < 0.2 else row.standing
        moved = replace(row, state=self._random.choice(list(State)), standing=standing)
        cancel = CancelCommands(enrollment_key=row.key, users=True, cause="moved")
        await self._storage.enrollments.decide(
            Ask(who=ByKey(key=row.key)), lambda _seen: _change(rows=(moved,), cancel=(cancel,))
        )

    async def _grow(self) -> None:
        self._records += 1
        number = self._random.randrange(1, DEVICES)
        kind = self._random.choice(KINDS)
        state = self._random.choice(list(TokenState))
        await self._store(number, records=(record(self._records, number, kind, state=state),))

    async def _walk(self) -> None:
        """A record steps to another state, or to the one it has."""
        if self._records == 0:
            return
        one = record_id(self._random.randint(1, self._records))
        if one in (await visible_state(self._storage))["records"]:
            state = self._random.choice(list(TokenState))
            step = TokenStep(record_id=one, state=state, cause="It stepped.")
            await self._store(1, steps=(step,))

    async def _forget(self) -> None:
        asked = [record_id(self._random.randint(1, self._records + 1)) for _ in range(5)]
        await self._storage.retention.drop_generations(asked)
        if self._random.random() < 0.3:
            await self._storage.retention.drop_aged(Aged.RELATIONSHIPS, after(days=1), limit=2)

    async def _fold(self) -> None:
        await self._storage.retention.fold_counts(limit=self._random.randint(1, 40))

    async def _store(self, number: int, **parts: Any) -> None:
        await store_as(self._storage, Ask(who=ByKey(key=key(number))), at=after(minutes=1), **parts)


def _change(**parts: Any) -> Change[None]:
    return Change(at=after(minutes=1), answer=None, **parts)


async def assert_counts_are_true(storage: Any) -> None:
    state = await visible_state(storage)
    counts = await storage.reports.count()
    rows, records = state["enrollments"].values(), state["records"].values()
    assert counts.enrollments == Counter((row.type.value, row.state.value) for row in rows)
    assert counts.tokens == Counter((one.kind.value, one.state.value) for one in records)


@pytest.mark.parametrize("seed", range(3))
async def test_kept_counts_are_what_counting_gives(
    database: Database, seed: int, long_form: bool
) -> None:
    life = Life(database, seed)
    for number in range(1_500 if long_form else 120):
        await life.step()
        if number % 10 == 0:
            await assert_counts_are_true(database)
    await assert_counts_are_true(database)
