"""Enrollment profiles as they are given out: a fresh challenge each, and renewals that devices accept."""

import plistlib
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from fuzz.pki import issue, rsa_key
from fuzz.scep_client import NOW
from ostiary.domain.decision import AuditEntry
from ostiary.domain.enrollment import Bound, InstalledProfile, Purpose
from ostiary.domain.token import DEFAULT_TENANT, RecordId, SealedValue
from ostiary.formats.mobileconfig import read_profile, sign_profile
from ostiary.ports.storage import PushCertificate
from ostiary.protocol.mdm.checkin import Topic
from ostiary.protocol.mdm.enrollment_profile import GET_TOKEN, decode_url
from ostiary.protocol.mdm.profile_linter import Severity, compare_for_renewal, lint_profile
from ostiary.secret import Secret
from ostiary.services.enrollment import EnrollmentService, NoPushCertificate, ProfileNotOurs
from ostiary.services.invitations import InvitationRefused, InvitationService
from ostiary.storage.memory.push_certificates import MemoryPushCertificates
from ostiary.storage.memory.store import Store
from ostiary_sim.profile import check_replacement, read_enrollment_profile
from unit.services.enrollment_world import (
    PROFILE,
    TOPIC,
    ChallengesInMemory,
    MovedClock,
    World,
    make_enrollment,
    make_sealer,
)

URLS = decode_url("https://mdm.example.org")


def push_certificate(topic: Topic = TOPIC, **changes: Any) -> PushCertificate:
    made = PushCertificate(
        topic=topic,
        tenant=DEFAULT_TENANT,
        record_id=RecordId("p" * 32),
        certificate_pem=b"",
        sealed_key=SealedValue(b""),
        not_before=NOW - timedelta(days=1),
        not_after=NOW + timedelta(days=365),
        imported_at=NOW,
    )
    return replace(made, **changes)


@dataclass
class House:
    """The enrollment service and what it stands on."""

    clock: MovedClock = field(default_factory=MovedClock)
    challenges: ChallengesInMemory = field(default_factory=ChallengesInMemory)

    def __post_init__(self) -> None:
        self.push = MemoryPushCertificates(Store())
        sealer = make_sealer()
        self.sealer = sealer
        self.invitations = InvitationService(
            challenges=self.challenges, sealer=sealer, clock=self.clock
        )
        self.service = EnrollmentService(
            urls=URLS,
            invitations=self.invitations,
            challenges=self.challenges,
            push_certificates=self.push,
            sealer=sealer,
            clock=self.clock,
        )

    async def import_push(self, *certificates: PushCertificate) -> None:
        """Hold these push certificates, and no others."""
        self.push._store.tables.push_certificates.clear()
        for certificate in certificates:
            audit = AuditEntry(
                tenant=DEFAULT_TENANT, actor="ada", verb="apns.import", subject="", reason=""
            )
            await self.push.save_push_certificate(certificate, audit)

    async def invite(self, bound: Bound | None = None, hours: int = 24) -> Secret:
        _, code = await self.invitations.invite(
            DEFAULT_TENANT, bound or Bound(), valid_for=timedelta(hours=hours), uses=1, actor="ada"
        )
        return code


@pytest.fixture
async def house() -> House:
    return await furnish()


async def furnish() -> House:
    house = House()
    await house.import_push(push_certificate())
    return house


def payload(profile: bytes, payload_type: str) -> dict[str, Any]:
    """By Python's own plistlib, not by our reader."""
    found = [
        one
        for one in plistlib.loads(profile)["PayloadContent"]
        if one["PayloadType"] == payload_type
    ]
    (only,) = found
    return dict(only)


def challenge_in(profile: bytes) -> bytes:
    return str(payload(profile, "com.apple.security.scep")["PayloadContent"]["Challenge"]).encode()


async def test_each_profile_has_a_challenge_of_its_own_that_remembers_its_invitation(
    house: House,
) -> None:
    """Source: check-in-and-commands.md 6.3 rule 1; design.md 3, invitations."""
    bound = Bound(serial_number="C02TEST")
    code = await house.invite(bound)
    first, second = [await house.service.profile_for(code) for _ in range(2)]
    assert challenge_in(first) != challenge_in(second)
    stored = house.challenges.challenges[0]
    assert stored.digest == house.sealer.digest(DEFAULT_TENANT, Secret(challenge_in(first)))
    assert (stored.bound, stored.purpose, stored.profile) == (bound, Purpose.ENROLL, PROFILE)
    assert stored.valid_until == NOW + timedelta(hours=1)
    (invitation,) = house.challenges.invitations
    assert stored.invitation_id == invitation.id
    assert challenge_in(first).decode() not in repr(house.challenges.store.tables)


async def test_a_challenge_never_outlives_its_invitation(house: House) -> None:
    code = await house.invite(hours=24)
    house.clock.advance(timedelta(hours=23, minutes=30))
    await house.service.profile_for(code)
    (stored,) = house.challenges.challenges
    assert stored.valid_until == NOW + timedelta(hours=24)


async def test_a_wrong_code_makes_no_challenge(house: House) -> None:
    with pytest.raises(InvitationRefused):
        await house.service.profile_for(Secret(b"0000-0000-0000-0000-0000"))
    assert not house.challenges.challenges


