"""A clock that is set by a day or a year, seen from outside: never a word that makes a device leave, and no loss."""

from datetime import timedelta

import pytest

from e2e.door.conftest import Door
from ostiary.formats import plist

DAY, YEAR = timedelta(days=1), timedelta(days=365)


@pytest.mark.parametrize("jump", [DAY, -DAY, YEAR, -YEAR], ids=["+d", "-d", "+y", "-y"])
async def test_while_a_clock_is_wrong_nobody_is_told_to_leave_and_afterwards_all_is_as_before(
    door: Door, jump: timedelta
) -> None:
    """3.7: certificates may seem expired or not begun meanwhile, which is a 400; what is served is served rightly."""
    device = await door.device().enroll()
    assert (await device.send("SetBootstrapToken", BootstrapToken=b"before")).status_code == 200
    right = door.house.clock.now()
    door.house.clock.moment = right + jump  # type: ignore[attr-defined]  # a test's clock can be set
    said = [
        await device.token_update(Token=b"\x02" * 32),
        await device.send("SetBootstrapToken", BootstrapToken=b"meanwhile"),
        await device.report(),
        await door.device().authenticate(),
    ]
    assert {answer.status_code for answer in said} <= {200, 400}
    if abs(jump) == DAY:
        assert {answer.status_code for answer in said[:3]} == {200}
    door.house.clock.moment = right + timedelta(minutes=1)  # type: ignore[attr-defined]  # likewise
    kept = await device.send("GetBootstrapToken")
    held = b"meanwhile" if said[1].status_code == 200 else b"before"
    assert plist.read_dict(kept.content).data("BootstrapToken") == held
    assert (await device.token_update(Token=b"\x03" * 32)).status_code == 200
    assert (await device.send("SetBootstrapToken", BootstrapToken=b"after")).status_code == 200
    kept = await device.send("GetBootstrapToken")
    assert plist.read_dict(kept.content).data("BootstrapToken") == b"after"
    await door.device().enroll()
