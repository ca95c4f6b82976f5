"""A node whose packets to the database vanish, as when a switch, a firewall or a cable fails."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from typing_extensions import override

from e2e.bursts import prepare_burst
from e2e.islands import Island, connections_to, island
from e2e.nodes import HOST, Nodes, make_installations, open_nodes, until
from postgres_server import PostgresServer

PORT = 5432
FROM_THE_ISLAND = "SELECT count(*) FROM pg_stat_activity WHERE client_addr = $1::inet"
LISTENING = f"{FROM_THE_ISLAND} AND query ~* '^(listen|notify)'"
"""The connection that hears of other nodes' wakes, and tells them."""


class ReachableServer(PostgresServer):
    """A server that is reached over a network as well."""

    @override
    def _make_data(self) -> None:
        super()._make_data()
        with (self.folder / "data" / "pg_hba.conf").open("a") as file:
            file.write("host all all 10.0.0.0/8 trust\n")


@pytest.fixture
def cut_off() -> Iterator[Island]:
    with island() as made:
        yield made


@pytest.fixture
def server(cut_off: Island) -> Iterator[PostgresServer]:
    started = ReachableServer(listen_addresses=cut_off.to_database.here)
    asyncio.run(started.make_template())
    yield started
    started.stop()


async def test_a_node_that_is_cut_off_says_so_and_is_back_by_itself(
    tmp_path: Path, cut_off: Island, server: PostgresServer
) -> None:
    """503 and not ready, not for ever hanging; both sides give up connections that only seem to be there.

    The other node goes on; nothing acknowledged is lost, and nothing has to be restarted.
    """
    at_socket = await server.make_database()
    name = at_socket.partition("?")[0].rpartition("/")[2]
    url = f"postgresql://postgres@{cut_off.to_database.here}:{PORT}/{name}"
    directories = await asyncio.to_thread(make_installations, tmp_path, url, 2)
    flags = ("--listen", f"{cut_off.to_devices.there}:0"), ("--listen", f"{HOST}:0")
    async with open_nodes(directories, *flags, before={0: cut_off.before}) as nodes:
        database = await asyncpg.connect(at_socket)
        there, pid = cut_off.to_database.there, nodes.servers[0].process.pid
        burst = await prepare_burst(nodes, 1, devices=3, rounds=4, commands=2)
        await until(lambda: _counts(database, LISTENING, there, 1))

        async def cut() -> None:
            cut_off.to_database.cut()
            await until(lambda: answers(nodes, 0, "/readyz", 503))
            assert await answers(nodes, 0, "/healthz", 200)
            assert await answers(nodes, 1, "/readyz", 200)
            # The one that only listens says nothing by itself, and is noticed all the same.
            await until(lambda: _no_connections(pid))
            await until(lambda: _counts(database, FROM_THE_ISLAND, there, 0))
            cut_off.to_database.mend()

        await burst.run(cut)
        await until(lambda: answers(nodes, 0, "/readyz", 200))
        await until(lambda: _counts(database, LISTENING, there, 1))
        await burst.require_all(0)
        await database.close()


async def answers(nodes: Nodes, node: int, path: str, status: int) -> bool:
    return (await nodes.get(node, path)).status_code == status


async def _no_connections(pid: int) -> bool:
    return connections_to(pid, PORT) == 0


async def _counts(
    database: "asyncpg.Connection[asyncpg.Record]", question: str, there: str, number: int
) -> bool:
    return bool(await database.fetchval(question, there) == number)
