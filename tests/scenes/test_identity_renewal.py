"""Renewing identities by policy, on real services and a real SQLite file; the devices are made of words."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from ostiary.domain.renewal import RenewalPhase, Sight
from ostiary.domain.renewal_wave import Gate
from ostiary.protocol.mdm.enrollment_profile import EnrollmentUrls
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services import identity_renewal
from ostiary.services.canaries import CanaryCannotRenew, CanaryUnknown, canaries_known
from ostiary.services.enrollment import EnrollmentService, ProfileNotOurs
from ostiary.services.identity_renewal import (
    IdentityRenewalService,
    RenewalParts,
    RenewalUnderWay,
)
from ostiary.services.identity_survey import IdentitySurvey
from ostiary.services.invitations import InvitationService
from ostiary.services.renewal import RenewalDesk
from scenes.house import IPAD, IPHONE, MAC, OPERATOR, Device, House, Model

DUE = 255
"""Days after which a certificate of one year is due, wherever its place within the spread."""
TOO_OLD = {"ErrorCode": 4001, "ErrorDomain": "MCInstallationErrorDomain",
           "LocalizedDescription": "Zu alt", "USEnglishDescription": "The profile is too old."}  # fmt: skip


def open_service(house: House) -> IdentityRenewalService:
    """What one node renews with."""
    storage = house.storage
    enrollment = EnrollmentService(
        urls=EnrollmentUrls(base="https://mdm.example"),
        invitations=InvitationService(
            challenges=storage.challenges, sealer=house.sealer, clock=house.clock
        ),
        challenges=storage.challenges,
        push_certificates=storage.push_certificates,
        sealer=house.sealer,
        clock=house.clock,
    )
    desk = RenewalDesk(storage.enrollments, enrollment, house.desk, house.clock)
    parts = RenewalParts(
        renewals=storage.renewals, reports=storage.reports, walks=storage.retention, desk=desk
    )
    return IdentityRenewalService(parts, lambda: house.policy, house.clock)


@pytest.fixture
def service(house: House) -> IdentityRenewalService:
    return open_service(house)


async def enrolled(house: House, model: Model = IPAD) -> Device:
    """A device whose profile and certificate came from us."""
    device = house.device(model)
    await house.credential(device)
    await device.authenticate()
    await device.token_update()
    await device.drain()
    return device


async def asked(house: House, device: Device) -> bool:
    """Whether an InstallProfile waits for it."""
    return ("InstallProfile", "queued") in await house.queue(device.id)


async def sight(house: House, device: Device) -> Sight:
    (found,) = await house.storage.renewals.look([(await device.row()).key])
    return found


async def renew(house: House, device: Device) -> Device:
    """The device takes the command, and speaks with its new certificate from now on."""
    command: Any = await device.report()
    renewed = await house.renewal_of(device)
    await renewed.authenticate()
    await renewed.token_update()
    await renewed.report("Acknowledged", command["CommandUUID"])
    return renewed


async def test_a_clock_that_jumps_ahead_renews_nobody_for_a_day(
    house: House, service: IdentityRenewalService
) -> None:
    """users.md 5.4 case 58: no mass expiry, no mass renewal."""
    device = await enrolled(house)
    await service.run_round()
    house.clock.advance(days=DUE)
    assert (await service.run_round()).asked == 0
    house.clock.advance(hours=23)
    assert (await service.run_round()).asked == 0
    house.clock.advance(hours=2)
    assert (await service.run_round()).asked == 1
    assert await asked(house, device)


async def test_policy_can_leave_it_to_people(house: House, service: IdentityRenewalService) -> None:
    device = await enrolled(house)
    house.clock.advance(days=DUE)
    house.set_policy(renew_identities=False)
    assert (await service.run_round()).asked == 0
    uuid = await service.renew(EnrollmentId(device.id), OPERATOR)
    assert await asked(house, device)
    assert uuid


async def test_the_others_follow_their_canary_so_many_an_hour(
    house: House, service: IdentityRenewalService
) -> None:
    devices = [await enrolled(house) for _ in range(6)]
    house.set_policy(renewals_a_day=48)
    house.clock.advance(days=DUE)
    assert (await service.run_round()).asked == 1
    (canary,) = [device for device in devices if await asked(house, device)]
    house.clock.advance(hours=1)
    waiting = await service.run_round()
    assert (waiting.asked, waiting.barrier.gate) == (0, Gate.WAITING)
    await renew(house, canary)
    waves = []
    for _ in range(4):
        house.clock.advance(minutes=61)
        waves.append((await service.run_round()).asked)
    assert waves == [2, 2, 1, 0]
    assert (await sight(house, canary)).renewal is not None


async def test_two_nodes_that_look_at_once_ask_each_device_once(house: House) -> None:
    """A lease may end while its node still works; then the notes decide."""
    devices = [await enrolled(house) for _ in range(5)]
    house.set_policy(renewal_canary_share=0, renewals_a_day=1000)
    house.clock.advance(days=DUE)
    rounds = await asyncio.gather(*(open_service(house).run_round() for _ in range(3)))
    assert sum(one.asked for one in rounds) == 5
    for device in devices:
        queue = await house.queue(device.id)
        assert queue.count(("InstallProfile", "queued")) == 1


async def test_what_a_device_answered_is_told_and_it_is_asked_again_later(
    house: House, service: IdentityRenewalService
) -> None:
    device = await enrolled(house, MAC)
    house.clock.advance(days=DUE)
    await service.run_round()
    command: Any = await device.report()
    await device.report("Error", command["CommandUUID"], ErrorChain=[TOO_OLD])
    house.clock.advance(hours=1)
    stopped = await service.run_round()
    assert (stopped.asked, stopped.barrier.gate) == (0, Gate.STOPPED)
    assert {"identity-renewal-failed", "identity-renewals-stopped"} <= await house.alerts()
    known = (await sight(house, device)).renewal
    assert known is not None
    assert known.outcome == "the device answered: The profile is too old."
    house.clock.advance(hours=4)
    assert (await service.run_round()).asked == 1
    again: Any = await device.report()
    assert again["CommandUUID"] != command["CommandUUID"]


async def test_a_failed_canary_is_asked_again_however_many_wait_for_it(
    house: House, service: IdentityRenewalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else those who wait for the canary would stand before it in the line, and nobody would ever be asked."""
    monkeypatch.setattr(identity_renewal, "_LOOKS", 2)
    devices = [await enrolled(house) for _ in range(6)]
    house.clock.advance(days=DUE)
    await service.run_round()
    (canary,) = [device for device in devices if await asked(house, device)]
    command: Any = await canary.report()
    await canary.report("Error", command["CommandUUID"], ErrorChain=[TOO_OLD])
    house.clock.advance(hours=1)
    assert (await service.run_round()).barrier.gate is Gate.STOPPED
    house.clock.advance(hours=5)
    assert (await service.run_round()).asked == 1
    await renew(house, canary)
    house.clock.advance(hours=1)
    assert (await service.run_round()).asked == 2


