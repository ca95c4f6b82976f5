"""A device CA, a sealer, a clock and challenges in memory: what the enrollment services stand on in tests."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from typing_extensions import override

from fuzz.scep_client import NOW, Requester
from ostiary.domain.decision import AuditEntry
from ostiary.domain.enrollment import (
    Bound,
    Credential,
    Enrollment,
    EnrollmentKey,
    InstalledProfile,
    Proof,
    Purpose,
    Standing,
    State,
)
from ostiary.domain.invitation import Challenge, Invitation, Spend
from ostiary.domain.token import DEFAULT_TENANT, Fingerprint, KeyedDigest, RecordId, TenantId
from ostiary.keys.authority import create_device_authority
from ostiary.keys.sealer import EpochSealer, open_sealer
from ostiary.ports.signer import IssuingAuthority
from ostiary.protocol.mdm.checkin import DeviceFacts, Topic
from ostiary.protocol.mdm.enrollment_profile import ALL_CAPABILITIES
from ostiary.protocol.mdm.identity import EnrollmentId, EnrollmentType
from ostiary.secret import Secret
from ostiary.services.allowance import FailureAllowance
from ostiary.services.certificates import CertificateService
from ostiary.services.scep import ScepPolicy, ScepService
from ostiary.storage.memory.challenges import MemoryChallenges
from ostiary.storage.memory.store import Store

TOPIC = Topic("com.apple.mgmt.External.0b1c")
PROFILE = InstalledProfile(access_rights=8191, capabilities=ALL_CAPABILITIES)


@dataclass
class MovedClock:
    """A clock that tests move."""

    moment: datetime = NOW

    def now(self) -> datetime:
        return self.moment

    def advance(self, by: timedelta) -> None:
        self.moment += by


class ChallengesInMemory(MemoryChallenges):
    """The in-memory twin, with a look inside, and with devices that may renew."""

    def __init__(self) -> None:
        self.store = Store()
        super().__init__(self.store)
        self.spends: list[Spend] = []
        self.issued: list[Credential] = []
        self.renewable: dict[Fingerprint, Enrollment] = {}

    @property
    def invitations(self) -> tuple[Invitation, ...]:
        return tuple(self.store.tables.invitations.values())

    @property
    def challenges(self) -> tuple[Challenge, ...]:
        return tuple(self.store.tables.challenges.values())

    @property
    def audits(self) -> tuple[AuditEntry, ...]:
        return tuple(entry for entry, _ in self.store.tables.audit)

    @override
    async def spend(
        self, digest: KeyedDigest, rule: Callable[[Challenge, Invitation | None], Spend | None]
    ) -> bytes:
        def watched(challenge: Challenge, invitation: Invitation | None) -> Spend | None:
            spend = rule(challenge, invitation)
            if spend is not None:
                self.spends.append(spend)
                self.issued.append(spend.credential)
            return spend

        return await super().spend(digest, watched)

    @override
    async def add_credential(self, credential: Credential, certificate: bytes) -> None:
        await super().add_credential(credential, certificate)
        self.issued.append(credential)

    @override
    async def find_renewable(self, fingerprint: Fingerprint) -> Enrollment | None:
        return self.renewable.get(fingerprint)

    def use_up(self) -> None:
        """Nothing is left of any invitation."""
        with self.store.writing() as tables:
            for invitation in self.invitations:
                tables.invitations[invitation.id] = replace(invitation, uses_left=0)


@cache
def device_authority() -> IssuingAuthority:
    """The device CA of all tests here: making one is slow."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        return create_device_authority(at / "ca.pem", at / "ca.key", now=NOW - timedelta(days=2))


def make_sealer(*tenants: TenantId) -> EpochSealer:
    return open_sealer(Secret(b"r" * 32), (), now=NOW, tenants=tenants or (DEFAULT_TENANT,))[0]


@dataclass
class World:
    """Everything SCEP needs, with one challenge named by its text."""

    clock: MovedClock = field(default_factory=MovedClock)
    challenges: ChallengesInMemory = field(default_factory=ChallengesInMemory)
    sealer: EpochSealer = field(default_factory=make_sealer)
    authority: IssuingAuthority = field(default_factory=device_authority)

    def scep(
        self,
        policy: ScepPolicy | None = None,
        *,
        tenants: tuple[TenantId, ...] = (DEFAULT_TENANT,),
        allowance: FailureAllowance | None = None,
    ) -> ScepService:
        return ScepService(
            authority=self.authority,
            certificates=CertificateService(self.authority, self.clock),
            challenges=self.challenges,
            sealer=self.sealer,
            clock=self.clock,
            policy=policy,
            tenants=tenants,
            allowance=allowance,
        )

    def requester(self, **changes: object) -> Requester:
        return Requester(ca=self.authority.certificate, **changes)  # type: ignore[arg-type]  # fields by name

    async def add_challenge(
        self,
        text: bytes,
        *,
        purpose: Purpose = Purpose.ENROLL,
        bound: Bound | None = None,
        invitation: Invitation | None = None,
        tenant: TenantId = DEFAULT_TENANT,
    ) -> Challenge:
        challenge = Challenge(
            id=RecordId(f"id-of-{text.decode()}"),
            tenant=tenant,
            digest=self.sealer.digest(tenant, Secret(text)),
            purpose=purpose,
            bound=bound or Bound(),
            profile=PROFILE,
            invitation_id=invitation.id if invitation else None,
            valid_until=self.clock.now() + timedelta(hours=1),
            created_at=self.clock.now(),
        )
        await self.challenges.add_challenge(challenge)
        return challenge


def make_enrollment(
    profile: InstalledProfile | None = PROFILE,
    *,
    state: State = State.ENROLLED,
    standing: Standing = Standing.CURRENT,
) -> Enrollment:
    return Enrollment(
        key=EnrollmentKey("e" * 32),
        tenant=DEFAULT_TENANT,
        id=EnrollmentId("0000-1111"),
        type=EnrollmentType.DEVICE,
        parent_key=None,
        state=state,
        standing=standing,
        proof=Proof.PROVEN,
        facts=DeviceFacts(serial_number="C02TEST"),
        topic=TOPIC,
        created_at=NOW,
        authenticated_at=NOW,
        profile=profile,
    )
