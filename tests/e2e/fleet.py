"""A whole Ostiary on a real TLS port, a simulated Apple, and simulated devices: the world of the fleet's scenes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from socket import create_server
from typing import Any

import apsw

from ostiary.app import serve
from ostiary.cli.desk import Desk, open_desk
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.house import House, SystemClock, open_house
from ostiary.secret import Secret
from ostiary.settings import load_settings
from ostiary.worker.push_loop import PushPace, push_due
from ostiary_sim.apns import PushRequest
from ostiary_sim.connections import TlsClients
from ostiary_sim.device import Device
from ostiary_sim.events import Event
from ostiary_sim.personality import PERSONALITIES, Personality
from ostiary_sim.world import SimulatedApple

HOST = "127.0.0.1"
URL = f"https://{HOST}:8443"

Row = dict[str, Any]


@dataclass
class MovedClock:
    """A clock that stands at the start of a scene until the scene moves it, so that nobody is pushed by chance."""

    moment: datetime = field(default_factory=SystemClock().now)

    def now(self) -> datetime:
        return self.moment

    def advance(self, **duration: float) -> None:
        self.moment += timedelta(**duration)


@dataclass
class FailingDisk:
    """A trace that fails commits while it is told to."""

    fails: bool = False
    fails_at: str | None = None
    """The event of a device from which on it fails."""

    def repair(self) -> None:
        self.fails, self.fails_at = False, None

    def __call__(self, step: str) -> None:
        if self.fails and step == "committing":
            raise apsw.IOError("disk I/O error")


@dataclass
class Fleet:
    """What a scene has at hand."""

    house: House
    apple: SimulatedApple
    desk: Desk
    clients: TlsClients
    clock: MovedClock
    disk: FailingDisk
    devices: list[Device] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        """Keep what a device tells."""
        self.events.append(event)
        if event.what == self.disk.fails_at:
            self.disk.fails = True

    def new_device(
        self, personality: str | Personality, *, udid: str | None = None, serial: str | None = None
    ) -> Device:
        """A device that nobody has enrolled; it waits for nothing between its attempts. `udid`, `serial`: what it says."""
        device = Device(
            PERSONALITIES[personality] if isinstance(personality, str) else personality,
            http=self.clients,
            push=self.apple.apns,
            listener=self.hear,
            clock=self.clock.now,
            sleeper=_at_once,
            udid=udid,
            serial=serial,
        )
        self.devices.append(device)
        return device

    async def enroll(self, personality: str | Personality) -> Device:
        """A device that came in by an invitation, with its users, and answered its first commands."""
        device = self.new_device(personality)
        await device.enroll(await self.profile(device))
        for short_name in device.personality.initial_users:
            await device.user_login(short_name)
        await self.wake()
        return device

    async def profile(self, device: Device) -> bytes:
        """The profile behind a new invitation."""
        ask = {"valid_seconds": 3600, "uses": 1}
        invitation = await self.desk.ask("POST", "/invitations", content=ask)
        return await device.fetch_profile(invitation["url"])

    async def enqueue(self, enrollment_id: str, command: str, **more: object) -> Row:
        """Queue a command by its name; the result for this enrollment."""
        ask = {"ids": [enrollment_id], "command": command, "push": True} | more
        answer = await self.desk.ask("POST", "/commands", content=ask)
        result: Row = answer["results"][0] | {"uuid": answer["uuid"]}
        return result

    async def push(self, enrollment_id: str) -> Row:
        """Ask for a push now; its result."""
        results = await self.desk.ask("POST", "/pushes", content={"ids": [enrollment_id]})
        result: Row = results[0]
        return result

    async def wake(self) -> None:
        """Let the moment of every push that is planned soon come, and the devices act upon it."""
        self.clock.advance(seconds=3)
        stop, pace = asyncio.Event(), PushPace()
        while await push_due(self.house.storage.wakes, self.house.pushes, self.clock, stop, pace):
            pass
        await self.apple.apns.settle()

    async def enrollment(self, enrollment_id: str) -> Row:
        """What `ostiary device show` tells of it, the newest relationship first."""
        found = await self.desk.ask("GET", "/device", params={"id": enrollment_id})
        row: Row = found["enrollments"][0]
        return row

    async def tokens(self, enrollment_id: str, kind: str) -> list[Row]:
        """Every generation of that kind, oldest first."""
        found = await self.desk.ask("GET", "/tokens/history", params={"id": enrollment_id})
        return [
            each
            for each in found["items"]
            if each["kind"] == kind and each["holder"] == enrollment_id
        ]

    async def commands(self, enrollment_id: str) -> list[Row]:
        """Every command, waiting ones first."""
        params = {"id": enrollment_id, "all": "1"}
        found = await self.desk.ask("GET", "/commands", params=params)
        items: list[Row] = found["items"]
        return items

    async def renew(self, device: Device) -> Row:
        """`ostiary identity renew`; its result for this device."""
        answer = await self.desk.ask("POST", "/identities/renew", content={"ids": [device.udid]})
        result: Row = answer["results"][0]
        return result

    def pushes(self) -> list[PushRequest]:
        """Every push request that reached Apple."""
        return list(self.apple.apns.requests)


@asynccontextmanager
async def open_fleet(data: Path) -> AsyncIterator[Fleet]:
    """The installation in `data`, served on a free port, with a push certificate of a simulated Apple."""
    clock, disk, stop = MovedClock(), FailingDisk(), asyncio.Event()
    async with AsyncExitStack() as stack:
        apple = await stack.enter_async_context(SimulatedApple(data / "apple"))
        port = _free_port()
        settings = load_settings(
            data,
            url=f"https://{HOST}:{port}",
            listen=f"{HOST}:{port}",
            apns={"host": HOST, "port": apple.port, "ca": apple.ca_file},
        )
        house = await stack.enter_async_context(open_house(settings, clock, disk))
        await house.push_certificates.import_certificate(
            apple.push_credential.certificate_pem,
            tenant=DEFAULT_TENANT,
            key_pem=Secret(apple.push_credential.key_pem),
            confirm_new_topic=False,
            actor="scene",
        )
        group = await stack.enter_async_context(asyncio.TaskGroup())
        ready = asyncio.Event()
        group.create_task(serve(house, stop, ready=lambda _: ready.set()))
        stack.callback(stop.set)
        await ready.wait()
        clients = TlsClients(settings.places.ca_bundle)
        stack.push_async_callback(clients.aclose)
        desk = await stack.enter_async_context(open_desk(data))
        fleet = Fleet(house=house, apple=apple, desk=desk, clients=clients, clock=clock, disk=disk)
        stack.push_async_callback(_close_devices, fleet)
        yield fleet


async def _close_devices(fleet: Fleet) -> None:
    for device in fleet.devices:
        await device.close()


async def _at_once(_seconds: float) -> None:
    """Wait for nothing, but let others run."""
    await asyncio.sleep(0)


def _free_port() -> int:
    with create_server((HOST, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
