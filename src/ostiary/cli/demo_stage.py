"""Where the demo plays: the server, the simulated Apple and devices, the board, and waiting for what must happen."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from ostiary.cli.demo_board import Board, BoardRow, TokenLine
from ostiary.cli.demo_house import DemoFailed, DemoHouse
from ostiary.cli.demo_screen import Screen
from ostiary.cli.desk import Desk
from ostiary.house import SystemClock
from ostiary_sim.connections import TlsClients
from ostiary_sim.device import Device
from ostiary_sim.errors import SimulationFailed
from ostiary_sim.events import Event
from ostiary_sim.personality import PERSONALITIES, UserChannels
from ostiary_sim.users import User
from ostiary_sim.world import SimulatedApple

STEP_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.05
_FRESH_SECONDS: Final = 0.25
_LOOKS_UNTIL_STALE: Final = 10
_MOST: Final = 500


@dataclass(slots=True, kw_only=True)
class Stage:
    """The means of every scene. `pause_seconds` lets a person follow."""

    house: DemoHouse
    server: Process
    apple: SimulatedApple
    desk: Desk
    board: Board
    screen: Screen
    pause_seconds: float
    clients: TlsClients
    devices: list[Device] = field(default_factory=list)
    answered: list[tuple[str, str, str, str]] = field(default_factory=list)
    """Serial, channel, request type and status of every command that a device answered."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def act(self, sentence: str) -> None:
        """Say what comes now."""
        self.board.act = sentence
        self._news.set()

    def tell_all(self, answers: Iterable[tuple[str, str]]) -> None:
        """Show what a command answered: what about, and what."""
        for about, text in answers:
            self.board.answer(SystemClock().now(), about, text)
        self._news.set()

    async def pause(self) -> None:
        """Leave time to look at what happened."""
        await self.look()
        await asyncio.sleep(self.pause_seconds)

    def new_device(self, personality: str, name: str) -> tuple[Device, BoardRow]:
        """A device out of its box, and its row."""
        device = Device(
            PERSONALITIES[personality],
            http=self.clients,
            push=self.apple.apns,
            listener=self.hear,
        )
        self.devices.append(device)
        row = BoardRow(name=name, who=name, serial=device.serial, channel="device", id=device.udid)
        return device, self.board.add(row)

    def new_user(self, device: Device, short_name: str) -> BoardRow:
        """The row of somebody who is about to log in there; `know_user` completes it."""
        name = short_name.partition("@")[0]
        whose = next(row.name for row in self.board.rows if row.serial == device.serial)
        return self.board.add(
            BoardRow(
                name=name,
                who=f"{name} ({whose})",
                serial=device.serial,
                channel=short_name,
                is_user=True,
            )
        )

    def know_user(self, row: BoardRow, device: Device, user: User) -> None:
        """Say which enrollment the row is about: a Mac's users have GUIDs, a Shared iPad's their names."""
        is_mac = device.personality.user_channels is UserChannels.MAC
        row.id = f"{device.udid}:{user.guid if is_mac else user.short_name}"

    def hear(self, event: Event) -> None:
        """Take an event of a device."""
        if event.what == "command_answered":
            request_type, _, status = event.detail.partition(": ")
            self.answered.append((event.serial, event.channel, request_type, status))
        self.board.hear(event)
        self._news.set()

    def has_answered(self, row: BoardRow, request_type: str, status: str = "Acknowledged") -> bool:
        """Say whether the channel of this row answered such a command so."""
        return (row.serial, row.channel, request_type, status) in self.answered

    async def until(self, wanted: str, happened: Callable[[], bool]) -> None:
        """Wait for something that must happen. Raises DemoFailed."""
        looks = 0
        try:
            async with asyncio.timeout(STEP_SECONDS):
                while not happened():
                    self.require_server()
                    await asyncio.sleep(_LOOK_SECONDS)
                    looks += 1
                    if looks % _LOOKS_UNTIL_STALE == 0:
                        self._news.set()  # the server may know what no device told
        except TimeoutError:
            raise DemoFailed(
                f"{wanted}: this did not happen within {STEP_SECONDS:.0f} seconds",
                f"The server's log is {self.house.log}.",
            ) from None

    def require_server(self) -> None:
        """Raises DemoFailed if the server has ended."""
        if self.server.returncode is not None:
            raise DemoFailed(
                f"the server ended with {self.server.returncode} in the middle of the demo",
                f"Its log is {self.house.log}.",
            )

    def require(self, wanted: str, *, holds: bool) -> None:
        """Raises DemoFailed unless it holds."""
        if not holds:
            raise DemoFailed(f"{wanted}: this is not so", f"The server's log is {self.house.log}.")

    async def played(self, name: str, doing: Awaitable[Any]) -> Any:
        """Let a device do something; its failure is the demo's. Raises DemoFailed."""
        try:
            return await doing
        except SimulationFailed as problem:
            raise DemoFailed(
                f"{name}: {problem}", f"The server's log is {self.house.log}."
            ) from None

    async def look(self) -> None:
        """Ask the server for its view and show it."""
        devices = await self._ask("/devices")
        commands = await self._ask("/commands")
        self.board.take(devices, commands, await self.ledger())
        self.screen.refresh()

    async def ledger(self) -> list[dict[str, Any]]:
        """Every generation of every token."""
        return await self._ask("/tokens")

    async def _ask(self, path: str) -> list[dict[str, Any]]:
        try:
            answer = await self.desk.ask("GET", path, params={"all": "1", "limit": _MOST})
        except httpx.HTTPError:
            await asyncio.sleep(_LOOK_SECONDS)  # its end is known a moment after its silence
            self.require_server()
            raise DemoFailed(
                "the server does not answer any more", f"Its log is {self.house.log}."
            ) from None
        items: list[dict[str, Any]] = answer["items"]
        return items

    @asynccontextmanager
    async def looked_at(self) -> AsyncIterator[None]:
        """Show what happens while the block runs. Raises what it raises, and DemoFailed."""
        try:
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(self._keep_looking())
                yield
                looking.cancel()
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _keep_looking(self) -> None:
        """Look whenever something happened."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self.look()
            await asyncio.sleep(_FRESH_SECONDS)

    async def come_back(self) -> None:
        """Let devices come that would come by themselves, and look."""
        for device in self.devices:
            if device.profile is not None:
                await device.poll()
        self._news.set()

    async def close(self) -> None:
        """The devices fall silent; none of them leaves."""
        for device in self.devices:
            await device.close()


def token(row: BoardRow, kind: str) -> TokenLine | None:
    """The newest generation of that kind."""
    found = [each for each in row.tokens if each.kind == kind]
    return found[-1] if found else None


def generation(row: BoardRow, kind: str) -> int:
    """The number of the newest generation; 0 if there is none."""
    newest = token(row, kind)
    return 0 if newest is None else newest.generation


def has_state(row: BoardRow, state: str) -> bool:
    """Say whether the server says so of this enrollment."""
    return row.state == state


def is_proven(row: BoardRow, kind: str) -> bool:
    """Say whether the newest generation is in force and was shown to work."""
    newest = token(row, kind)
    return newest is not None and newest.state == "ok" and newest.is_proven
