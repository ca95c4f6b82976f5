"""Keys are rotated while several processes serve devices: nobody notices, and everything is under the new key in the end.

Source: ST-03 of escrowed-secrets.md; users.md: keys can be rotated while running.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.nodes import Nodes, make_installations, open_nodes, until
from e2e.quick_rotation import BEFORE
from ostiary_sim.device import Device

Install = Callable[[int], list[Path]]


@pytest.fixture
def install(tmp_path: Path, postgres_url: str) -> Install:
    """Data directories of so many nodes on one empty database."""
    return lambda count: make_installations(tmp_path, postgres_url, count)


class Traffic:
    """A Mac that hands over a new value at one node and fetches it at the next, until it is told to stop."""

    def __init__(self, mac: Device) -> None:
        self.mac = mac
        self.turns = 0
        self.stop = asyncio.Event()

    async def run(self) -> None:
        while not self.stop.is_set():
            self.turns += 1
            token = b"canary of turn %d" % self.turns
            assert (await self.mac.set_bootstrap_token(token)).ok
            for _ in range(2):
                fetched = await self.mac.get_bootstrap_token()
                assert fetched.token == token, f"turn {self.turns}: {fetched}"
            assert (await self.mac.change_push_token()).ok


async def keys(nodes: Nodes, node: int) -> dict[str, Any]:
    found: dict[str, Any] = await nodes.ask(node, "GET", "/keys")
    return found


async def is_rotated(nodes: Nodes, epoch: int) -> bool:
    """Every node seals under it, and nothing older is left."""
    told = [await keys(nodes, node) for node in range(len(nodes.servers))]
    return all(one["current"] == {"default": epoch} and one["is_resealed"] for one in told)


async def values(nodes: Nodes, node: int) -> Counter[int]:
    tally: Counter[int] = Counter()
    params: dict[str, str] = {}
    while True:
        part = await nodes.ask(node, "GET", "/keys/values", params=params)
        for one in part["numbers"]:
            tally[one["epoch"]] += one["values"]
        if part["where"] is None:
            return tally
        params = {"where": part["where"], "place": part["place"]}


@pytest.mark.case("ST-03")
async def test_one_node_rotates_and_all_go_on_serving(install: Install) -> None:
    """Values that one node seals under the new epoch open at the others, from the first one on."""
    directories = await asyncio.to_thread(install, 2)
    async with open_nodes(
        directories, (), ("--processes", "2"), before={0: BEFORE, 1: BEFORE}
    ) as nodes:
        mac, iphone = await nodes.enroll("mac"), await nodes.enroll("iphone")
        waiting = await nodes.enqueue(0, iphone.udid, "device-information")
        traffic = Traffic(mac)
        async with asyncio.TaskGroup() as group:
            group.create_task(traffic.run())
            await until(lambda: _is_past(traffic, 2))
            rotated = await nodes.ask(0, "POST", "/keys/rotate", content={})
            assert rotated["epoch"] == 2
            await until(lambda: is_rotated(nodes, 2))
            before = traffic.turns
            await until(lambda: _is_past(traffic, before + 2))
            await nodes.ask(1, "POST", "/keys/rotate", content={})
            await until(lambda: is_rotated(nodes, 3))
            traffic.stop.set()
        assert not sum(nodes.spread.in_vain.values()), "a message was not answered"
        assert set(await values(nodes, 1)) == {3}
        # A command that waited, sealed under the first key, is handed out by whichever node is asked.
        assert (await iphone.idle()).completed
        assert (await nodes.states(1, iphone.udid))[waiting] == "done"
        logs = [server.log.read_text() for server in nodes.servers]
        # Where a process had no turn of the processor for fifteen looks, it says 503 (`epoch_unknown`), and devices repeat.
        assert not [log for log in logs if "seal_broken" in log]
        assert not [log for log in logs if "canary of turn" in log]


async def _is_past(traffic: Traffic, turns: int) -> bool:
    return traffic.turns > turns


async def test_a_node_without_the_new_root_key_serves_on_and_says_what_it_lacks(
    install: Install,
) -> None:
    """The file is copied before the next start, or the next rotation."""
    directories = await asyncio.to_thread(install, 2)
    async with open_nodes(directories, before={0: BEFORE, 1: BEFORE}) as nodes:
        mac = await nodes.enroll("mac")
        assert (await mac.set_bootstrap_token(b"bootstrap")).ok
        kept = (await nodes.ask(0, "POST", "/keys/rotate-root", content={}))["kept"]
        for node, fits in ((0, True), (1, False)):
            found = await keys(nodes, node)
            assert {one["fits"] for one in found["items"]} == {fits}
        for _ in range(4):  # at both nodes
            assert (await mac.get_bootstrap_token()).token == b"bootstrap"
        own = [directory / "keys" / "root.key" for directory in directories]
        assert own[1].read_bytes() == own[0].with_name(kept).read_bytes()
        shutil.copy2(own[0], own[1])
        assert {one["fits"] for one in (await keys(nodes, 1))["items"]} == {True}
        await nodes.ask(1, "POST", "/keys/rotate", content={})
        await until(lambda: is_rotated(nodes, 2))
        for _ in range(4):
            assert (await mac.get_bootstrap_token()).token == b"bootstrap"
