"""One life on three engines: the same services, moments and chance, in memory, on SQLite and on PostgreSQL."""

import asyncio
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast
from unittest.mock import patch
from uuid import UUID

from conformance.storage_twins import AnyStorage, assert_twins_agree
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.errors import OstiaryError
from ostiary.keys.sealer import open_sealer
from ostiary.secret import Secret
from ostiary.services.reply import Farewell, Reply
from ostiary.storage.memory.storage import MemoryStorage
from ostiary.storage.memory.tables import Tables
from ostiary.storage.postgres.storage import PostgresStorage, open_postgres
from ostiary.storage.sqlite.storage import open_sqlite
from postgres_server import PostgresServer
from scenes.house import OTHER_TOPIC, START, TOPIC, Device, House, Model, MovedClock

IN_MEMORY = Path("/dev/shm")
DRAWN_FROM = {
    "ostiary.services.commands.uuid4": "uuid4",
    "ostiary.services.escrow.uuid4": "uuid4",
    "ostiary.services.filevault.uuid4": "uuid4",
    "ostiary.services.identity_renewal.uuid4": "uuid4",
    "ostiary.services.checkin.secrets": "",
    "ostiary.services.identifiers.os": "",
    "ostiary.keys.drawn.secrets": "",
    "ostiary.keys.sealer.os": "",
}
"""Where the services draw what nobody can foresee, and which of our methods stands there ("": all of them)."""


class Chance:
    """Ids, nonces and AuthTokens that repeat: all engines draw the same for the same step."""

    def __init__(self) -> None:
        self._random = random.Random(0)

    def restart(self, step: int) -> None:
        self._random.seed(step)

    def uuid4(self) -> UUID:
        return UUID(bytes=self._random.randbytes(16), version=4)

    def urandom(self, size: int) -> bytes:
        return self._random.randbytes(size)

    token_bytes = urandom

    def choice(self, characters: str) -> str:
        return self._random.choice(characters)

    def token_hex(self, size: int) -> str:
        return self._random.randbytes(size).hex()

    token_urlsafe = token_hex


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Somebody who holds a certificate and says which device it is."""

    udid: str
    model: Model
    serial: str
    certificate: str

    def at(self, house: House) -> Device:
        """The actor before the door of one house."""
        return Device(
            house=house,
            model=self.model,
            udid=self.udid,
            serial=self.serial,
            certificate=self.certificate,
        )

    @property
    def fingerprint(self) -> str:
        return self.at(cast(House, None)).identity.fingerprint


@dataclass(frozen=True)
class Outcome:
    """What a step came to, comparable: an answer, or who refused and why."""

    answer: Any = None
    error: type[OstiaryError] | None = None
    said: str = ""

    @property
    def is_acknowledged(self) -> bool:
        """Whether a device was answered 200, or a person's wish carried out."""
        return self.error is None and not isinstance(self.answer, Farewell)

    @property
    def body(self) -> bytes:
        return self.answer.body if isinstance(self.answer, Reply) else b""


class Lane:
    """What lives one after another share, because it costs more than a life: a loop, and a PostgreSQL with its plans.

    Use as a context.
    """

    def __init__(self, server: PostgresServer) -> None:
        self.clock = MovedClock()
        self.runner = asyncio.Runner()
        self._server = server

    def __enter__(self) -> Self:
        self._url = self.runner.run(self._server.lend_database())
        self.postgres = self.runner.run(self._open())
        return self

    async def _open(self) -> PostgresStorage:
        return open_postgres(self._url, clock=self.clock)

    def __exit__(self, *_: object) -> None:
        with self.runner:
            self.runner.run(self.postgres.close())
            self.runner.run(self._server.take_back(self._url))

    async def clear(self) -> None:
        """Forget everything that the last life left."""
        await self.postgres.enrollments.flush_seen()
        await self._server.empty(self._url)
        self.clock.moment = START


class Twins:
    """Three houses that live the same life. Use as a context."""

    def __init__(self, lane: Lane) -> None:
        self.clock = lane.clock
        self._lane = lane
        self._chance = Chance()
        self._step = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for place, method in DRAWN_FROM.items():
            drawn = getattr(self._chance, method) if method else self._chance
            self._stack.enter_context(patch(place, drawn))
        parent = IN_MEMORY if IN_MEMORY.is_dir() else None
        folder = Path(tempfile.mkdtemp(prefix="ostiary-lives-", dir=parent))
        self._stack.callback(shutil.rmtree, folder)
        self._lane.runner.run(self._open(folder / "ostiary.db"))
        return self

    async def _open(self, path: Path) -> None:
        await self._lane.clear()
        self._sqlite = open_sqlite(path, clock=self.clock)
        self._memory = MemoryStorage()
        sealer, _ = open_sealer(Secret(b"k" * 32), (), now=START, tenants=[DEFAULT_TENANT])
        self._others: tuple[AnyStorage, ...] = (self._sqlite, self._lane.postgres)
        self.houses = [
            House(path=path, storage=cast(Any, storage), clock=self.clock, sealer=sealer)
            for storage in (self._memory, *self._others)
        ]
        for house in self.houses:
            await house.hold_topic(TOPIC)
            await house.hold_topic(OTHER_TOPIC)

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self._lane.runner.run(self._sqlite.close())

    @property
    def tables(self) -> Tables:
        """All there is, at this moment; the twin replaces it as a whole, so what was read stays as it was."""
        return self._memory._store.tables

    def open(self, record: Any) -> bytes:
        return self.houses[0].open(record)

    def all(self, do: Callable[[House], Awaitable[Any]]) -> Outcome:
        """Take one step in all houses. Fails if they answer differently, or hold different things afterwards."""
        self._step += 1
        self.clock.advance(milliseconds=1)
        run = self._lane.runner.run
        in_memory, *others = (run(self._attempt(house, do)) for house in self.houses)
        for storage, outcome in zip(self._others, others, strict=True):
            said = type(storage).__name__
            assert outcome == in_memory, f"{said} and memory answer differently"
            run(assert_twins_agree(self._memory, storage))
        return in_memory

    async def _attempt(self, house: House, do: Callable[[House], Awaitable[Any]]) -> Outcome:
        self._chance.restart(self._step)
        try:
            return Outcome(await do(house))
        except OstiaryError as error:
            return Outcome(error=type(error), said=str(error))
