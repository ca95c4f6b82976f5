"""What devices do while the server is measured. Everything is made and signed before the clock starts."""

import gc
import os
import plistlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import quote
from uuid import uuid4

from bench import messages
from bench.figures import Figures
from bench.fleet import Device, Draft, Fleet
from bench.house import Process
from bench.wire import Exchange, WrongAnswer, ask, connect, render_request

IDLE_BAR_MS = 0.25
WRITE_BAR_MS = 0.35
_NAMED_AT_ONCE = 200
_MOST_FIRST_COMMANDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of each to do, by number of connections."""

    devices: int
    enrolling: dict[int, int]
    idle: dict[int, int]
    writes: dict[int, int]

    @property
    def connections(self) -> tuple[int, ...]:
        return tuple(self.idle)


FULL = Size(
    devices=1000,
    enrolling={1: 150, 16: 400, 64: 450},
    idle={1: 3000, 16: 10_000, 64: 10_000},
    writes={1: 1500, 16: 4000, 64: 4000},
)
QUICK = Size(
    devices=200,
    enrolling={1: 30, 16: 80, 64: 90},
    idle={1: 500, 16: 1600, 64: 1600},
    writes={1: 250, 16: 600, 64: 600},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A server, its fleet, and who is enrolled."""

    server: Process
    fleet: Fleet
    authorization: dict[str, str]
    devices: list[Device]

    async def measure(
        self,
        scenario: str,
        connections: int,
        queues: Sequence[Sequence[Exchange]],
        bar: float | None,
    ) -> Figures:
        """Drive the load and see what it costs the server."""
        return await measure(self.server, scenario, connections, queues, bar)


async def measure(
    server: Process,
    scenario: str,
    connections: int,
    queues: Sequence[Sequence[Exchange]],
    bar: float | None,
) -> Figures:
    """Send the queues and compare the server's processor time before and after."""
    load = await connect(server.port, queues)
    gc.collect()
    cpu, wall = server.cpu_seconds(), time.perf_counter()
    timings = await load.run()
    wall_after, cpu_after = time.perf_counter(), server.cpu_seconds()
    return Figures.of(
        scenario,
        connections,
        timings,
        cpu_seconds=cpu_after - cpu,
        wall_seconds=wall_after - wall,
        bar_ms=bar,
    )


def deal(
    exchanges: Sequence[Exchange], connections: int, *, devices: int, each: int = 1
) -> list[list[Exchange]]:
    """One queue a connection. A device stays on its connection, so its messages keep their order.

    The exchanges come in turns: `each` of the first device, `each` of the second and so on, again and again.
    """
    queues: list[list[Exchange]] = [[] for _ in range(connections)]
    for turn, start in enumerate(range(0, len(exchanges), each)):
        queues[turn % devices % connections].extend(exchanges[start : start + each])
    return queues


async def import_push_certificate(stage: Stage) -> None:
    """As an operator does, through NanoMDM's API."""
    body = stage.fleet.push_certificate_pem()
    await _expect_ok(stage, render_request("PUT", "/v1/pushcert", body, stage.authorization))


async def enroll(stage: Stage, count_by_connections: dict[int, int]) -> list[Figures]:
    """Authenticate and the first TokenUpdate of new devices, one after the other; then they belong to the stage."""
    figures = []
    for connections, count in count_by_connections.items():
        devices = stage.fleet.make_devices(count)
        drafts = [
            draft
            for device in devices
            for draft in (
                messages.authenticate(device),
                messages.token_update(device, unlock=True),
            )
        ]
        queues = deal(stage.fleet.sign(drafts), connections, devices=count, each=2)
        figures.append(
            await stage.measure("enroll: Authenticate, TokenUpdate", connections, queues, None)
        )
        await _answer_first_commands(stage, devices)
        stage.devices.extend(devices)
    return figures


async def idle(stage: Stage, count_by_connections: dict[int, int]) -> list[Figures]:
    """Polls with nothing to do, by devices that sign in one way or the other."""
    figures = []
    for has_attributes, name in ((False, "body signed"), (True, "attributes signed")):
        devices = [replace(device, has_attributes=has_attributes) for device in stage.devices]
        signed = stage.fleet.sign([messages.idle(device) for device in devices])
        for connections, count in count_by_connections.items():
            turns = [signed[turn % len(signed)] for turn in range(count)]
            queues = deal(turns, connections, devices=len(signed))
            figures.append(await stage.measure(f"Idle, {name}", connections, queues, IDLE_BAR_MS))
    return figures


