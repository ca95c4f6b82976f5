"""The levers that other processes pull: plain HTTP with JSON. Source: check-in-and-commands.md 5.3, 5.5."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from ostiary_sim.apns import ControlServer, PushCredential, SimulatedApns
from ostiary_sim.apns.control import LEVERS
from unit.sim.apns.test_server import push


@pytest.fixture
async def levers(apns: SimulatedApns) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        ControlServer(apns) as control,
        httpx.AsyncClient(base_url=control.url, trust_env=False) as made,
    ):
        yield made


async def test_every_lever_is_told(levers: httpx.AsyncClient) -> None:
    told = (await levers.get("/")).json()
    assert [(one["method"], one["path"]) for one in told] == [
        (one.method, one.path) for one in LEVERS
    ]
    assert (await levers.post("/no-such-lever")).status_code == 404


async def test_answers_are_held_back_until_they_are_released(
    levers: httpx.AsyncClient,
    apns: SimulatedApns,
    client: httpx.AsyncClient,
    credential: PushCredential,
) -> None:
    """An Apple that is slow."""
    await levers.post("/hold")
    waiting = asyncio.ensure_future(push(client, credential.topic))
    await apns.until_held(1)
    assert not waiting.done()
    assert (await levers.get("/requests")).json() == []
    await levers.post("/release")
    assert (await waiting).status_code == 200
    assert (await push(client, credential.topic)).status_code == 200


@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_ends_in_the_middle_of_what_it_holds(
    levers: httpx.AsyncClient,
    apns: SimulatedApns,
    client: httpx.AsyncClient,
    credential: PushCredential,
    reset: bool,
) -> None:
    """GOAWAY, or nothing: what was not answered never was."""
    await levers.post("/hold")
    tokens = [number.to_bytes(32) for number in (1, 2, 3)]
    waiting = [asyncio.ensure_future(push(client, credential.topic, one)) for one in tokens]
    await apns.until_held(3)
    await levers.post("/leave-amid", json={"answered": 1, "reset": reset})
    await asyncio.gather(*waiting, return_exceptions=True)
    on_the_first = [seen for seen in apns.requests if seen.connection == 1]
    assert len(on_the_first) == 1
    assert (await push(client, credential.topic)).status_code == 200
