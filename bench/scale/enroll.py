"""A fleet enrolls: Authenticate, TokenUpdate, a Mac's SetBootstrapToken, and the first commands."""

import asyncio
import time
from collections.abc import Sequence

from bench import messages
from bench.fleet import TOPIC
from bench.scale.crowd import Member, command_in, enrolling, make_members, sign_grouped
from bench.scale.house import push_certificate
from bench.scale.stage import ActFigures, ActMeter, Stage
from bench.scale.talk import Visit
from bench.scale.woken import idle_of
from bench.wire import Exchange, WrongAnswer

ENROLLED_AT_ONCE = 2000
CONNECTIONS = 32
MOST_FIRST_COMMANDS = 8


async def enroll(stage: Stage, count: int) -> ActFigures:
    """Everybody enrolls and answers the first commands, some thousand after the other."""
    meter = ActMeter(stage, "enroll")
    await stage.operate("PUT", "/v1/pushcert", push_certificate(stage.house, TOPIC))
    signing = 0.0
    for first in range(0, count, ENROLLED_AT_ONCE):
        began = time.monotonic()
        members = make_members(stage.fleet, first, min(ENROLLED_AT_ONCE, count - first))
        hellos = list(sign_grouped(stage.fleet, [enrolling(member) for member in members]))
        polls = stage.fleet.sign([messages.idle(member.device) for member in members])
        for member, poll in zip(members, polls, strict=True):
            member.idle = poll
        signing += time.monotonic() - began
        await _all_say(stage, hellos)
        signing += await _answer_first_commands(stage, members)
        stage.members += members
    return await meter.figures(
        count, f"{signing:.0f} s of it went into making certificates and signatures beforehand"
    )


async def _answer_first_commands(stage: Stage, members: Sequence[Member]) -> float:
    signing = 0.0
    asked: list[tuple[Member, Exchange]] = [(one, idle_of(one)) for one in members]
    for _ in range(MOST_FIRST_COMMANDS):
        bodies = await _all_say(stage, [[exchange] for _, exchange in asked])
        found = [
            (member, uuid)
            for (member, _), body in zip(asked, bodies, strict=True)
            if (uuid := command_in(body)) is not None
        ]
        if not found:
            return signing
        began = time.monotonic()
        drafts = [messages.acknowledged(member.device, uuid) for member, uuid in found]
        signed = stage.fleet.sign(drafts)
        asked = [(member, answer) for (member, _), answer in zip(found, signed, strict=True)]
        signing += time.monotonic() - began
    raise WrongAnswer("the commands of an enrollment never end")


async def _all_say(stage: Stage, queues: Sequence[Sequence[Exchange]]) -> list[bytes]:
    """The last answer to each queue; some connections share the queues, as devices behind one proxy do."""
    last = [b""] * len(queues)
    waiting = iter(enumerate(queues))

    async def work() -> None:
        visit = Visit(stage.port, stage.tally)
        for at, queue in waiting:
            for exchange in queue:
                last[at] = await visit.say(exchange)
        visit.end()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(CONNECTIONS, len(queues))):
            group.create_task(work())
    return last
