"""Real nodes whose database dies, comes back, or is another one from now on."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from e2e.bursts import prepare_burst
from e2e.nodes import Nodes, make_installations, open_nodes, until
from postgres_server import PostgresServer, StandbyServer


async def answers(nodes: Nodes, path: str, status: int) -> bool:
    """Whether every node answers so."""
    found = [(await nodes.get(node, path)).status_code for node in range(len(nodes.servers))]
    return set(found) == {status}


async def test_nodes_outlive_the_death_of_their_database(
    tmp_path: Path, postgres_server: PostgresServer, postgres_url: str, long_form: bool
) -> None:
    """503 while it is away, and `readyz` says so; what was acknowledged is there when it is back, by itself."""
    directories = await asyncio.to_thread(make_installations, tmp_path, postgres_url, 2)
    async with open_nodes(directories, (), ("--processes", "2")) as nodes:
        burst = await prepare_burst(nodes, 0, devices=3, rounds=60 if long_form else 6, commands=3)

        async def die_for_a_while() -> None:
            postgres_server.kill()
            await until(lambda: answers(nodes, "/readyz", 503))
            assert await answers(nodes, "/healthz", 200)
            await asyncio.to_thread(postgres_server.restart)

        await burst.run(die_for_a_while)
        await until(lambda: answers(nodes, "/readyz", 200))
        await burst.require_all(1)


@pytest.fixture
def pair(postgres_server: PostgresServer) -> Iterator[tuple[PostgresServer, StandbyServer]]:
    """A server, and another that confirms each of its commits."""
    del postgres_server  # the other tests' one; these two are killed
    primary = PostgresServer()
    asyncio.run(primary.make_template())
    standby = StandbyServer(of=primary)
    yield primary, standby
    standby.stop()
    primary.stop()


@pytest.fixture
def database_url(pair: tuple[PostgresServer, StandbyServer]) -> str:
    """One database at two addresses."""
    primary, standby = pair
    url = asyncio.run(primary.make_database())
    asyncio.run(primary.command("ALTER SYSTEM SET synchronous_standby_names = '*'"))
    asyncio.run(primary.command("SELECT pg_reload_conf()"))
    both = quote(f"{standby.folder},{primary.folder}", safe="")
    return f"{url.partition('?')[0]}?host={both}"


async def test_nodes_follow_a_database_that_fails_over(
    tmp_path: Path,
    pair: tuple[PostgresServer, StandbyServer],
    database_url: str,
    long_form: bool,
) -> None:
    """The primary dies, a standby takes over: no node is restarted, and nothing acknowledged is lost.

    The standby is named first, so that each node also has to pass by a server that only reads.
    """
    primary, standby = pair
    directories = await asyncio.to_thread(make_installations, tmp_path, database_url, 2)
    async with open_nodes(directories) as nodes:
        burst = await prepare_burst(nodes, 0, devices=3, rounds=60 if long_form else 6, commands=3)

        async def fail_over() -> None:
            primary.kill()
            await until(lambda: answers(nodes, "/readyz", 503))
            await standby.promote()

        await burst.run(fail_over)
        await until(lambda: answers(nodes, "/readyz", 200))
        await burst.require_all(1)
