"""Sending what renews a device's identity: its enrollment profile again, with a credential minted for this enrollment alone."""

from ostiary.domain.decision import Ask, ByName, Change, Snapshot
from ostiary.domain.enqueueing import NotEnrolled
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.operator import require_known
from ostiary.ports.clock import Clock
from ostiary.ports.storage import Enrollments
from ostiary.protocol.mdm.commands import install_profile
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.caller import Caller
from ostiary.services.commands import CommandDesk
from ostiary.services.enrollment import EnrollmentService


class RenewalDesk:
    """Queues the profile that makes a device fetch a new identity; what was held survives, because it is proven. (2.3-B)"""

    def __init__(
        self,
        enrollments: Enrollments,
        enrollment: EnrollmentService,
        desk: CommandDesk,
        clock: Clock,
    ) -> None:
        self._enrollments = enrollments
        self._enrollment = enrollment
        self._desk = desk
        self._clock = clock

    async def send(self, row: Enrollment, uuid: CommandUuid, caller: Caller) -> None:
        """Queue the InstallProfile that renews one device's identity, under a CommandUUID that was noted before.

        The certificate in use stays valid until the new one is seen (2.4 rows 6 to 8).

        Raises:
            NotEnrolled, ProfileNotOurs, and what CommandDesk refuses.
        """
        profile = await self._enrollment.renewal_profile(row)
        queued = await self._desk.enqueue([row.id], install_profile(profile), caller, uuid=uuid)
        if (refused := queued.refused[row.id]) is not None:
            raise refused

    async def withdraw(self, row: Enrollment, uuid: CommandUuid, caller: Caller) -> None:
        """Cancel one that waited for too long. Raises CommandIsOver, EnrollmentUnknown."""
        await self._desk.cancel(row.id, uuid, caller, "its credential is about to end")

    async def served(self, enrollment_id: EnrollmentId, caller: Caller) -> Enrollment:
        """The device of this name, if it takes commands. Raises EnrollmentUnknown, NotEnrolled."""

        def rule(seen: Snapshot) -> Change[Enrollment]:
            row = require_known(seen, enrollment_id)
            if not row.state.is_served:
                raise NotEnrolled(enrollment_id=enrollment_id, state=row.state)
            return Change(at=self._clock.now(), answer=row)

        who = ByName(tenant=caller.tenant, enrollment_id=enrollment_id)
        return (await self._enrollments.decide(Ask(who=who), rule)).answer
