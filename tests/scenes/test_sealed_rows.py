"""A stored secret opens as the one that it was stored as, and as no other. (4.0.2 rule 3)"""

import pytest

from database_file import database
from escrowed import escrow_values
from ostiary.domain.escrow_view import FOR_PEOPLE
from ostiary.domain.token import TokenKind, TokenState
from ostiary.ports.sealer import SealBroken
from ostiary.protocol.mdm.identity import EnrollmentId
from scenes.house import IPHONE, MAC, OPERATOR, Device, House

MINE, YOURS = b"canary-of-one-device", b"canary-of-another"


def copy_value(house: House, kind: TokenKind, *, source: Device, target: Device) -> None:
    """What somebody with a hand in the database would do to read a secret through his own device."""
    with database(house.path) as connection:
        (value,) = connection.execute(
            "SELECT value FROM token WHERE holder = ? AND kind = ?", (source.id, kind.value)
        ).fetchone()
        connection.execute(
            "UPDATE token SET value = ? WHERE holder = ? AND kind = ?",
            (value, target.id, kind.value),
        )


@pytest.mark.case("ST-01")
@pytest.mark.parametrize("kind", sorted(FOR_PEOPLE))
async def test_a_value_in_another_devices_row_is_an_error_and_not_the_secret(
    house: House, kind: TokenKind
) -> None:
    """Every kind that a person may be shown."""
    mac, other = await house.enrolled(MAC), await house.enrolled(MAC)
    for device, value in ((mac, MINE), (other, YOURS)):
        await escrow_values(
            house.storage.enrollments, house.sealer, device.id, kind, [value], house.clock.now()
        )
    copy_value(house, kind, source=mac, target=other)
    with pytest.raises(SealBroken):
        await house.reveals.reveal(EnrollmentId(other.id), kind, OPERATOR, reason="ticket 4711")
    told = await house.reveals.reveal(EnrollmentId(mac.id), kind, OPERATOR, reason="ticket 4711")
    assert [one.value.reveal() for one in told.shown] == [MINE]


@pytest.mark.case("ST-01")
async def test_a_value_in_the_row_of_another_kind_is_an_error(house: House) -> None:
    """A PIN is typed by whoever stands before the Mac; a Recovery Lock must not be read as one."""
    mac = await house.enrolled(MAC)
    for kind in (TokenKind.RECOVERY_LOCK, TokenKind.LOCK_PIN):
        await escrow_values(
            house.storage.enrollments, house.sealer, mac.id, kind, [MINE], house.clock.now()
        )
    with database(house.path) as connection:
        connection.execute(
            "UPDATE token SET value = (SELECT value FROM token WHERE kind = 'recovery-lock') "
            "WHERE kind = 'lock-pin'"
        )
    with pytest.raises(SealBroken):
        await house.believed(mac.id, TokenKind.LOCK_PIN)


def point_elsewhere(house: House, kind: TokenKind, *, source: Device, target: Device) -> None:
    """The pointer of one device names another's record: what a bad restore, or a hand in the database, would leave."""
    with database(house.path) as connection:
        (record_id,) = connection.execute(
            "SELECT id FROM token WHERE holder = ? AND kind = ?", (source.id, kind.value)
        ).fetchone()
        connection.execute(
            "UPDATE escrow SET current = ? WHERE holder = ? AND kind = ?",
            (record_id, target.id, kind.value),
        )
        column = {TokenKind.BOOTSTRAP: "bootstrap_record", TokenKind.UNLOCK: "unlock_record"}
        if kind in column:
            connection.execute(
                f"UPDATE enrollment SET {column[kind]} = ? WHERE id = ?",
                (record_id, target.id),
            )


@pytest.mark.case("ST-01")
@pytest.mark.parametrize("kind", sorted(FOR_PEOPLE))
async def test_a_pointer_to_another_devices_value_is_an_error_and_shows_nothing(
    house: House, kind: TokenKind
) -> None:
    """A value is opened as the secret of whoever it is asked for, whatever the record says of itself."""
    mac, other = await house.enrolled(MAC), await house.enrolled(MAC)
    for device, value in ((mac, MINE), (other, YOURS)):
        await escrow_values(
            house.storage.enrollments, house.sealer, device.id, kind, [value], house.clock.now()
        )
    point_elsewhere(house, kind, source=mac, target=other)
    with pytest.raises(SealBroken):
        await house.reveals.reveal(EnrollmentId(other.id), kind, OPERATOR, reason="ticket 4711")
    assert (await house.history(mac.id, kind))[0].disclosed_at is None


@pytest.mark.case("ST-01")
async def test_no_command_carries_another_devices_secret(house: House) -> None:
    """Recovery Lock and unlock token: the two ways by which references are filled."""
    lock = TokenKind.RECOVERY_LOCK
    mac, other = await house.enrolled(MAC), await house.enrolled(MAC)
    for device, value in ((mac, MINE), (other, YOURS)):
        await escrow_values(
            house.storage.enrollments, house.sealer, device.id, lock, [value], house.clock.now()
        )
    point_elsewhere(house, lock, source=mac, target=other)
    await house.change(other.id, lock)
    assert await other.report() is None
    phone, second = await house.enrolled(IPHONE), await house.enrolled(IPHONE)
    point_elsewhere(house, TokenKind.UNLOCK, source=phone, target=second)
    await house.enqueue(second.id, "ClearPasscode")
    assert await second.report() is None
    (theirs,) = await house.history(phone.id, TokenKind.UNLOCK)
    assert theirs.state is TokenState.OK, "what was pointed at is not the other device's fault"
    assert "command-does-not-open" in await house.alerts()


@pytest.mark.case("ST-01", "BT-13")
async def test_no_device_is_given_another_devices_bootstrap_token(house: House) -> None:
    """An error, never "none", and never the other's: GetBootstrapToken and ReturnToService. (4.2 row 8)"""
    mac, other = await house.enrolled(MAC), await house.enrolled(MAC)
    await mac.set_bootstrap(MINE)
    await other.set_bootstrap(YOURS)
    point_elsewhere(house, TokenKind.BOOTSTRAP, source=mac, target=other)
    with pytest.raises(SealBroken):
        await other.get_bootstrap()
    with pytest.raises(SealBroken):
        await other.send("ReturnToService")
    assert await mac.get_bootstrap() == MINE
