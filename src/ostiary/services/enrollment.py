"""Enrollment profiles: each with a fresh single-use challenge that remembers whom it was made for."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ostiary.domain.enrollment import Bound, Enrollment, InstalledProfile, Purpose
from ostiary.domain.invitation import Challenge
from ostiary.domain.token import RecordId, TenantId
from ostiary.errors import Refused, Unavailable
from ostiary.ports.clock import Clock
from ostiary.ports.sealer import Sealer
from ostiary.ports.storage import Challenges, PushCertificates
from ostiary.protocol.mdm.checkin import Topic
from ostiary.protocol.mdm.enrollment_profile import (
    ALL_CAPABILITIES,
    ALL_RIGHTS,
    PER_USER_CONNECTIONS,
    EnrollmentOffer,
    EnrollmentUrls,
    render_enrollment_profile,
)
from ostiary.secret import Secret
from ostiary.services.invitations import InvitationService

SignProfile = Callable[[bytes], bytes]
"""Puts a profile into a signed message, e.g. formats.mobileconfig.sign_profile over the TLS key."""


EVERYTHING: Final = InstalledProfile(access_rights=ALL_RIGHTS, capabilities=ALL_CAPABILITIES)


class NoPushCertificate(Unavailable):
    """No push certificate is imported yet, and a profile without its topic would enroll nobody."""

    hint = "Ask Apple for one with `ostiary apns csr`, then `ostiary apns import` what comes back."


class ProfileNotOurs(Refused):
    """The device's enrollment profile is not one that this server issued, so it cannot be replaced in place."""

    hint = "Enroll the device with this server; what its present profile allows is not known."


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePolicy:
    """What this installation's enrollment profiles look like."""

    organization: str = "Ostiary"
    trust_anchors: tuple[bytes, ...] = ()
    """DER of the CA of a self-made TLS certificate."""
    installed: InstalledProfile = EVERYTHING
    valid_for: timedelta = timedelta(hours=1)
    """From download to certificate; the challenge inside must be short-lived. (6.3 rule 1)"""
    renewal_valid_for: timedelta = timedelta(days=14)
    """Renewals wait, sealed, in the queue of a device that may be switched off."""
    return_valid_for: timedelta = timedelta(days=7)
    """A device that erases itself may take a while, or wait for a network. (escrowed-secrets.md 4.7 rule 7)"""


