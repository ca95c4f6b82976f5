"""Lights-out: one Mac, the controller, switches others on or off; where those listen they have told themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import uuid4

from ostiary.domain.decision import Ask, ByName, Change, Snapshot
from ostiary.domain.facts import SheetName
from ostiary.domain.operator import require_known
from ostiary.ports.clock import Clock
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.protocol.mdm.lights_out import (
    LightsOutRequest,
    LightsOutSetup,
    Switch,
    lom_device_request,
    plan_lights_out,
)
from ostiary.services.caller import Caller, Scope
from ostiary.services.commands import CommandDesk, Enqueued


@dataclass(frozen=True, slots=True, kw_only=True)
class Switching:
    """What a controller is to do."""

    controller: EnrollmentId
    switch: Switch
    dns_name_by_target: Mapping[EnrollmentId, str]
    """Of each target the name in its lights-out certificate."""
    confirmed: int | None = None
    """How many targets somebody counted; needed beyond the cap on destructive commands."""


class LightsOutDesk:
    """Queues the controller's command once every target has told where it listens. Source: escrowed-secrets.md 4.11."""

    def __init__(self, enrollments: Enrollments, desk: CommandDesk, clock: Clock) -> None:
        self._enrollments = enrollments
        self._desk = desk
        self._clock = clock

    async def switch(self, wish: Switching, caller: Caller) -> Enqueued:
        """Queue one command with a request for each target; the request's UUID finds its line in the answer.

        Raises:
            ScopeMissing, EnrollmentUnknown, NoLightsOutRequests, UnusableDnsName
            LightsOutSetupUnknown: a target was never asked where it listens, or never answered. (LO-01)
            TooManyDestructive, AnotherNumberConfirmed: each target counts.
        """
        caller.require(Scope.COMMANDS_DESTRUCTIVE)
        requests = [
            await self._planned(target, dns_name, wish.switch, caller)
            for target, dns_name in wish.dns_name_by_target.items()
        ]
        return await self._desk.enqueue(
            [wish.controller],
            lom_device_request(requests),
            caller,
            confirmed=wish.confirmed,
            switched=tuple(wish.dns_name_by_target),
        )

    async def _planned(
        self, target: EnrollmentId, dns_name: str, switch: Switch, caller: Caller
    ) -> LightsOutRequest:
        def rule(seen: Snapshot) -> Change[LightsOutSetup | None]:
            require_known(seen, target)
            sheet = next((one for one in seen.facts if one.name is SheetName.LIGHTS_OUT), None)
            setup = LightsOutSetup.read(sheet.facts) if sheet is not None else None
            return Change(at=self._clock.now(), answer=setup)

        who = ByName(tenant=caller.tenant, enrollment_id=target)
        setup = (await self._enrollments.decide(Ask(who=who, facts=True), rule)).answer
        return plan_lights_out(
            uuid=str(uuid4()).upper(), switch=switch, dns_name=dns_name, setup=setup
        )