async def token_update(stage: Stage, count_by_connections: dict[int, int]) -> list[Figures]:
    """Other values each time: of the push token alone, and of the unlock token with it."""
    figures = []
    for unlock, name in ((False, "TokenUpdate"), (True, "TokenUpdate with UnlockToken")):
        for connections, count in count_by_connections.items():
            drafts = _turns(
                stage,
                count,
                partial(messages.token_update, unlock=unlock),
            )
            figures.append(await _measure_turns(stage, name, connections, drafts))
    return figures


async def bootstrap(stage: Stage, count_by_connections: dict[int, int]) -> list[Figures]:
    """SetBootstrapToken with another value each time, then GetBootstrapToken, which must return the last one."""
    last: dict[str, bytes] = {}

    def set_new(device: Device) -> Draft:
        last[device.udid] = os.urandom(messages.BOOTSTRAP_TOKEN_BYTES)
        return messages.set_bootstrap_token(device, last[device.udid])

    every = _turns(stage, len(stage.devices), set_new)
    load = await connect(stage.server.port, deal(stage.fleet.sign(every), 16, devices=len(every)))
    await load.run()
    setting, getting = [], []
    for connections, count in count_by_connections.items():
        drafts = _turns(stage, count, set_new)
        setting.append(await _measure_turns(stage, "SetBootstrapToken", connections, drafts))
        drafts = _turns(
            stage, count, lambda device: messages.get_bootstrap_token(device, last[device.udid])
        )
        getting.append(await _measure_turns(stage, "GetBootstrapToken", connections, drafts))
    return setting + getting


async def command(stage: Stage, count_by_connections: dict[int, int]) -> list[Figures]:
    """Commands queued beforehand: Idle, a command, Acknowledged, the next one, and so on until nothing more comes."""
    figures = []
    for connections, count in count_by_connections.items():
        devices = stage.devices[: count // 2]
        uuids = [str(uuid4()).upper() for _ in range(max(1, count // len(devices) - 1))]
        for uuid in uuids:
            await _enqueue(stage, devices, uuid)
        drafts = [draft for device in devices for draft in messages.work_off(device, uuids)]
        queues = deal(
            stage.fleet.sign(drafts), connections, devices=len(devices), each=len(uuids) + 1
        )
        figures.append(await stage.measure("command step", connections, queues, WRITE_BAR_MS))
    return figures


def _turns(stage: Stage, count: int, make: Callable[[Device], Draft]) -> list[Draft]:
    """One message after the other, each of the next device."""
    return [make(stage.devices[turn % len(stage.devices)]) for turn in range(count)]


async def _measure_turns(
    stage: Stage, name: str, connections: int, drafts: Sequence[Draft]
) -> Figures:
    queues = deal(stage.fleet.sign(drafts), connections, devices=len(stage.devices))
    return await stage.measure(name, connections, queues, WRITE_BAR_MS)


async def _enqueue(stage: Stage, devices: Sequence[Device], uuid: str) -> None:
    body = plistlib.dumps(messages.device_information(uuid))
    for start in range(0, len(devices), _NAMED_AT_ONCE):
        ids = ",".join(device.udid for device in devices[start : start + _NAMED_AT_ONCE])
        path = f"/v1/enqueue/{quote(ids, safe=',')}?nopush=1"
        await _expect_ok(stage, render_request("PUT", path, body, stage.authorization))


async def _answer_first_commands(stage: Stage, devices: Sequence[Device]) -> None:
    """Work off what every enrollment begins with, so that an Idle has nothing to do."""
    polled = stage.fleet.sign([messages.idle(device) for device in devices])
    waiting = list(zip(devices, polled, strict=True))
    for _ in range(_MOST_FIRST_COMMANDS):
        answered = []
        for device, exchange in waiting:
            _, body = await ask(stage.server.port, exchange.request)
            if body:
                uuid = plistlib.loads(body)["CommandUUID"]
                answered.append((device, messages.acknowledged(device, uuid)))
        if not answered:
            return
        signed = stage.fleet.sign([draft for _, draft in answered])
        waiting = [(device, signed[at]) for at, (device, _) in enumerate(answered)]
    raise WrongAnswer("the commands of an enrollment never end")


async def _expect_ok(stage: Stage, request: bytes) -> None:
    head, body = await ask(stage.server.port, request)
    if head[9:12] != b"200":
        raise WrongAnswer(f"{head[:40]!r}: {body[:500]!r}")
