"""What becomes of the push tokens of a device's users when the device leaves. (check-in-and-commands.md 1.6, 2.3)"""

import pytest

from ostiary.domain.enrollment import State
from ostiary.domain.token import DEFAULT_TENANT, Holder, TokenKind, TokenState
from scenes.house import MAC, TOPIC, Device, House

USER = {"UserID": "U-1", "UserShortName": "ada"}


async def check_out(_house: House, mac: Device) -> None:
    await mac.send("CheckOut", Topic=TOPIC)


async def enroll_again(_house: House, mac: Device) -> None:
    await mac.authenticate()


async def released(house: House, mac: Device) -> None:
    await house.devices.release(DEFAULT_TENANT, (await mac.row()).id, actor="anna", reason="sold")


@pytest.mark.parametrize("leave", [check_out, enroll_again, released])
async def test_a_users_push_token_is_not_in_use_once_the_device_has_left(
    house: House, leave: object
) -> None:
    """The ledger calls nothing `ok` that nobody will push to; the history keeps it."""
    mac = await house.enrolled(MAC)
    await mac.token_update(**USER, Token=b"\x05" * 32, PushMagic="of the user")
    user_id = f"{mac.id}:U-1"
    assert callable(leave)
    await leave(house, mac)
    user = await house.require_row(user_id)
    assert (user.state, user.push, user.push_dead_since) == (State.OUT, None, None)
    history = await house.storage.reports.token_history(DEFAULT_TENANT, Holder(user_id))
    assert [(one.kind, one.state) for one in history] == [(TokenKind.PUSH, TokenState.RETIRED)]
    assert user_id not in await house.due()


async def test_a_user_who_comes_back_with_the_same_token_is_pushed_by_a_new_generation(
    house: House,
) -> None:
    """An equal value after the end of a relationship is no repeat. (TU-20)"""
    mac = await house.enrolled(MAC)
    token = {"Token": b"\x05" * 32, "PushMagic": "of the user"}
    await mac.token_update(**USER, **token)
    await mac.authenticate()
    await mac.token_update()
    await mac.token_update(**USER, **token)
    user_id = f"{mac.id}:U-1"
    history = await house.storage.reports.token_history(DEFAULT_TENANT, Holder(user_id))
    assert [one.state for one in history] == [TokenState.RETIRED, TokenState.OK]
    assert await house.push_address(user_id) == (b"\x05" * 32, b"of the user")
