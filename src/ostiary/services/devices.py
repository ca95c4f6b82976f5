"""What operators decide about devices by name: to let one go, to vouch for a certificate."""

from ostiary.domain.decision import Ask, AuditEntry, ByName, EscrowView
from ostiary.domain.enrollment import Enrollment
from ostiary.domain.operator import apply_accept, apply_keep, apply_release
from ostiary.domain.token import Fingerprint, TenantId
from ostiary.ports.clock import Clock
from ostiary.ports.storage import Challenges, Enrollments
from ostiary.protocol.mdm.identity import EnrollmentId


class DeviceDesk:
    """Carries out people's decisions about enrollments, each with its audit entry in the same commit."""

    def __init__(self, enrollments: Enrollments, challenges: Challenges, clock: Clock) -> None:
        self._challenges = challenges
        self._enrollments = enrollments
        self._clock = clock

    async def release(
        self, tenant: TenantId, enrollment_id: EnrollmentId, *, actor: str, reason: str
    ) -> Enrollment:
        """Let a device go: it is told to leave management at its next request, and cannot come back by what it was given.

        Raises:
            EnrollmentUnknown, NotADevice
        """
        audit = AuditEntry(
            tenant=tenant, actor=actor, verb="device-release", subject=enrollment_id, reason=reason
        )
        now = self._clock.now()
        ask = Ask(who=ByName(tenant=tenant, enrollment_id=enrollment_id), escrows=EscrowView.ALWAYS)
        change = await self._enrollments.decide(
            ask, lambda seen: apply_release(seen, enrollment_id, audit, now)
        )
        # Afterwards: until it is let go, a device can have another credential made.
        await self._challenges.withdraw_challenges(
            tenant,
            serial_number=change.answer.facts.serial_number,
            enrollment_key=change.answer.key,
            at=now,
        )
        return change.answer

    async def keep_certificate(
        self, tenant: TenantId, enrollment_id: EnrollmentId, *, actor: str, reason: str
    ) -> Enrollment:
        """Settle a contest for the certificate in use; the newcomers are turned away.

        Raises:
            EnrollmentUnknown, NotADevice, NothingToAccept
        """
        audit = AuditEntry(
            tenant=tenant,
            actor=actor,
            verb="keep-certificate",
            subject=enrollment_id,
            reason=reason,
        )
        now = self._clock.now()
        ask = Ask(
            who=ByName(tenant=tenant, enrollment_id=enrollment_id),
            relationships=True,
            escrows=EscrowView.ALWAYS,
        )
        change = await self._enrollments.decide(
            ask, lambda seen: apply_keep(seen, enrollment_id, audit, now)
        )
        return change.answer

    async def accept_certificate(
        self,
        tenant: TenantId,
        enrollment_id: EnrollmentId,
        fingerprint: Fingerprint | None,
        *,
        actor: str,
        reason: str,
    ) -> Enrollment:
        """Settle a contest for the newcomer, or let a named certificate in once.

        Raises:
            EnrollmentUnknown, NotADevice, NothingToAccept
        """
        audit = AuditEntry(
            tenant=tenant,
            actor=actor,
            verb="accept-certificate",
            subject=enrollment_id,
            reason=reason,
        )
        now = self._clock.now()
        ask = Ask(
            who=ByName(tenant=tenant, enrollment_id=enrollment_id),
            relationships=True,
            escrows=EscrowView.ALWAYS,
        )
        change = await self._enrollments.decide(
            ask, lambda seen: apply_accept(seen, enrollment_id, fingerprint, audit, now)
        )
        return change.answer
