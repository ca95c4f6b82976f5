"""Several real nodes on one PostgreSQL, without stickiness: killed, stopped, and asked about what another one did."""

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from e2e.bursts import prepare_burst
from e2e.nodes import Nodes, import_push_certificate, make_installations, open_nodes, until
from ostiary.web.server import SLEPT_SECONDS
from ostiary_sim.device import Device
from ostiary_sim.messages import identity_keys
from ostiary_sim.wire import CHECK_IN_TYPE
from served import served

Install = Callable[[int], list[Path]]


@pytest.fixture
def install(tmp_path: Path, postgres_url: str) -> Install:
    """Data directories of so many nodes on one empty database."""
    return lambda count: make_installations(tmp_path, postgres_url, count)


async def test_each_message_of_a_life_may_come_to_another_node(install: Install) -> None:
    """Invited at one, certified at the next, and so on: no node knows anything that the others do not. (design.md 4)"""
    directories = await asyncio.to_thread(install, 3)
    async with open_nodes(directories, (), (), ("--processes", "3")) as nodes:
        iphone, mac = await nodes.enroll("iphone"), await nodes.enroll("mac")
        for number in range(9):
            device = (iphone, mac)[number % 2]
            uuid = await nodes.enqueue(number % 3, device.udid, "device-information")
            assert (await device.change_push_token()).ok
            session = await device.idle()
            assert session.completed
            assert (await nodes.states((number + 1) % 3, device.udid))[uuid] == "done"
        assert (await mac.set_bootstrap_token(b"bootstrap")).ok
        assert (await mac.get_bootstrap_token()).token == b"bootstrap"
        assert set(nodes.spread.heard) == {0, 1, 2}
        shown = [
            await nodes.ask(node, "GET", "/device", params={"id": iphone.udid}) for node in range(3)
        ]
        assert shown[0] == shown[1] == shown[2]
        # The new push token, told at one node, is what any node's pusher uses; the device hears it and obeys.
        uuid = await nodes.enqueue(1, iphone.udid, "device-information", push=True)
        await until(lambda: is_done(nodes, 2, iphone, uuid))


async def is_done(nodes: Nodes, node: int, device: Device, uuid: str) -> bool:
    return (await nodes.states(node, device.udid))[uuid] == "done"


@pytest.mark.parametrize("flags", [(), ("--processes", "3")])
async def test_a_node_killed_in_a_burst_loses_nothing_that_was_acknowledged(
    install: Install, flags: tuple[str, ...], long_form: bool
) -> None:
    """SIGKILL to all its processes: devices repeat at the others, and no command comes back after its result."""
    directories = await asyncio.to_thread(install, 2)
    async with open_nodes(directories, (), flags) as nodes:
        burst = await prepare_burst(
            nodes, 0, devices=12 if long_form else 4, rounds=60 if long_form else 8, commands=4
        )

        async def kill() -> None:
            nodes.signal(1, signal.SIGKILL)
            nodes.servers[1].process.wait()

        await burst.run(kill)
        assert nodes.spread.in_vain[1]
        await burst.require_all(0)


async def test_a_stopped_node_is_gone_round_and_undoes_nothing_when_it_wakes(
    install: Install,
) -> None:
    """SIGSTOP, as a hypervisor does: its port still takes connections, its requests time out and come again elsewhere.

    What stood in line there is older than what the device said since: a push token that is stored late is a device
    that nobody reaches.
    """
    directories = await asyncio.to_thread(install, 2)
    async with open_nodes(directories) as nodes:
        burst = await prepare_burst(nodes, 0, devices=3, rounds=4, commands=2)
        devices = [talker.device for talker in burst.talkers]

        async def stop() -> None:
            nodes.signal(1, signal.SIGSTOP)
            vain_before.update(nodes.spread.in_vain)
            nodes.spread.give_up_on(1)
            stopped_at.append(asyncio.get_running_loop().time())

        vain_before: Counter[int] = Counter()
        stopped_at: list[float] = []
        await burst.run(stop)
        # A node that sleeps for less than this is not a node on which anybody has given up.
        await until(lambda: _is_past(stopped_at[0] + SLEPT_SECONDS + 1))
        in_vain = nodes.spread.in_vain[1] - vain_before[1]
        assert in_vain > len(devices)
        told = {device.udid: await current_push(nodes, 0, device) for device in devices}
        nodes.signal(1, signal.SIGCONT)
        await until(lambda: is_ready(nodes, 1))
        # What it had begun to answer when it was stopped, one for each device at most, it ends; the rest it drops.
        await until(lambda: _dropped(nodes, 1, in_vain - len(devices)))
        await burst.require_all(1)
        for device in devices:
            assert await current_push(nodes, 0, device) == told[device.udid]
            uuid = await nodes.enqueue(0, device.udid, "device-information", push=True)
            await device.channel().listen()
            await until(lambda device=device, uuid=uuid: is_done(nodes, 1, device, uuid))  # type: ignore[misc]  # a lambda's defaults have no types


async def _is_past(moment: float) -> bool:
    return asyncio.get_running_loop().time() > moment


async def _dropped(nodes: Nodes, node: int, at_least: int) -> bool:
    return nodes.servers[node].log.read_text().count("late_request_dropped") >= at_least


async def current_push(nodes: Nodes, node: int, device: Device) -> str:
    """The newest generation of its push token."""
    newest: str = (await nodes.generations(node, device.udid, "push"))[-1]["digest"]
    return newest


