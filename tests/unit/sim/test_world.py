"""Apple, courier, levers and a fleet together."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ostiary_sim.apns import CourierClient
from ostiary_sim.connections import load_identity
from ostiary_sim.device import Device
from ostiary_sim.events import Event
from ostiary_sim.identity import Identity
from ostiary_sim.personality import PERSONALITIES
from ostiary_sim.world import SimulatedApple, SimulatedFleet, run_apple, run_devices
from unit.sim.fake_mdm import FakeMdm


@pytest.fixture
async def apple(tmp_path: Path) -> AsyncIterator[SimulatedApple]:
    async with SimulatedApple(tmp_path / "apple") as made:
        yield made


def pushing(apple: SimulatedApple) -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=str(apple.ca_file))
    key = apple.push_credential.key
    assert key is not None
    load_identity(context, Identity(key=key, certificate=apple.push_credential.certificate))
    return httpx.AsyncClient(
        http1=False, http2=True, verify=context, base_url=apple.apns.url, trust_env=False
    )


async def push(client: httpx.AsyncClient, apple: SimulatedApple, device: Device) -> httpx.Response:
    return await client.post(
        f"/3/device/{device.push_token.hex()}",
        json={"mdm": device.push_magic},
        headers={"apns-topic": apple.topic, "apns-push-type": "mdm", "apns-expiration": "0"},
    )


async def test_a_push_reaches_a_device_in_the_same_process(apple: SimulatedApple) -> None:
    server = FakeMdm()
    device = Device(
        PERSONALITIES["iphone"], http=server.transport, clock=server.clock, push=apple.apns, seed=1
    )
    await device.enroll(server.profile(Topic=apple.topic))
    server.queue("DeviceInformation", Queries=["SerialNumber"])
    async with pushing(apple) as client:
        assert (await push(client, apple, device)).status_code == 200
        await apple.apns.settle()
    assert server.statuses() == ["Idle", "Acknowledged"]
    assert server.reports[-1]["QueryResponses"] == {"SerialNumber": device.serial}


async def test_a_push_reaches_a_fleet_by_courier(apple: SimulatedApple) -> None:
    server = FakeMdm()
    heard: asyncio.Queue[Event] = asyncio.Queue()

    def listen(event: Event) -> None:
        if event.what == "session_ended":
            heard.put_nowait(event)

    host, _, port = apple.endpoints["courier"].rpartition(":")
    profile = server.profile(Topic=apple.topic)
    server.profile = lambda **_: profile  # type: ignore[method-assign]  # the enrollment URL serves this one
    async with (
        CourierClient(host, int(port)) as courier,
        SimulatedFleet(
            enroll_url="https://mdm.example/enroll",
            count=3,
            personality=["iphone", "mac"],
            push=courier,
            http=server.transport,
            clock=server.clock,
            listener=listen,
            seed=1,
        ) as fleet,
    ):
        report = await fleet.enroll_all()
        assert report.enrolled == 3
        assert not report.failures
        assert {device.personality.name for device in fleet.devices} == {"iphone", "mac"}
        assert "ada" in fleet.devices[1].users
        async with pushing(apple) as client:
            for device in fleet.devices:
                assert (await push(client, apple, device)).status_code == 200
            async with asyncio.timeout(20):
                serials = {(await heard.get()).serial for _ in fleet.devices}
        assert serials == {device.serial for device in fleet.devices}


async def test_levers_are_pulled_from_outside(apple: SimulatedApple) -> None:
    async with (
        httpx.AsyncClient(base_url=apple.control.url, trust_env=False) as levers,
        pushing(apple) as client,
    ):
        token = bytes(32)
        orders = {
            "/kill": {"token": token.hex(), "timestamp": "2026-01-02T00:00:00+00:00"},
            "/fail-next": {"status": 500, "reason": "InternalServerError", "count": 1},
        }
        for path, order in orders.items():
            assert (await levers.post(path, json=order)).status_code == 200
        statuses = [
            (
                await client.post(
                    f"/3/device/{token.hex()}",
                    json={"mdm": "M"},
                    headers={"apns-push-type": "mdm"},
                )
            ).status_code
            for _ in range(2)
        ]
        assert statuses == [500, 410]
        seen = (await levers.get("/requests")).json()
        assert [each["reason"] for each in seen] == ["InternalServerError", "Unregistered"]
        assert (await levers.post("/heal", json={})).status_code == 200
        assert (await levers.post("/nowhere", json={})).status_code == 404
        assert (await levers.post("/kill", json={"token": "zz"})).status_code == 400
        assert (await levers.get("/tokens")).json() == {}


async def test_a_failed_enrollment_is_counted_and_told() -> None:
    server = FakeMdm()
    server.script("Authenticate", 500)
    async with SimulatedFleet(
        enroll_url="https://mdm.example/enroll",
        count=2,
        http=server.transport,
        clock=server.clock,
        concurrency=1,
    ) as fleet:
        report = await fleet.enroll_all()
    assert report.enrolled == 1
    assert list(report.failures.values()) == [1]


async def test_the_endpoints_are_said_and_written(tmp_path: Path) -> None:
    stop = asyncio.Event()
    stop.set()
    said: list[str] = []
    await run_apple(tmp_path, say=said.append, stop=stop)
    endpoints = json.loads(said[0])
    assert json.loads((tmp_path / "apple.json").read_text()) == endpoints
    assert endpoints["topic"].startswith("com.apple.mgmt.External.")
    for name in ("ca_file", "push_certificate_file", "push_key_file"):
        assert endpoints[name].startswith(str(tmp_path))
    await run_apple(tmp_path, say=said.append, stop=stop)
    assert json.loads(said[1])["topic"] == endpoints["topic"]


async def test_devices_without_a_server_report_their_failure() -> None:
    said: list[str] = []
    report = await run_devices("https://127.0.0.1:1/enroll", say=said.append, stay=False)
    assert report.enrolled == 0
    assert json.loads(said[0])["enrolled"] == 0


async def test_a_fleet_does_by_itself_what_needs_no_push() -> None:
    """Logins after Setup Assistant, polls after NotNow, pending messages."""
    server = FakeMdm()
    async with SimulatedFleet(
        enroll_url="https://mdm.example/enroll",
        count=2,
        personality=[replace(PERSONALITIES["mac"], awaiting=True), "iphone"],
        http=server.transport,
        clock=server.clock,
        seed=1,
    ) as fleet:
        mac, phone = fleet.devices
        await fleet.enroll_all()
        assert mac.users == {}
        server.queue("DeviceConfigured")
        await mac.idle()
        phone.say_not_now(["SecurityInfo"])
        server.queue("SecurityInfo")
        await phone.idle()
        phone.ready()
        await fleet.poll_all()
        assert mac.users["ada"].managed
        assert mac.bootstrap.escrowed
        assert server.queues["device"] == []
        stop = asyncio.Event()
        asyncio.get_running_loop().call_soon(stop.set)
        await fleet.stay(stop, poll_seconds=0.001)