async def test_a_person_may_not_ask_a_second_time_while_the_first_waits(
    house: House, service: IdentityRenewalService
) -> None:
    device = await enrolled(house, IPHONE)
    name = EnrollmentId(device.id)
    uuid = await service.renew(name, OPERATOR)
    with pytest.raises(RenewalUnderWay):
        await service.renew(name, OPERATOR)
    await house.desk.cancel(name, uuid, OPERATOR, "again")
    assert await service.renew(name, OPERATOR) != uuid


async def test_a_device_with_a_foreign_profile_is_told_apart(
    house: House, service: IdentityRenewalService
) -> None:
    """6.1: what its profile says may not change, and we do not know it."""
    foreign = await house.enrolled(IPAD)
    with pytest.raises(ProfileNotOurs):
        await service.renew(EnrollmentId(foreign.id), OPERATOR)
    house.clock.advance(days=DUE + 60)
    assert (await service.run_round()).asked == 0
    assert "identity-cannot-be-renewed" in await house.alerts()
    known = (await sight(house, foreign)).renewal
    assert known is not None
    assert known.phase is RenewalPhase.UNABLE


async def test_a_device_that_left_is_forgotten(
    house: House, service: IdentityRenewalService
) -> None:
    device = await enrolled(house)
    house.clock.advance(days=DUE - 20)
    await service.run_round()
    assert (await sight(house, device)).renewal is not None
    await device.send("CheckOut", Topic=device.topic)
    house.clock.advance(days=6)
    house.clock.advance(days=1)
    for _ in range(5):
        await service.run_round()
        house.clock.advance(days=6)
    assert (await sight(house, device)).renewal is None
    assert not await asked(house, device)


