"""A push that somebody asked for, and the one that was about to go anyway. (check-in-and-commands.md 5.2)"""

from datetime import timedelta

from conformance.recording_pusher import RecordingPusher
from ostiary.domain.token import DEFAULT_TENANT
from ostiary.services.push import PushService
from scenes.house import IPHONE, House


def pushes_of(house: House) -> PushService:
    return PushService(
        enrollments=house.storage.enrollments,
        certificates=house.storage.push_certificates,
        pusher=RecordingPusher(),
        sealer=house.sealer,
        clock=house.clock,
        jitter=lambda: 0.0,
    )


async def test_a_command_whose_push_went_at_once_is_not_pushed_for_again_a_second_later(
    house: House,
) -> None:
    """AP-11's reason: the enqueue of NanoMDM's API pushes by itself; the schedule goes on from there."""
    phone = await house.enrolled(IPHONE)
    house.clock.advance(minutes=10)
    await phone.drain()
    house.clock.advance(minutes=10)
    await house.enqueue(phone.id, "DeviceInformation")
    (result,) = await pushes_of(house).push_now(DEFAULT_TENANT, [phone.id])
    assert result.error is None
    assert await house.due(timedelta(seconds=59)) == []
    assert await house.due(timedelta(seconds=61)) == [phone.id]


async def test_a_push_at_once_to_a_device_without_work_leaves_no_schedule(house: House) -> None:
    phone = await house.enrolled(IPHONE)
    await phone.drain()
    house.clock.advance(minutes=10)
    await pushes_of(house).push_now(DEFAULT_TENANT, [phone.id])
    assert await house.due(timedelta(days=2)) == []
