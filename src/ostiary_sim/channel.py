"""One channel between a device (or one of its users) and the server: its push address and its command sessions.

Source: check-in-and-commands.md 2.5 steps 4, 6, 7; 3.1 to 3.4.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ostiary_sim import commands, messages
from ostiary_sim.channel_name import DEVICE
from ostiary_sim.errors import MessageUnreadable
from ostiary_sim.levers import KEEP, Keep
from ostiary_sim.outcomes import Outcome
from ostiary_sim.personality import draw_uuid
from ostiary_sim.users import User
from ostiary_sim.wire import NO_ANSWER, Answer

if TYPE_CHECKING:
    from ostiary_sim.device import Device

PUSH_TOKEN_BYTES: Final = 32
_IDLE: Final = "Idle"
_NOT_NOW: Final = "NotNow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """One command and how it went."""

    uuid: str
    request_type: str
    status: str
    command: dict[str, Any] = field(repr=False)
    """As received; it may hold secrets."""


@dataclass(slots=True, kw_only=True)
class Session:
    """What one connection to the server brought."""

    executed: list[Executed] = field(default_factory=list)
    completed: bool = False
    """The server ended the session with an empty answer."""
    status: int = NO_ANSWER
    """The last HTTP status."""

    @property
    def request_types(self) -> list[str]:
        """The commands received, in order."""
        return [each.request_type for each in self.executed]


class Channel:
    """The device channel (`user` is None) or one user's channel."""

    def __init__(self, device: "Device", user: User | None) -> None:
        self.device = device
        self.user = user
        self.push_token = device.rng.randbytes(PUSH_TOKEN_BYTES)
        self.push_magic = draw_uuid(device.rng)
        self.pending: messages.Message | None = None
        """A TokenUpdate that has not met a 2xx yet."""
        self.cached_report: messages.Message | None = None
        """The last result, kept until a 2xx."""
        self.last_status: str | None = None
        """The last status word sent to the server."""
        self.updates_accepted = 0
        self._outcome: Outcome | None = None
        self._session_open = asyncio.Lock()
        self._waiting = False

    @property
    def name(self) -> str:
        """`device`, or the user's short name."""
        return DEVICE if self.user is None else self.user.short_name

    @property
    def awaiting(self) -> bool:
        """Say whether this channel waits for DeviceConfigured or UserConfigured."""
        return self.device.awaiting if self.user is None else self.user.awaiting

    @property
    def polls_by_itself(self) -> bool:
        """Say whether the device will come back without a push: only if NotNow was its last word.

        Source: check-in-and-commands.md 3.4 rule 5.
        """
        return self.last_status == _NOT_NOW

    async def send_token_update(
        self, *, unlock_token: bytes | None, awaiting: bool | Keep | None = KEEP
    ) -> Answer:
        """Tell the server how to reach this channel; repeated until 2xx, then kept pending.

        Source: check-in-and-commands.md 2.5 step 4.
        """
        installed = self.device.installed
        self.pending = messages.token_update(
            self.device,
            self,
            installed.profile.management,
            unlock_token=unlock_token,
            awaiting=awaiting,
        )
        await self.listen()
        return await self.deliver_pending()

    async def listen(self) -> None:
        """Have pushes for this channel's token delivered here."""
        if self.device.push is not None:
            topic = self.device.installed.profile.management.topic
            await self.device.push.connect(self.push_token, topic, self.receive_push)

    async def deliver_pending(self) -> Answer:
        """Send the pending TokenUpdate as often as the retry policy says."""
        answer = Answer(status=NO_ANSWER)
        for delay in self.device.retry.delays():
            if self.pending is None:
                break
            if delay:
                await self.device.sleeper(delay)
            message = self.pending | self.device.levers.extra_keys
            answer = await self.device.check_in(message, self.name)
            self._judge(answer)
            if answer.ok or self.device.profile is None:
                break
        return answer

    def _judge(self, answer: Answer) -> None:
        if answer.ok:
            self.pending = None
            self.updates_accepted += 1
            self.device.say("token_update_accepted", self.name)
        elif answer.status == HTTPStatus.GONE and self.user is not None:
            self.pending = None
            self.user.refused = True
            self.user.managed = False
            self.device.say("user_refused", self.name)
        else:
            self.device.say("token_update_failed", self.name, str(answer.status))

    async def receive_push(self, topic: str, magic: str) -> None:
        """Connect if the push is meant for this relationship; otherwise ignore it.

        Source: check-in-and-commands.md 2.5 step 6.
        """
        profile = self.device.profile
        if profile is None or topic != profile.management.topic:
            self.device.say("push_ignored", self.name, "not our topic")
            return
        if magic != self.push_magic:
            self.device.say("push_ignored", self.name, "does not have the right magic string")
            return
        self.device.say("push_received", self.name)
        if self._waiting:
            return
        await self.session()

    async def session(self) -> Session:
        """Connect with Idle (or the cached result) and obey until the server has nothing more.

        Sessions of one channel follow one another; a push during a session causes one more.
        """
        self._waiting = True
        async with self._session_open:
            self._waiting = False
            session = Session()
            if await self._is_ready():
                await self._run(session)
            return session

    async def _is_ready(self) -> bool:
        if not self.device.serves(self):
            return False
        if self.pending is not None:
            await self.deliver_pending()
        await self.device.bootstrap.deliver_pending()
        return self.pending is None and self.device.serves(self)

    async def _run(self, session: Session) -> None:
        device = self.device
        report = self.cached_report or {"Status": _IDLE}
        while True:
            answer = await self._send(report)
            session.status = answer.status
            if not answer.ok:
                self._keep(report, answer)
                await self._finish_last(heard=False)
                return
            self.cached_report = None
            await self._finish_last(heard=True)
            if not device.serves(self):
                return
            if not answer.body:
                session.completed = True
                device.say("session_ended", self.name)
                return
            if (received := self._read(answer)) is None:
                return
            uuid, command = received
            if self._breaks_off(session):
                return
            report = await self._execute(uuid, command, session)
            if self._outcome is not None and self._outcome.unsaid:
                device.say("went_under", self.name, "before the report")
                await self._finish_last(heard=False)
                return
            if not device.serves(self):
                return

    async def _send(self, report: messages.Message) -> Answer:
        device = self.device
        self.last_status = str(report["Status"])
        is_result = report["Status"] != _IDLE
        if is_result and device.levers.lose_reports > 0:
            device.levers.lose_reports -= 1
            return Answer(status=NO_ANSWER)
        message = messages.identity_keys(device, self.user) | report
        answer = await device.connect(message, self.name)
        if is_result and device.levers.report_twice and device.profile is not None:
            answer = await device.connect(message, self.name)
        return answer

    def _keep(self, report: messages.Message, answer: Answer) -> None:
        if report["Status"] != _IDLE and self.device.profile is not None:
            self.cached_report = report
            self.device.say("report_cached", self.name, str(answer.status))
        else:
            self.device.say("session_failed", self.name, str(answer.status))

    async def _finish_last(self, *, heard: bool) -> None:
        """What follows a report; it waits until the report is heard, unless nothing can hold it up."""
        outcome = self._outcome
        if outcome is None or not (heard or outcome.regardless or outcome.unsaid):
            return
        self._outcome = None
        if outcome.after is not None:
            await outcome.after()

    def _read(self, answer: Answer) -> tuple[str, dict[str, Any]] | None:
        try:
            fields = answer.fields()
            uuid, command = fields["CommandUUID"], fields["Command"]
            if isinstance(uuid, str) and isinstance(command, dict):
                return uuid, command
        except (MessageUnreadable, KeyError):
            pass
        self.device.say("command_unreadable", self.name)
        return None

    def _breaks_off(self, session: Session) -> bool:
        levers = self.device.levers
        if levers.break_off_after is None or len(session.executed) + 1 < levers.break_off_after:
            return False
        levers.break_off_after = None
        self.device.say("connection_lost", self.name, "before executing a command")
        return True

    async def _execute(
        self, uuid: str, command: dict[str, Any], session: Session
    ) -> messages.Message:
        request_type = str(command.get("RequestType", ""))
        outcome = await commands.execute(self.device, self, command)
        self._outcome = outcome
        session.executed.append(
            Executed(uuid=uuid, request_type=request_type, status=outcome.status, command=command)
        )
        self.device.say("command_answered", self.name, f"{request_type}: {outcome.status}")
        report: messages.Message = {"Status": outcome.status, "CommandUUID": uuid}
        if outcome.chain:
            report["ErrorChain"] = outcome.chain
        return report | outcome.keys


def managed_users(users: Iterable[User]) -> list[User]:
    """The users who have a channel of their own and are there."""
    return [user for user in users if user.managed and user.logged_in]
