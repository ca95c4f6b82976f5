"""A stored secret opens as the one that it was stored as, and as no other. (4.0.2 rule 3)"""

import sqlite3
from contextlib import closing

import pytest

from escrowed import escrow_values
from ostiary.domain.escrow_view import FOR_PEOPLE
from ostiary.domain.token import TokenKind
from ostiary.ports.sealer import SealBroken
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.reveal import RevealService
from scenes.house import MAC, OPERATOR, Device, House

MINE, YOURS = b"canary-of-one-device", b"canary-of-another"


def copy_value(house: House, kind: TokenKind, *, source: Device, target: Device) -> None:
    """What somebody with a hand in the database would do to read a secret through his own device."""
    with closing(sqlite3.connect(house.path)) as connection, connection:
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
    storage = house.storage
    reveals = RevealService(
        storage.enrollments,
        storage.escrows,
        storage.reports,
        house.sealer,
        house.clock,
        lambda: house.policy,
    )
    with pytest.raises(SealBroken):
        await reveals.reveal(EnrollmentId(other.id), kind, OPERATOR, reason="ticket 4711")
    told = await reveals.reveal(EnrollmentId(mac.id), kind, OPERATOR, reason="ticket 4711")
    assert [one.value.reveal() for one in told.shown] == [MINE]


@pytest.mark.case("ST-01")
async def test_a_value_in_the_row_of_another_kind_is_an_error(house: House) -> None:
    """A PIN is typed by whoever stands before the Mac; a Recovery Lock must not be read as one."""
    mac = await house.enrolled(MAC)
    for kind in (TokenKind.RECOVERY_LOCK, TokenKind.LOCK_PIN):
        await escrow_values(
            house.storage.enrollments, house.sealer, mac.id, kind, [MINE], house.clock.now()
        )
    with closing(sqlite3.connect(house.path)) as connection, connection:
        connection.execute(
            "UPDATE token SET value = (SELECT value FROM token WHERE kind = 'recovery-lock') "
            "WHERE kind = 'lock-pin'"
        )
    with pytest.raises(SealBroken):
        await house.believed(mac.id, TokenKind.LOCK_PIN)
