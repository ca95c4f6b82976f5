"""Devices that talk without a pause, and what must be stored of what they were told."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from e2e.nodes import Nodes, insist, until
from ostiary_sim.device import Device
from ostiary_sim.levers import KEEP
from ostiary_sim.messages import identity_keys, token_update


@dataclass
class Talker:
    """One device: new push tokens, and every command that it is given."""

    device: Device
    tokens_before: int
    acknowledged: list[str]
    """What all talkers were acknowledged, in order."""
    queued: frozenset[str] = frozenset()
    """What was queued for it by name; the server asks for more by itself, whenever it comes round to it."""
    tokens: int = 0
    finished: set[str] = field(default_factory=set)

    async def talk(self, rounds: int) -> None:
        for _ in range(rounds):
            channel = self.device.channel()
            channel.push_token = self.device.rng.randbytes(32)
            management = self.device.installed.profile.management
            update = token_update(
                self.device, channel, management, unlock_token=None, awaiting=KEEP
            )
            await insist(self.device, update)
            self.tokens += 1
            self.acknowledged.append("TokenUpdate")
            await self._obey()

    async def _obey(self) -> None:
        """Report, and do what is handed out, until nothing is."""
        report: dict[str, object] = {"Status": "Idle"}
        while True:
            answer = await insist(self.device, report | identity_keys(self.device, None))
            if report["Status"] == "Acknowledged":
                self.finished.add(str(report["CommandUUID"]))
                self.acknowledged.append("Acknowledged")
            if not answer.body:
                return
            uuid = answer.fields()["CommandUUID"]
            assert uuid not in self.finished, "handed out again after its result was acknowledged"
            report = {"Status": "Acknowledged", "CommandUUID": uuid, "QueryResponses": {}}


@dataclass
class Burst:
    """Several of them at once, and something that happens in the middle."""

    nodes: Nodes
    talkers: list[Talker]
    acknowledged: list[str]
    rounds: int

    async def run(self, in_the_middle: Callable[[], Awaitable[None]]) -> None:
        """Let them talk to their end; a third of the way something happens."""
        third = len(self.talkers) * self.rounds // 3

        async def happen() -> None:
            await until(lambda: _has(self.acknowledged, third))
            await in_the_middle()

        async with asyncio.TaskGroup() as group:
            group.create_task(happen())
            for talker in self.talkers:
                group.create_task(talker.talk(self.rounds))

    async def require_all(self, node: int) -> None:
        """Every acknowledged token is a generation; every command that was queued or acknowledged is done."""
        for talker in self.talkers:
            name = talker.device.udid
            stored = await self.nodes.generations(node, name, "push")
            assert len(stored) - talker.tokens_before == talker.tokens
            states = await self.nodes.states(node, name)
            done = {uuid for uuid, state in states.items() if state == "done"}
            assert talker.queued | talker.finished <= done


async def prepare_burst(
    nodes: Nodes, node: int, *, devices: int, rounds: int, commands: int
) -> Burst:
    """Enrolled devices with commands in their queues."""
    acknowledged: list[str] = []
    talkers = []
    for _ in range(devices):
        device = await nodes.enroll()
        await device.idle()
        queued = [
            await nodes.enqueue(node, device.udid, "device-information") for _ in range(commands)
        ]
        before = len(await nodes.generations(node, device.udid, "push"))
        talker = Talker(
            device=device,
            tokens_before=before,
            acknowledged=acknowledged,
            queued=frozenset(queued),
        )
        talkers.append(talker)
    return Burst(nodes=nodes, talkers=talkers, acknowledged=acknowledged, rounds=rounds)


async def _has(things: Sequence[object], at_least: int) -> bool:
    return len(things) >= at_least
