"""What only few decisions ask for costs the others no statement. (hot-path.md)"""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from conformance.storage_twins import show, store
from conformance.storage_values import (
    MovedClock,
    binding,
    by_certificate,
    channel,
    command,
    device,
    escrow,
    sheet,
)
from ostiary.domain.decision import Ask, EscrowView, QueueView, Snapshot
from ostiary.storage.postgres.batches import Batches
from ostiary.storage.postgres.storage import open_postgres
from ostiary.storage.sqlite.engine import Transaction
from ostiary.storage.sqlite.load import load
from ostiary.storage.sqlite.seen import SeenBuffer
from ostiary.storage.sqlite.storage import open_sqlite

HERE = by_certificate(1, channel(1))
IDLE = Ask(who=HERE, queue=QueueView.WHOLE, escrows=EscrowView.WITH_COMMANDS)
TOKEN_UPDATE = Ask(who=HERE, escrows=EscrowView.WHILE_ENROLLING)
ALL = Ask(who=HERE, escrows=EscrowView.ALWAYS, facts=True)
FURNISHED: dict[str, Any] = {
    "rows": (device(1),),
    "bind": (binding(1, to=1),),
    "escrows": (escrow(1),),
    "facts": (sheet(1),),
}


async def test_an_idle_and_a_token_update_on_sqlite_take_one_statement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a plain command in the queue too, what is asked beside it is about commands alone."""
    asked: list[str] = []

    def counted(transaction: Transaction, ask: Ask, seen: SeenBuffer) -> Snapshot:
        read = transaction.read

        def noted(statement: str, values: tuple[Any, ...] = ()) -> Any:
            asked.append(statement)
            return read(statement, values)

        return load(cast(Transaction, SimpleNamespace(read=noted)), ask, seen)

    async with open_sqlite(tmp_path / "ostiary.db", clock=MovedClock()) as storage:
        await store(storage, **FURNISHED)
        monkeypatch.setattr("ostiary.storage.sqlite.enrollments.load", counted)
        for ask in (IDLE, TOKEN_UPDATE):
            asked.clear()
            await show(storage, ask)
            assert len(asked) == 1
        await store(storage, enqueue=(command("plain", to=1),))
        asked.clear()
        await show(storage, IDLE)
        assert not [one for one in asked if "FROM escrow" in one or "FROM fact" in one]
        asked.clear()
        await show(storage, ALL)
        assert len(asked) == 3


async def test_an_idle_and_a_token_update_on_postgresql_take_one_statement(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the queue holds, unless it concerns a secret."""
    asked: list[str] = []
    rows = Batches.rows

    async def counted(self: Batches, statement: str, *values: Any) -> Sequence[Any]:
        asked.append(statement)
        return await rows(self, statement, *values)

    async with open_postgres(postgres_url, clock=MovedClock()) as storage:
        await store(storage, **FURNISHED, enqueue=(command("plain", to=1),))
        monkeypatch.setattr(Batches, "rows", counted)
        for ask, count in ((IDLE, 1), (TOKEN_UPDATE, 1), (ALL, 3)):
            asked.clear()
            await show(storage, ask)
            assert len(asked) == count
