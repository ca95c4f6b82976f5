"""Real nodes, each a process or several, on one real PostgreSQL; devices whose messages go to one after the other."""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from typing_extensions import override

from installation import URL, journal_as_before
from ostiary.cli.desk import Desk
from ostiary.cli.main import run
from ostiary_sim.apns.certificates import PushCredential
from ostiary_sim.device import Device
from ostiary_sim.personality import PERSONALITIES
from ostiary_sim.retry import RetryPolicy
from ostiary_sim.wire import CHECK_IN_TYPE, COMMAND_TYPE, Answer
from ostiary_sim.world import SimulatedApple
from served import Server, served

HOST = "127.0.0.1"
PATIENCE_SECONDS = 60.0
"""For what comes by itself; far more than it takes, for machines that have other things to do."""

MOMENT_SECONDS = 0.7
"""How long a sender waits for a node that is stopped; a real one waits for a minute, and what follows is the same."""

Row = dict[str, Any]


def make_installations(directory: Path, database_url: str, count: int) -> list[Path]:
    """`ostiary init` for the first node, a copy of its directory for every other; not within an event loop."""
    first = directory / "node-1" / "data"
    first.parent.mkdir()
    with journal_as_before():
        command = ["init", "--data", str(first), "--url", URL, "--listen", f"{HOST}:0", "--no-tls"]
        assert run([*command, "--database", database_url]) == 0
    others = [directory / f"node-{number}" / "data" for number in range(2, count + 1)]
    for other in others:
        shutil.copytree(first, other)
    return [first, *others]


class Spread(httpx.AsyncBaseTransport):
    """Message k goes to node k mod n, on a connection of its own: nothing may depend on which node heard the last."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = list(servers)
        self.heard: list[int] = []
        """Which node had which message."""
        self.in_vain: Counter[int] = Counter()
        """Messages that a node did not answer."""
        self._given_up_soon: set[int] = set()
        self._waiting: dict[asyncio.Timeout, int] = {}
        self._turns = itertools.count()
        self._transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    def give_up_on(self, place: int) -> None:
        """Wait for this node's answers only for a moment, from now on and where one is waited for already."""
        self._given_up_soon.add(place)
        soon = asyncio.get_running_loop().time() + MOMENT_SECONDS
        for waiting, where in self._waiting.items():
            if where == place:
                waiting.reschedule(soon)

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        place = next(self._turns) % len(self.servers)
        self.heard.append(place)
        node = self.servers[place]
        request.url = request.url.copy_with(scheme="http", host=node.host, port=node.port)
        moment = MOMENT_SECONDS if place in self._given_up_soon else None
        try:
            async with asyncio.timeout(moment) as waiting:
                self._waiting[waiting] = place
                try:
                    return await self._whole_answer(request)
                finally:
                    del self._waiting[waiting]
        except (httpx.HTTPError, TimeoutError) as trouble:
            self.in_vain[place] += 1
            raise httpx.ReadError("no answer") from trouble

    async def _whole_answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        try:
            await response.aread()
        finally:
            await response.aclose()
        return response

    @override
    async def aclose(self) -> None:
        await self._transport.aclose()


