"""Renewing a device's identity: its enrollment profile again, with a credential minted for this enrollment alone."""

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
    """Sends the profile that makes a device fetch a new identity; what was held survives, because it is proven. (2.3-B)"""

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

    async def renew(self, enrollment_id: EnrollmentId, caller: Caller) -> CommandUuid:
        """Queue the InstallProfile that renews one device's identity.

        The certificate in use stays valid until the new one is seen (2.4 rows 6 to 8).

        Raises:
            EnrollmentUnknown, NotEnrolled
            ProfileNotOurs: the profile on the device did not come from us.
        """
        row = await self._served(enrollment_id, caller)
        profile = await self._enrollment.renewal_profile(row)
        queued = await self._desk.enqueue([enrollment_id], install_profile(profile), caller)
        refused = queued.refused[enrollment_id]
        if refused is not None:
            raise refused
        return queued.uuid

    async def _served(self, enrollment_id: EnrollmentId, caller: Caller) -> Enrollment:
        def rule(seen: Snapshot) -> Change[Enrollment]:
            row = require_known(seen, enrollment_id)
            if not row.state.is_served:
                raise NotEnrolled(enrollment_id=enrollment_id, state=row.state)
            return Change(at=self._clock.now(), answer=row)

        who = ByName(tenant=caller.tenant, enrollment_id=enrollment_id)
        return (await self._enrollments.decide(Ask(who=who), rule)).answer