async def test_the_topic_is_that_of_the_newest_push_certificate_that_works(house: House) -> None:
    """Source: check-in-and-commands.md 5.6."""
    old, paused, ended, newest = (
        Topic(f"com.apple.mgmt.External.{name}") for name in ("old", "paused", "ended", "newest")
    )
    hour = timedelta(hours=1)
    await house.import_push(
        push_certificate(paused, imported_at=NOW + 3 * hour),
        push_certificate(ended, imported_at=NOW + 4 * hour, not_after=NOW - hour),
        push_certificate(newest, imported_at=NOW + 2 * hour),
        push_certificate(old, imported_at=NOW + hour),
    )
    held = await house.push.load_push_certificate(paused)
    assert held is not None
    await house.push.pause_topic(paused, "403", NOW, shown=held.record_id)
    profile = await house.service.profile_for(await house.invite())
    assert payload(profile, "com.apple.mdm")["Topic"] == newest


async def test_without_a_push_certificate_the_error_says_what_to_do(house: House) -> None:
    await house.import_push()
    with pytest.raises(NoPushCertificate) as caught:
        await house.service.profile_for(await house.invite())
    assert "ostiary apns csr" in caught.value.hint
    assert not house.challenges.challenges


@pytest.mark.case("EN-01")
async def test_a_renewal_changes_nothing_that_a_device_would_reject(house: House) -> None:
    """Topic, addresses, per-user capability, identifiers as installed; no right added. Source: 6.1."""
    installed = await house.service.profile_for(await house.invite())
    await house.import_push(push_certificate(Topic("com.apple.mgmt.External.another")))
    renewal = await house.service.renewal_profile(make_enrollment())
    assert compare_for_renewal(installed, renewal) == ()
    # The simulator has an opinion of its own, made from the fact sheet alone.
    check_replacement(
        read_enrollment_profile(installed),
        read_enrollment_profile(renewal),
        user_enrollment=False,
    )
    assert challenge_in(renewal) != challenge_in(installed)
    before, after = plistlib.loads(installed), plistlib.loads(renewal)
    for profile in (before, after):
        for one in profile["PayloadContent"]:
            if one["PayloadType"] == "com.apple.security.scep":
                one["PayloadContent"].pop("Challenge")
    assert before == after


@pytest.mark.case("EN-01")
async def test_a_renewal_of_a_smaller_profile_stays_as_small(house: House) -> None:
    """Rights that were not asked for at first can never be added. Source: 6.1."""
    small = InstalledProfile(access_rights=8191 - 4, capabilities=frozenset({GET_TOKEN}))
    renewal = await house.service.renewal_profile(make_enrollment(small))
    management = payload(renewal, "com.apple.mdm")
    assert management["AccessRights"] == 8191 - 4
    assert management["ServerCapabilities"] == ["com.apple.mdm.bootstraptoken", GET_TOKEN]
    (stored,) = house.challenges.challenges
    assert stored.profile.access_rights == 8191 - 4


async def test_a_renewal_challenge_is_minted_for_that_enrollment(house: House) -> None:
    """The proof of cause B. Source: check-in-and-commands.md 2.3."""
    enrollment = make_enrollment()
    await house.service.renewal_profile(enrollment)
    (stored,) = house.challenges.challenges
    assert stored.purpose is Purpose.RENEW
    assert stored.bound == Bound(enrollment_key=enrollment.key)
    assert stored.invitation_id is None


async def test_a_profile_of_another_server_is_not_renewed_blindly(house: House) -> None:
    with pytest.raises(ProfileNotOurs):
        await house.service.renewal_profile(make_enrollment(profile=None))
    assert not house.challenges.challenges


@pytest.mark.case("BT-19")
async def test_macs_are_asked_to_escrow_by_the_profile_itself(house: House) -> None:
    """Source: escrowed-secrets.md BT-19; no setting is needed for macOS 11 and later."""
    profile = await house.service.profile_for(await house.invite())
    assert "com.apple.mdm.bootstraptoken" in payload(profile, "com.apple.mdm")["ServerCapabilities"]
    assert b"BootstrapTokenAllowed" not in profile


async def test_what_we_give_out_passes_our_own_linter(house: House) -> None:
    profile = await house.service.profile_for(await house.invite())
    findings = lint_profile(profile, now=NOW)
    assert [one for one in findings if one.severity is not Severity.NOTE] == []


async def test_a_signed_profile_reads_as_the_plain_one(house: House) -> None:
    """Source: check-in-and-commands.md 6.5."""
    signer = issue("profile signer", key=rsa_key())
    house.service._sign = lambda profile: sign_profile(profile, signer.der, signer.key)
    signed = await house.service.profile_for(await house.invite())
    assert signed.startswith(b"\x30")
    assert read_profile(signed).text("PayloadIdentifier") == URLS.identifier


async def test_an_invitation_leads_through_scep_to_a_certificate_that_proves_it() -> None:
    """The whole way: code, profile, challenge, SCEP, credential. Source: design.md 3; 2.3."""
    world, house = World(), await furnish()
    world.challenges, world.sealer = house.challenges, house.sealer
    bound = Bound(serial_number="C02TEST")
    code = await house.invite(bound)
    profile = await house.service.profile_for(code)
    device = world.requester()
    reply = device.open(await world.scep().answer(device.request(challenge_in(profile))))
    assert reply.status == "0"
    (spend,) = house.challenges.spends
    assert spend.credential.bound == bound
    (invitation,) = house.challenges.invitations
    assert invitation.uses_left == 0
    with pytest.raises(InvitationRefused):
        await house.service.profile_for(code)
