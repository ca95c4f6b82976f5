"""Devices that come when they are pushed, and the commands that they are pushed for."""

import asyncio
import plistlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

from bench import messages
from bench.fleet import Device, Draft
from bench.scale.crowd import Member, command_in
from bench.scale.stage import NAMED_AT_ONCE, Stage
from bench.scale.talk import Visit
from bench.wire import Exchange, WrongAnswer

ENQUEUES_AT_ONCE = 4
REACTS_WITHIN_SECONDS = 2.0
"""Between APNs' taking a push and the device's first byte to us."""
QUIET_SECONDS = 600.0
"""Without a single answer for so long, the act has failed."""
PARTLY_DONE = (207, 500)
"""How NanoMDM's API says that commands were queued and pushes failed."""


class NobodyComes(Exception):
    """Nothing has moved for a long time."""


@asynccontextmanager
async def waking(stage: Stage, uuid: str, answers: Sequence[Exchange]) -> AsyncIterator["Woken"]:
    """Let devices come when they are pushed; ends when the last one has answered. Raises NobodyComes."""
    async with asyncio.TaskGroup() as group:
        woken = Woken(stage, uuid, answers, group)
        stage.on_push = woken.wake
        try:
            yield woken
            await woken.all_answered()
        finally:
            stage.on_push = None


class Woken:
    """Devices that come once they are pushed, say Idle, and say what they have to say to the command they are handed."""

    def __init__(
        self,
        stage: Stage,
        uuid: str,
        answers: Sequence[Exchange],
        group: asyncio.TaskGroup,
        *,
        comes_again: bool = False,
    ) -> None:
        self._stage = stage
        self._uuid = uuid
        self._answers = answers
        self._in_contact: set[int] = set()
        self._answered: set[int] = set()
        self._group = group
        self._comes_again = comes_again
        self._finished = asyncio.Event()
        self.answered_at: list[float] = []
        self.most_at_once = 0

    async def all_answered(self) -> None:
        """Wait until the last one has answered. Raises NobodyComes."""
        watching = self._group.create_task(self._watch())
        await self._finished.wait()
        watching.cancel()

    def wake(self, number: int) -> None:
        """It was pushed, or has a reason of its own to come."""
        if number in self._in_contact or number in self._answered:
            return
        self._in_contact.add(number)
        self.most_at_once = max(self.most_at_once, len(self._in_contact))
        self._group.create_task(self._come(number))

    async def _come(self, number: int) -> None:
        await asyncio.sleep(random.uniform(0, REACTS_WITHIN_SECONDS))  # noqa: S311 - it only spreads them
        visit = Visit(self._stage.port, self._stage.tally)
        body = await visit.say(idle_of(self._stage.members[number]))
        if command_in(body) == self._uuid:
            await visit.say(self._answers[number])
            if not self._comes_again:
                self._answered.add(number)
            self.answered_at.append(time.monotonic())
        visit.end()
        self._in_contact.discard(number)
        if len(self._answered) == len(self._stage.members):
            self._finished.set()

    async def _watch(self) -> None:
        """Raises NobodyComes when nothing has moved for a long time."""
        before = -1
        while before != len(self.answered_at):
            before = len(self.answered_at)
            await asyncio.sleep(QUIET_SECONDS)
        raise NobodyComes(f"{before:,} of {len(self._stage.members):,} have answered")


async def enqueue_for_all(stage: Stage, uuid: str) -> int:
    """One command for everybody through /v1/enqueue, some hundred named at once; how many pushes failed."""
    body = plistlib.dumps(messages.device_information(uuid))
    ids = [member.device.udid for member in stage.members]
    parts = iter([ids[at : at + NAMED_AT_ONCE] for at in range(0, len(ids), NAMED_AT_ONCE)])
    failed = 0

    async def work() -> None:
        nonlocal failed
        for part in parts:
            answer = await stage.operate("PUT", f"/v1/enqueue/{','.join(part)}", body, *PARTLY_DONE)
            if b'"command_error"' in answer:
                raise WrongAnswer(f"not queued for everybody: {answer[:300]!r}")
            failed += answer.count(b'"push_error"')

    async with asyncio.TaskGroup() as group:
        for _ in range(ENQUEUES_AT_ONCE):
            group.create_task(work())
    return failed


def sign_answers(stage: Stage, uuid: str, make: Callable[[Device, str], Draft]) -> list[Exchange]:
    """What each device says of this command."""
    return stage.fleet.sign([make(member.device, uuid) for member in stage.members])


def idle_of(member: Member) -> Exchange:
    """Its poll, made when it enrolled."""
    if member.idle is None:
        raise RuntimeError("this device never enrolled")
    return member.idle


def new_uuid() -> str:
    """A CommandUUID."""
    return str(uuid4()).upper()
