"""Setting the stage: a database of the engine that was asked for, an installation on it, and the watch beside it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from bench import postgres
from bench.fleet import Fleet
from bench.scale.house import api_authorization, make_house
from bench.scale.stage import Stage
from bench.scale.watch import Watch, sizes_of

DATABASE = "ostiary"


@asynccontextmanager
async def staged(engine: str, folder: Path, fleet: Fleet) -> AsyncIterator[Stage]:
    """A stage in this folder, until the block ends; nothing is served yet."""
    with _database(engine, folder) as server:
        url = await server.make_database(DATABASE) if server is not None else None
        house = make_house(folder, fleet.authority_pem, url)
        family = server.process if server is not None else None
        watch = Watch(folder / "samples.csv", sizes_of(house), family)
        stage = Stage(
            house=house,
            fleet=fleet,
            watch=watch,
            database=family,
            authorization=api_authorization(house),
        )
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch.run(stage.counts))
            yield stage
            watching.cancel()


@contextmanager
def _database(engine: str, folder: Path) -> Iterator[postgres.PostgresServer | None]:
    if engine == "sqlite":
        yield None
        return
    with postgres.running(folder / "postgres") as server:
        yield server
