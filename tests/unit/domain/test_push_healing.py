"""What would heal a dead push token, in words for people."""

import pytest

from ostiary.domain.enrollment import Enrollment
from ostiary.domain.push_healing import healing_of, why_dead
from ostiary.protocol.mdm.checkin import DeviceFacts
from ostiary.protocol.mdm.identity import EnrollmentType
from unit.services.push_world import PushWorld


def channel(kind: EnrollmentType, product: str | None = None) -> Enrollment:
    return PushWorld().add(type=kind, facts=DeviceFacts(product_name=product))


@pytest.mark.parametrize(
    ("kind", "product", "said"),
    [
        (EnrollmentType.DEVICE, "iPhone15,2", "The device checks in by itself"),
        (EnrollmentType.DEVICE, None, "The device checks in by itself"),
        (EnrollmentType.USER_ENROLLMENT_DEVICE, "iPad13,1", "The device checks in by itself"),
        (EnrollmentType.DEVICE, "MacBookPro18,3", "`sudo profiles renew -type enrollment`"),
        (EnrollmentType.DEVICE, "iMac21,1", "`sudo profiles renew -type enrollment`"),
        (EnrollmentType.USER, None, "The user logs in on the Mac"),
        (EnrollmentType.USER_ENROLLMENT, None, "The user logs in on the Mac"),
        (EnrollmentType.SHARED_IPAD, "iPad13,1", "The user signs in on the shared iPad"),
    ],
)
def test_each_kind_of_channel_is_healed_in_its_own_way(
    kind: EnrollmentType, product: str | None, said: str
) -> None:
    """Always by a TokenUpdate, which no command can ask for. (check-in-and-commands.md 1.4, TU-6)"""
    heals = healing_of(channel(kind, product))
    assert said in heals
    assert "TokenUpdate" in heals


@pytest.mark.parametrize("reason", ["Unregistered", "ExpiredToken", "BadDeviceToken"])
def test_each_reason_that_kills_a_token_is_explained(reason: str) -> None:
    """(5.4, 5.5)"""
    assert "APNs" in why_dead(reason)
    assert reason not in why_dead(reason), "explained, not repeated"


def test_a_reason_that_nobody_knew_is_told_as_it_came() -> None:
    assert "SomethingNew" in why_dead("SomethingNew")
    assert why_dead(None)