async def is_ready(nodes: Nodes, node: int) -> bool:
    return (await nodes.get(node, "/readyz")).status_code == 200


async def test_what_one_node_decides_is_in_force_on_the_other(install: Install) -> None:
    """Nothing sticks to a node: tokens and decisions hold at once, policies after five seconds at most."""
    directories = await asyncio.to_thread(install, 2)
    async with open_nodes(directories) as nodes:
        iphone, mac = await nodes.enroll("iphone"), await nodes.enroll("mac")
        nodes.spread.servers[:] = [
            nodes.servers[1]
        ]  # from here on devices speak to the second node

        ask = {"name": "watcher", "scopes": ["read"]}
        old = (await nodes.ask(0, "POST", "/api-tokens", content=ask))["token"]
        assert await metrics_status(nodes, 1, old) == 200
        new = (await nodes.ask(0, "POST", "/api-tokens", content=ask | {"replace": True}))["token"]
        assert await metrics_status(nodes, 1, old) == 401
        assert await metrics_status(nodes, 1, new) == 200

        stranger = {"MessageType": "UserAuthenticate", "UserID": "F00D"}
        question = stranger | identity_keys(mac, None)
        assert (await mac._put(question, CHECK_IN_TYPE)).status == 410

        ask = {"name": "user_login", "value": "empty-challenge"}
        await nodes.ask(0, "POST", "/policies", content=ask)
        await until(lambda: is_answered(mac, question, 200))

        ask = {"id": iphone.udid, "reason": "sold"}
        await nodes.ask(0, "POST", "/device/release", content=ask)
        await iphone.idle()
        assert iphone.profile is None


async def metrics_status(nodes: Nodes, node: int, token: str) -> int:
    """As from another machine, where a token is asked for."""
    headers = {"Authorization": f"Bearer {token}", "Via": "1.1 proxy"}
    return (await nodes.get(node, "/metrics", headers=headers)).status_code


async def is_answered(device: Device, message: dict[str, object], status: int) -> bool:
    return (await device._put(message, CHECK_IN_TYPE)).status == status


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


async def test_pushes_that_a_dead_node_had_claimed_are_another_nodes_after_its_lease(
    install: Install, postgres_url: str, silent_port: int
) -> None:
    """The worker that claimed them waits for APNs' answer when it is killed; the next one is as good. (design.md 4)"""
    directories = await asyncio.to_thread(install, 3)
    async with open_nodes(
        directories,
        ("--only", "web"),
        ("--only", "worker"),
        ("--only", "worker"),
        listening=[0],
        env_of={1: {"OSTIARY_APNS__PORT": str(silent_port)}},
    ) as nodes:
        nodes.signal(2, signal.SIGSTOP)
        iphone = await nodes.enroll()
        await iphone.idle()
        uuid = await nodes.enqueue(0, iphone.udid, "device-information", push=True)
        database = await asyncpg.connect(postgres_url)
        await until(lambda: _is_claimed(database))
        nodes.signal(1, signal.SIGKILL)
        nodes.servers[1].process.wait()
        nodes.signal(2, signal.SIGCONT)
        # Its lease is over: the moment is moved, and whoever waits for a later one is rung for.
        await database.execute("UPDATE wake SET due_at = now() WHERE claimed")
        await database.execute("NOTIFY ostiary_wake")
        await until(lambda: is_done(nodes, 0, iphone, uuid))
        await database.close()


async def _is_claimed(database: "asyncpg.Connection[Any]") -> bool:
    return bool(await database.fetchval("SELECT count(*) FROM wake WHERE claimed"))


async def test_a_push_certificate_brought_in_at_one_node_is_used_by_the_others_pusher(
    install: Install,
) -> None:
    """No node keeps the old one at hand: APNs refuses it, and the push that follows the import arrives. (AP-09)"""
    directories = await asyncio.to_thread(install, 2)
    async with open_nodes(
        directories, ("--only", "web"), ("--only", "worker"), listening=[0]
    ) as nodes:
        iphone = await nodes.enroll()
        uuid = await nodes.enqueue(0, iphone.udid, "device-information", push=True)
        await until(lambda: is_done(nodes, 0, iphone, uuid))
        old = nodes.apple.push_credential
        renewed = nodes.apple.authority.issue_push_certificate(topic=old.topic)
        nodes.apple.apns.levers.distrust(old.certificate.serial_number)
        await import_push_certificate(nodes, 0, renewed)
        uuid = await nodes.enqueue(0, iphone.udid, "device-information", push=True)
        await until(lambda: is_done(nodes, 0, iphone, uuid))
        assert [one.verdict.status for one in nodes.apple.apns.requests].count(403) == 0


async def test_a_worker_alone_answers_those_who_run_it_and_nobody_else(
    install: Install,
) -> None:
    """It may share the directory of the server that does the rest, and takes no command from it."""
    directories = await asyncio.to_thread(install, 1)
    async with open_nodes([directories[0]]) as nodes:
        shared = directories[0]
        ready = shared.parent / "worker"
        ready.mkdir()
        with served(shared, "--only", "worker", beside=ready) as worker:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{worker.port}") as client:
                assert (await client.get("/readyz")).text == "ready\n"
                assert "ostiary_processes 1.0" in (await client.get("/metrics")).text
                assert (await client.put("/mdm")).status_code == 404
                assert (await client.get("/version")).status_code == 404
            assert worker.stop() == 0
        assert (await nodes.ask(0, "GET", "/status"))["version"]