class EnrollmentService:
    """Gives out enrollment profiles, to people with an invitation and to devices that renew."""

    def __init__(
        self,
        *,
        urls: EnrollmentUrls,
        invitations: InvitationService,
        challenges: Challenges,
        push_certificates: PushCertificates,
        sealer: Sealer,
        clock: Clock,
        sign: SignProfile | None = None,
        policy: ProfilePolicy | None = None,
    ) -> None:
        self._urls = urls
        self._invitations = invitations
        self._challenges = challenges
        self._push_certificates = push_certificates
        self._sealer = sealer
        self._clock = clock
        self._sign = sign
        self._policy = policy or ProfilePolicy()

    async def profile_for(self, code: Secret) -> bytes:
        """A profile for whoever holds the code of an invitation, with a challenge of its own.

        Raises:
            InvitationRefused, TooManyFailures: as InvitationService.find.
            NoPushCertificate: there is no topic to write into it.
        """
        invitation = await self._invitations.find(code)
        topic = await self._topic(invitation.tenant)
        now = self._clock.now()
        challenge = Secret(secrets.token_urlsafe(32).encode())
        await self._challenges.add_challenge(
            Challenge(
                id=RecordId(secrets.token_hex(16)),
                tenant=invitation.tenant,
                digest=self._sealer.digest(invitation.tenant, challenge),
                purpose=Purpose.ENROLL,
                bound=invitation.bound,
                profile=self._policy.installed,
                invitation_id=invitation.id,
                valid_until=min(now + self._policy.valid_for, invitation.valid_until),
                created_at=now,
            )
        )
        return self._render(topic, challenge, self._policy.installed)

    async def renewal_profile(self, enrollment: Enrollment) -> bytes:
        """The profile that replaces the one on a device, for InstallProfile: the same but for its challenge.

        Topic, addresses, identifiers and the per-user capability stay as they are, and no right is added: a
        device would reject the update, or worse. Raises ProfileNotOurs.

        Source: check-in-and-commands.md 6.1 (U keys, renewal); case EN-01.
        """
        if enrollment.profile is None or enrollment.is_user_channel:
            raise ProfileNotOurs(enrollment_id=enrollment.id)
        installed = _renewed(enrollment.profile, self._policy.installed.capabilities)
        now = self._clock.now()
        challenge = Secret(secrets.token_urlsafe(32).encode())
        await self._challenges.add_challenge(
            Challenge(
                id=RecordId(secrets.token_hex(16)),
                tenant=enrollment.tenant,
                digest=self._sealer.digest(enrollment.tenant, challenge),
                purpose=Purpose.RENEW,
                bound=Bound(enrollment_key=enrollment.key),
                profile=installed,
                invitation_id=None,
                valid_until=now + self._policy.renewal_valid_for,
                created_at=now,
            )
        )
        return self._render(enrollment.topic, challenge, installed)

    async def return_profile(self, enrollment: Enrollment) -> bytes:
        """The profile with which a device that is erased comes back, with a credential that only it can use, once.

        It enrolls anew, so this is no renewal; it is believed because the credential was made for its serial number.
        Minted when the command leaves: what waits in a queue would be spent or over by then. An earlier one that was not
        used ends: of those that were told, only the last can be used.

        Raises:
            NoPushCertificate: there is no topic to write into it.

        Source: escrowed-secrets.md 4.7 rule 7; case ER-05.
        """
        topic = await self._topic(enrollment.tenant, preferred=enrollment.topic)
        installed = self._policy.installed
        serial_number, now = enrollment.facts.serial_number, self._clock.now()
        challenge = Secret(secrets.token_urlsafe(32).encode())
        await self._challenges.add_challenge(
            Challenge(
                id=RecordId(secrets.token_hex(16)),
                tenant=enrollment.tenant,
                digest=self._sealer.digest(enrollment.tenant, challenge),
                purpose=Purpose.ENROLL,
                bound=Bound(enrollment_key=enrollment.key)
                if serial_number is None
                else Bound(serial_number=serial_number),
                profile=installed,
                invitation_id=None,
                valid_until=now + self._policy.return_valid_for,
                created_at=now,
            ),
            replaces=True,
        )
        return self._render(topic, challenge, installed)

    async def _topic(self, tenant: TenantId, preferred: Topic | None = None) -> Topic:
        """The preferred topic, else that of the push certificate imported last, among those that can still push."""
        now = self._clock.now()
        usable = [
            certificate
            for certificate in await self._push_certificates.list_push_certificates(tenant)
            if certificate.paused_since is None and certificate.not_after > now
        ]
        if not usable:
            raise NoPushCertificate
        best = max(usable, key=lambda one: (one.topic == preferred, one.imported_at))
        return best.topic

    def _render(self, topic: Topic, challenge: Secret, installed: InstalledProfile) -> bytes:
        profile = render_enrollment_profile(
            EnrollmentOffer(
                urls=self._urls,
                topic=topic,
                challenge=challenge,
                trust_anchors=self._policy.trust_anchors,
                organization=self._policy.organization,
                access_rights=installed.access_rights,
                capabilities=installed.capabilities,
            )
        )
        return self._sign(profile) if self._sign is not None else profile


def _renewed(installed: InstalledProfile, offered: frozenset[str]) -> InstalledProfile:
    """What a renewal may say: today's capabilities, but per-user connections neither added nor removed."""
    unchangeable = frozenset({PER_USER_CONNECTIONS})
    return InstalledProfile(
        access_rights=installed.access_rights,
        capabilities=(offered - unchangeable) | (installed.capabilities & unchangeable),
    )
