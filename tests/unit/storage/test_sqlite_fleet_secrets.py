"""A page of the fleet costs as many statements as any other, however many devices it holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from typing_extensions import override

from conformance.storage_twins import store
from conformance.storage_values import MovedClock, device, escrow, pointer, record, record_id, sheet
from ostiary.domain.token import DEFAULT_TENANT, TokenKind
from ostiary.storage.sqlite.fleet_secrets import SqliteFleetSecrets
from ostiary.storage.sqlite.readers import AnswerT, Read, Readers, Rows
from ostiary.storage.sqlite.storage import open_sqlite

KINDS = (TokenKind.BOOTSTRAP, TokenKind.RECOVERY_LOCK)


class CountingReaders(Readers):
    """Readers that remember what was asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: list[str] = []

    @override
    async def run(self, work: Callable[[Read], AnswerT]) -> AnswerT:
        def counted(read: Read) -> AnswerT:
            def asked(statement: str, values: tuple[Any, ...] = ()) -> Rows:
                self.asked.append(statement)
                return read(statement, values)

            return work(asked)

        return await super().run(counted)


async def test_a_page_takes_five_statements_whatever_it_holds(tmp_path: Path) -> None:
    """One for the rows, one for each kind of thing that hangs on them; the last only for old generations."""
    path, numbers = tmp_path / "fleet.db", range(1, 41)
    async with open_sqlite(path, clock=MovedClock()) as storage:
        await store(
            storage,
            rows=tuple(device(number, bootstrap=pointer(number)) for number in numbers),
            records=tuple(record(number, number, TokenKind.BOOTSTRAP) for number in numbers),
            escrows=tuple(escrow(number, current=record_id(999)) for number in numbers),
            facts=tuple(sheet(number) for number in numbers),
        )
        readers = CountingReaders(path)
        fleet = SqliteFleetSecrets(readers)
        for limit in (1, 40):
            readers.asked.clear()
            page = await fleet.list_secrets(DEFAULT_TENANT, KINDS, limit=limit, after=None)
            assert len(page.devices) == limit
            assert len(readers.asked) == 5
        await readers.close()
