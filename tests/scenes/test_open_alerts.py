"""An alert is told while it holds: who looks at the doctor every morning must be able to get it to say that all is well."""

from ostiary.domain.token import DEFAULT_TENANT, TokenKind
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.open_alerts import OpenAlerts
from scenes.house import MAC, OPERATOR, House
from scenes.test_recovery_lock import locked


async def told(house: House) -> set[str]:
    """The kinds of alerts that the doctor tells of."""
    alerts = OpenAlerts(house.storage.reports, house.storage.escrows)
    return {line.alert.kind for line in await alerts.list(DEFAULT_TENANT, limit=20)}


async def test_a_contest_is_told_until_it_is_settled(house: House) -> None:
    mac = await house.enrolled(MAC)
    await mac.with_certificate("somebody's").authenticate()
    assert "contested" in await told(house)
    await house.devices.keep_certificate(
        DEFAULT_TENANT, EnrollmentId(mac.id), actor="scene", reason="it is on my desk"
    )
    assert "contested" not in await told(house)
    assert "contested" in await house.alerts(), "who asks what happened finds it"


async def test_a_doubt_is_told_until_the_device_has_answered(house: House) -> None:
    mac = await house.enrolled(MAC)
    await locked(house, mac)
    await house.change(mac.id, TokenKind.RECOVERY_LOCK)
    await mac.report()
    await house.cancel_live(mac.id)
    assert "recovery-lock-uncertain" in await told(house)
    await house.escrow.verify(EnrollmentId(mac.id), TokenKind.RECOVERY_LOCK, OPERATOR)
    await mac.work_off(VerifyRecoveryLock={"PasswordVerified": True})
    assert "recovery-lock-uncertain" not in await told(house)
