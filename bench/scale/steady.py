"""A modest load that goes on and on: polls, changed tokens, commands, NotNow, devices that enroll anew, reports."""

import asyncio
import os
import plistlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

from bench import messages
from bench.fleet import Draft
from bench.scale.crowd import Member, command_in, enrolling, not_now, push_token
from bench.scale.stage import Stage
from bench.scale.talk import Visit
from bench.scale.woken import PARTLY_DONE, idle_of, new_uuid
from bench.wire import Exchange

TICK_SECONDS = 0.1
MOST_AT_ONCE = 500
"""Visits under way; with more of them the machine is not keeping up, and further ones are left out."""
IS_BUSY = 0.15
"""How often a device says NotNow to a command."""
ENQUEUE_EVERY_SECONDS = 1.0
LOOK_EVERY_SECONDS = 10

Play = Callable[[Visit, Member], Awaitable[None]]


class Steady:
    """Keeps `per_second` devices a second coming."""

    def __init__(self, stage: Stage, per_second: float) -> None:
        self._stage = stage
        self._per_second = per_second
        self._draw = random.Random(1)  # noqa: S311 - the same mixture each time
        self._at_once = 0
        self._in_contact: set[int] = set()
        self.left_out = 0
        self._plays: Sequence[tuple[Play, float]] = (
            (self._poll, 0.70),
            (self._token_update, 0.14),
            (self._bootstrap, 0.14),
            (self._enroll_anew, 0.02),
        )

    async def run(self, seconds: float) -> None:
        """Until the time is over and the last visit has ended."""
        ends_at = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            operating = [group.create_task(self._operate()), group.create_task(self._look())]
            self._stage.on_push = lambda number: self._start(group, number, self._poll)
            owed = 0.0
            while time.monotonic() < ends_at:
                owed += self._per_second * TICK_SECONDS
                for _ in range(int(owed)):
                    (play,) = self._draw.choices(*zip(*self._plays, strict=True))
                    self._start(group, self._draw.randrange(len(self._stage.members)), play)
                owed -= int(owed)
                await asyncio.sleep(TICK_SECONDS)
            self._stage.on_push = None
            for task in operating:
                task.cancel()

    def _start(self, group: asyncio.TaskGroup, number: int, play: Play) -> None:
        if self._at_once >= MOST_AT_ONCE:
            self.left_out += 1
            return
        if number not in self._in_contact:  # a device speaks with one voice
            self._in_contact.add(number)
            self._at_once += 1
            group.create_task(self._visit(self._stage.members[number], play))

    async def _visit(self, member: Member, play: Play) -> None:
        visit = Visit(self._stage.port, self._stage.tally)
        try:
            await play(visit, member)
        finally:
            visit.end()
            self._in_contact.discard(member.number)
            self._at_once -= 1

    async def _poll(self, visit: Visit, member: Member) -> None:
        said = idle_of(member)
        while (uuid := command_in(await visit.say(said))) is not None:
            is_busy = self._draw.random() < IS_BUSY
            draft = not_now if is_busy else messages.acknowledged
            said = await self._signed(draft(member.device, uuid))

    async def _token_update(self, visit: Visit, member: Member) -> None:
        draft = messages.token_update(member.device, unlock=not member.is_mac)
        draft.message["Token"] = push_token(member)
        await visit.say(await self._signed(draft))

    async def _bootstrap(self, visit: Visit, member: Member) -> None:
        if not member.is_mac:
            return await self._poll(visit, member)
        value = os.urandom(messages.BOOTSTRAP_TOKEN_BYTES)
        await visit.say(await self._signed(messages.set_bootstrap_token(member.device, value)))
        await visit.say(await self._signed(messages.get_bootstrap_token(member.device, value)))
        return None

    async def _enroll_anew(self, visit: Visit, member: Member) -> None:
        for draft in enrolling(member):
            await visit.say(await self._signed(draft))
        await self._poll(visit, member)

    async def _signed(self, draft: Draft) -> Exchange:
        """Signed by another process, so that this one has time to listen."""
        loop = asyncio.get_running_loop()
        (exchange,) = await loop.run_in_executor(None, self._stage.fleet.sign, [draft])
        return exchange

    async def _operate(self) -> None:
        """A command for a few devices each second, by a program."""
        named = max(1, int(self._per_second / 20))
        while True:
            chosen = self._draw.sample(self._stage.members, min(named, len(self._stage.members)))
            ids = ",".join(member.device.udid for member in chosen)
            body = plistlib.dumps(messages.device_information(new_uuid()))
            await self._stage.operate("PUT", f"/v1/enqueue/{ids}", body, *PARTLY_DONE)
            await asyncio.sleep(ENQUEUE_EVERY_SECONDS)

    async def _look(self) -> None:
        """What a monitoring system asks; and, to compare with, how long it takes to be told that the process lives."""
        for second in count():
            if second % LOOK_EVERY_SECONDS == 0:
                await self._stage.operate("GET", "/metrics", b"", 401, 403)
                await self._stage.operate("GET", "/readyz", b"")
            began = time.perf_counter()
            await self._stage.operate("GET", "/healthz", b"")
            self._stage.bare_ms = (time.perf_counter() - began) * 1000
            await asyncio.sleep(1)