@dataclass
class Nodes:
    """What a scene has at hand."""

    directories: list[Path]
    servers: list[Server]
    apple: SimulatedApple
    spread: Spread
    client: httpx.AsyncClient
    devices: list[Device] = field(default_factory=list)

    async def enroll(self, personality: str = "iphone") -> Device:
        """A device that came in by an invitation, each message at another node."""
        device = Device(
            PERSONALITIES[personality],
            http=self.client,
            push=self.apple.apns,
            retry=RetryPolicy(attempts=20, first_pause_seconds=0.05, factor=1.2),
        )
        self.devices.append(device)
        ask = {"valid_seconds": 3600, "uses": 1}
        async with self.desk(0) as desk:
            invitation = await desk.ask("POST", "/invitations", content=ask)
        await device.enroll(await device.fetch_profile(invitation["url"]))
        return device

    @asynccontextmanager
    async def desk(self, node: int) -> AsyncIterator[Desk]:
        """The commands of one node, through its control socket."""
        socket = str(self.directories[node] / "control.sock")
        async with httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=socket),
            base_url="http://ostiary",
            headers={"X-Ostiary-Actor": "scene"},
            timeout=PATIENCE_SECONDS,
        ) as client:
            yield Desk(client)

    async def ask(self, node: int, method: str, path: str, **more: Any) -> Any:
        """One question to one node."""
        async with self.desk(node) as desk:
            return await desk.ask(method, path, **more)

    async def enqueue(self, node: int, enrollment_id: str, command: str, **more: object) -> str:
        """Queue a command by its name; its UUID."""
        ask = {"ids": [enrollment_id], "command": command, "push": False} | more
        answer = await self.ask(node, "POST", "/commands", content=ask)
        assert answer["results"][0]["error"] is None, answer
        uuid: str = answer["uuid"]
        return uuid

    async def states(self, node: int, enrollment_id: str) -> dict[str, str]:
        """Every command's state by its UUID."""
        params = {"id": enrollment_id, "all": "1"}
        found = await self.ask(node, "GET", "/commands", params=params)
        return {each["uuid"]: each["state"] for each in found["items"]}

    async def generations(self, node: int, enrollment_id: str, kind: str) -> list[Row]:
        """Every generation of a kind of token, oldest first."""
        found = await self.ask(node, "GET", "/tokens/history", params={"id": enrollment_id})
        return [each for each in found["items"] if each["kind"] == kind]

    async def get(self, node: int, path: str, **more: Any) -> httpx.Response:
        """What one node answers at an address of its port."""
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
            server = self.servers[node]
            return await client.get(f"http://{server.host}:{server.port}{path}", **more)

    def signal(self, node: int, number: signal.Signals) -> None:
        """Send it to every process of a node, as `systemctl kill` or a hypervisor does."""
        parent = self.servers[node].process.pid
        for pid in (parent, *children_of(parent)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def children_of(pid: int) -> list[int]:
    """The processes that it started and that live."""
    return [
        int(file.parent.name)
        for file in Path("/proc").glob("[0-9]*/stat")
        if _parent_of(file) == pid
    ]


def _parent_of(file: Path) -> int | None:
    with contextlib.suppress(OSError):
        state, parent = file.read_text().rpartition(")")[2].split()[:2]
        return int(parent) if state != "Z" else None
    return None


@contextmanager
def serving(
    directories: Sequence[Path],
    flags: Sequence[tuple[str, ...]],
    env: dict[str, str],
    env_of: dict[int, dict[str, str]],
    before: dict[int, tuple[str, ...]],
) -> Iterator[list[Server]]:
    """Each directory served with its flags and its environment, and what stands before its command."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                served(
                    directory,
                    *more,
                    env=env | env_of.get(place, {}),
                    before=before.get(place, ()),
                )
            )
            for place, (directory, more) in enumerate(zip(directories, flags, strict=True))
        ]


@asynccontextmanager
async def open_nodes(
    directories: Sequence[Path],
    *flags: tuple[str, ...],
    listening: Sequence[int] | None = None,
    env_of: dict[int, dict[str, str]] | None = None,
    before: dict[int, tuple[str, ...]] | None = None,
) -> AsyncIterator[Nodes]:
    """A node for each directory, a simulated Apple with a push certificate that the first node took in.

    Messages go to the nodes at the places `listening`; without it, to all.
    """
    async with SimulatedApple(directories[0].parent / "apple") as apple:
        env = {
            "OSTIARY_APNS__HOST": HOST,
            "OSTIARY_APNS__PORT": str(apple.port),
            "OSTIARY_APNS__CA": str(apple.ca_file),
        }
        all_flags = flags or [()] * len(directories)
        with serving(directories, all_flags, env, env_of or {}, before or {}) as servers:
            places = range(len(servers)) if listening is None else listening
            spread = Spread([servers[place] for place in places])
            async with httpx.AsyncClient(
                transport=spread, trust_env=False, timeout=PATIENCE_SECONDS
            ) as client:
                nodes = Nodes(list(directories), servers, apple, spread, client)
                await import_push_certificate(nodes, places[0])
                try:
                    yield nodes
                finally:
                    for device in nodes.devices:
                        await device.close()


async def import_push_certificate(
    nodes: Nodes, node: int, credential: PushCredential | None = None
) -> None:
    """`ostiary apns import`, at one node."""
    credential = credential or nodes.apple.push_credential
    ask = {
        "pem": credential.certificate_pem.decode(),
        "key_pem": credential.key_pem.decode(),
        "confirm_new_topic": True,
    }
    await nodes.ask(node, "POST", "/push-certificates", content=ask)


async def until(
    question: Callable[[], Awaitable[bool]], *, seconds: float = PATIENCE_SECONDS
) -> None:
    """Ask until the answer is yes."""
    async with asyncio.timeout(seconds):
        while not await question():  # noqa: ASYNC110 - other processes set no event of ours
            await asyncio.sleep(0.05)


async def insist(device: Device, message: dict[str, object]) -> Answer:
    """Send one message until it is acknowledged, as a device does that gets a 503 or no answer."""
    is_report = "Status" in message
    media_type = COMMAND_TYPE if is_report else CHECK_IN_TYPE
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer = await device._put(message, media_type)  # once, and without obeying
            if answer.ok:
                return answer
            assert answer.status in (0, 503), (answer.status, answer.sentence)
            await asyncio.sleep(0.05)