async def test_a_device_that_never_comes_is_waited_for_and_its_end_is_told(
    house: House, service: IdentityRenewalService
) -> None:
    device = await enrolled(house)
    house.set_policy(renewal_canary_share=0)
    house.clock.advance(days=DUE)
    assert (await service.run_round()).asked == 1
    for _ in range(16):
        house.clock.advance(days=6)
        assert (await service.run_round()).asked == 0
    assert "identity-ends" in await house.alerts()
    assert not await asked(house, device), "its credential ended long ago"
    await device.token_update(Token=b"\x02" * 32)
    house.clock.advance(days=1)
    await service.run_round()
    assert await asked(house, device)


async def test_named_canaries_go_first_though_they_are_not_due(
    house: House, service: IdentityRenewalService
) -> None:
    old = await enrolled(house)
    house.clock.advance(days=DUE)
    young = await enrolled(house)
    house.set_policy(renewal_canaries=f"{young.id},UNKNOWN")
    assert (await service.run_round()).asked == 1
    assert await asked(house, young)
    assert not await asked(house, old)
    await renew(house, young)
    house.clock.advance(hours=1)
    assert (await service.run_round()).asked == 1
    assert await asked(house, old)


async def test_a_named_canary_that_alone_is_due_is_asked_as_one_and_others_follow(
    house: House, service: IdentityRenewalService
) -> None:
    """users.md 5.1 complaint 9: what goes wrong shows on a device that somebody chose."""
    canary = await enrolled(house)
    house.set_policy(renewal_canaries=canary.id)
    house.clock.advance(days=60)
    other = await enrolled(house)
    house.clock.advance(days=DUE - 60)
    assert (await service.run_round()).asked == 1
    known = (await sight(house, canary)).renewal
    assert known is not None
    assert known.is_canary
    await renew(house, canary)
    for _ in range(8):
        house.clock.advance(days=3)
        await service.run_round()
    assert await asked(house, other), "it was shown to work within thirty days"


async def test_canaries_that_nobody_could_ask_are_refused_by_name(house: House) -> None:
    """A slip of the pen would leave the choice to chance, and nobody would know."""
    ours, foreign, left = await enrolled(house), await house.enrolled(IPAD), await enrolled(house)
    await left.send("CheckOut", Topic=left.topic)
    reports = house.storage.reports

    async def known(written: str) -> str:
        return await canaries_known(reports, OPERATOR.tenant, written)

    assert await known(f"{ours.serial}, {ours.id}") == ours.id
    assert await known("none") == "none"
    for name in ("NOBODY", f"{ours.id}, NOBODY"):
        with pytest.raises(CanaryUnknown, match="name=NOBODY"):
            await known(name)
    for device, why in ((foreign, "did not issue"), (left, "not enrolled")):
        with pytest.raises(CanaryCannotRenew, match=why):
            await known(f"{ours.id},{device.id}")


async def test_an_outlook_puts_a_named_canary_that_is_due_before_the_others(
    house: House, service: IdentityRenewalService
) -> None:
    """As the rounds do; whoever is not due keeps its place and its moment."""
    devices = [await enrolled(house) for _ in range(3)]
    house.clock.advance(days=DUE)
    survey = IdentitySurvey(
        house.storage.renewals, service, lambda: house.policy, house.clock, OPERATOR.tenant
    )

    async def order() -> list[str]:
        found = await survey.look_ahead(within=timedelta(0), limit=10)
        return [one.sight.enrollment.id for one in found.standings]

    before = await order()
    assert sorted(before) == sorted(device.id for device in devices)
    last = before[-1]
    house.set_policy(renewal_canaries=last)
    assert await order() == [last, *before[:-1]]
