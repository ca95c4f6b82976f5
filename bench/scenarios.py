"""What devices do while the server is measured. Everything is made and signed before the clock starts."""

import asyncio
import gc
import os
import plistlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self
from urllib.parse import quote
from uuid import uuid4

from bench import messages
from bench.contestants import Contestant, Kind
from bench.figures import BAR_CONNECTIONS, Figures
from bench.fleet import Device, Draft, Fleet
from bench.wire import Exchange, WrongAnswer, ask, connect, render_request

_NAMED_AT_ONCE = 200
_WARM_UP = 64
_MOST_FIRST_COMMANDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of each to do, by number of connections."""

    enrolling: dict[int, int]
    idle: dict[int, int]
    writes: dict[int, int]

    def only(self, connections: Collection[int]) -> Self:
        """The same with so many connections and no others; enrolling stays, because it makes the fleet."""
        return replace(
            self,
            idle={one: count for one, count in self.idle.items() if one in connections},
            writes={one: count for one, count in self.writes.items() if one in connections},
        )


FULL = Size(
    enrolling={1: 150, 16: 400, 64: 450},
    idle={1: 3000, 16: 10_000, 64: 10_000},
    writes={1: 1500, 16: 4000, 64: 4000},
)
QUICK = Size(
    enrolling={1: 30, 16: 80, 64: 90},
    idle={1: 500, 16: 1600, 64: 1600},
    writes={1: 250, 16: 600, 64: 600},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Servers that are measured in turns, and the fleet that is enrolled with each of them.

    All are sent the very same bytes, which are made and signed once.
    """

    contestants: list[Contestant]
    fleet: Fleet
    devices: list[Device]
    figures: list[Figures]
    """All that was measured."""

    async def measure(
        self, scenario: str, kind: Kind, connections: int, queues: Sequence[Sequence[Exchange]]
    ) -> None:
        """Drive the load against one after the other, and see what it costs each."""
        for contestant in self.contestants:
            load = await connect(contestant.port, queues)
            gc.collect()
            watch = contestant.start_watch()
            timings = await load.run()
            self.figures.append(watch.stop(scenario, kind, connections, timings))
        self.rotate()

    def rotate(self) -> None:
        """Let another one begin next time."""
        self.contestants.append(self.contestants.pop(0))

    async def warm_up(self, drafts: Sequence[Draft], *, each: int = 1) -> None:
        """Send this once, `each` of a device in turn: certificates become known, statements are prepared."""
        signed = self.fleet.sign(drafts)
        queues = deal(signed, BAR_CONNECTIONS, devices=len(drafts) // each, each=each)
        for contestant in self.contestants:
            load = await connect(contestant.port, queues)
            await load.run()


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
    await _expect_ok(stage, "PUT", "/v1/pushcert", body)


async def enroll(stage: Stage, count_by_connections: dict[int, int]) -> None:
    """Authenticate and the first TokenUpdate of new devices, one after the other; then they belong to the stage."""
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
        await stage.measure("enroll: Authenticate, TokenUpdate", "enroll", connections, queues)
        polls = stage.fleet.sign([messages.idle(device) for device in devices])
        for contestant in stage.contestants:
            await _answer_first_commands(stage.fleet, contestant, devices, polls)
        stage.devices.extend(devices)


async def idle(stage: Stage, count_by_connections: dict[int, int]) -> None:
    """Polls with nothing to do, by devices that sign in one way or the other."""
    for has_attributes, name in ((False, "body signed"), (True, "attributes signed")):
        devices = [replace(device, has_attributes=has_attributes) for device in stage.devices]
        await stage.warm_up([messages.idle(device) for device in devices[:_WARM_UP]])
        signed = stage.fleet.sign([messages.idle(device) for device in devices])
        for connections, count in count_by_connections.items():
            turns = [signed[turn % len(signed)] for turn in range(count)]
            queues = deal(turns, connections, devices=len(signed))
            await stage.measure(f"Idle, {name}", "idle", connections, queues)


async def token_update(stage: Stage, count_by_connections: dict[int, int]) -> None:
    """Other values each time: of the push token alone, and of the unlock token with it."""
    for unlock, name in ((False, "TokenUpdate"), (True, "TokenUpdate with UnlockToken")):
        make = partial(messages.token_update, unlock=unlock)
        await stage.warm_up(_turns(stage, _WARM_UP, make))
        for connections, count in count_by_connections.items():
            await _measure_turns(stage, name, connections, _turns(stage, count, make))


async def bootstrap(stage: Stage, count_by_connections: dict[int, int]) -> None:
    """SetBootstrapToken with another value each time, then GetBootstrapToken, which must return the last one."""
    last: dict[str, bytes] = {}

    def set_new(device: Device) -> Draft:
        last[device.udid] = os.urandom(messages.BOOTSTRAP_TOKEN_BYTES)
        return messages.set_bootstrap_token(device, last[device.udid])

    def get_last(device: Device) -> Draft:
        return messages.get_bootstrap_token(device, last[device.udid])

    await stage.warm_up(_turns(stage, len(stage.devices), set_new))
    await stage.warm_up(_turns(stage, _WARM_UP, get_last))
    for connections, count in count_by_connections.items():
        drafts = _turns(stage, count, set_new)
        await _measure_turns(stage, "SetBootstrapToken", connections, drafts)
        drafts = _turns(stage, count, get_last)
        await _measure_turns(stage, "GetBootstrapToken", connections, drafts)


async def command(stage: Stage, count_by_connections: dict[int, int]) -> None:
    """Commands queued beforehand: Idle, a command, Acknowledged, the next one, and so on until nothing more comes."""
    await _warm_up_commands(stage)
    for connections, count in count_by_connections.items():
        devices = stage.devices[: count // 2]
        rounds = [await _enqueue(stage, devices) for _ in range(max(1, count // len(devices) - 1))]
        drafts = [
            draft
            for device, *uuids in zip(devices, *rounds, strict=True)
            for draft in messages.work_off(device, uuids)
        ]
        queues = deal(
            stage.fleet.sign(drafts), connections, devices=len(devices), each=len(rounds) + 1
        )
        await stage.measure("command step", "write", connections, queues)


async def _warm_up_commands(stage: Stage) -> None:
    devices = stage.devices[:_WARM_UP]
    uuids = await _enqueue(stage, devices)
    drafts = [
        draft
        for device, uuid in zip(devices, uuids, strict=True)
        for draft in messages.work_off(device, [uuid])
    ]
    await stage.warm_up(drafts, each=2)


def _turns(stage: Stage, count: int, make: Callable[[Device], Draft]) -> list[Draft]:
    """One message after the other, each of the next device."""
    return [make(stage.devices[turn % len(stage.devices)]) for turn in range(count)]


async def _measure_turns(
    stage: Stage, name: str, connections: int, drafts: Sequence[Draft]
) -> None:
    queues = deal(stage.fleet.sign(drafts), connections, devices=len(stage.devices))
    await stage.measure(name, "write", connections, queues)


async def _enqueue(stage: Stage, devices: Sequence[Device]) -> list[str]:
    """Queue a command for each of them; its CommandUUID, for each of them.

    Those that are named together share one command; NanoMDM takes a CommandUUID only once.
    """
    uuids: list[str] = []
    for start in range(0, len(devices), _NAMED_AT_ONCE):
        named, uuid = devices[start : start + _NAMED_AT_ONCE], str(uuid4()).upper()
        body = plistlib.dumps(messages.device_information(uuid))
        ids = quote(",".join(device.udid for device in named), safe=",")
        await _expect_ok(stage, "PUT", f"/v1/enqueue/{ids}?nopush=1", body)
        uuids += [uuid] * len(named)
    return uuids


async def _answer_first_commands(
    fleet: Fleet, contestant: Contestant, devices: Sequence[Device], polls: Sequence[Exchange]
) -> None:
    """Work off what an enrollment begins with, so that an Idle has nothing to do."""
    waiting = list(zip(devices, polls, strict=True))
    for _ in range(_MOST_FIRST_COMMANDS):
        bodies = await _ask_all(contestant.port, [exchange for _, exchange in waiting])
        answered = [
            (device, messages.acknowledged(device, plistlib.loads(body)["CommandUUID"]))
            for (device, _), body in zip(waiting, bodies, strict=True)
            if body
        ]
        if not answered:
            return
        signed = fleet.sign([draft for _, draft in answered])
        waiting = [(device, signed[at]) for at, (device, _) in enumerate(answered)]
    raise WrongAnswer("the commands of an enrollment never end")


async def _ask_all(port: int, exchanges: Sequence[Exchange]) -> list[bytes]:
    """What is answered to each, in the same order; several at once."""
    bodies = [b""] * len(exchanges)

    async def ask_some(first: int) -> None:
        for at in range(first, len(exchanges), BAR_CONNECTIONS):
            _, bodies[at] = await ask(port, exchanges[at].request)

    await asyncio.gather(*(ask_some(first) for first in range(BAR_CONNECTIONS)))
    return bodies


async def _expect_ok(stage: Stage, method: str, path: str, body: bytes) -> None:
    """What an operator does, with each of the servers."""
    for contestant in stage.contestants:
        request = render_request(method, path, body, contestant.authorization)
        head, said = await ask(contestant.port, request)
        if head[9:12] != b"200":
            raise WrongAnswer(f"{contestant.name}: {head[:40]!r}: {said[:500]!r}")
