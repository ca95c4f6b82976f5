"""Firmware passwords of Intel Macs: in force from the next restart on, in the firmware for ever after. (4.0.3, 4.5)"""

from typing import Any

import pytest

from ostiary.domain.escrow import EscrowState
from ostiary.domain.suitability import CommandNotForThisMac, CommandNotForThisPlatform
from ostiary.domain.token import DEFAULT_TENANT, TokenKind, TokenState
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.protocol.mdm.passwords import UnusablePassword
from ostiary.secret import Secret
from ostiary.web.secret_lines import revealed_line
from scenes.house import INTEL_MAC, IPHONE, MAC, OPERATOR, Device, House, Model

PASSWORD = TokenKind.FIRMWARE_PASSWORD
SET, VERIFY = "SetFirmwarePassword", "VerifyFirmwarePassword"


def changed(answer: bool) -> dict[str, Any]:
    """What a Mac says of SetFirmwarePassword: the status alone says nothing."""
    return {SET: {"PasswordChanged": answer}}


def verified(answer: bool) -> dict[str, Any]:
    return {VERIFY: {"PasswordVerified": answer}}


def status(*, pending: bool, exists: bool = True) -> dict[str, Any]:
    """What a Mac says in SecurityInfo."""
    said = {"PasswordExists": exists, "ChangePending": pending, "AllowOroms": False}
    return {"SecurityInfo": {"FirmwarePasswordStatus": said}}


async def handed_out(mac: Device, request_type: str) -> dict[str, Any]:
    command = await mac.report()
    assert command is not None
    assert command["Command"]["RequestType"] == request_type
    return command


async def security_info(house: House, mac: Device, **said: Any) -> list[str]:
    """An operator asks, the Mac answers; what it was sent on the way."""
    await house.enqueue(mac.id, "SecurityInfo")
    return await mac.work_off(SecurityInfo=status(**said), **{VERIFY: verified(True)})


async def protected(house: House, mac: Device) -> str:
    """A Mac whose firmware password is in force and verified; the password."""
    await house.change(mac.id, PASSWORD)
    command = await handed_out(mac, SET)
    await mac.report("Acknowledged", command["CommandUUID"], **changed(True))
    await security_info(house, mac, pending=False)
    return str(command["Command"]["NewPassword"])


async def shown(house: House, mac: Device) -> list[bytes]:
    """What a person is told who asks for it."""
    told = await house.reveals.reveal(
        EnrollmentId(mac.id), PASSWORD, OPERATOR, reason="ticket 4711"
    )
    return [one.value.reveal() for one in told.shown]


@pytest.mark.case("FW-01")
async def test_a_mac_that_acknowledges_and_changed_nothing_keeps_the_old_password(
    house: House,
) -> None:
    """4.5: PasswordChanged false is a failure although the status is Acknowledged."""
    mac = await house.enrolled(INTEL_MAC)
    first = await protected(house, mac)
    await house.change(mac.id, PASSWORD)
    command = await handed_out(mac, SET)
    assert command["Command"]["CurrentPassword"] == first
    await mac.report("Acknowledged", command["CommandUUID"], **changed(False))
    stands = await house.stands(mac.id, PASSWORD)
    assert stands is not None
    assert stands.state is EscrowState.SETTLED
    assert "nothing changed" in str(stands.trouble)
    assert await house.believed(mac.id, PASSWORD) == [first.encode()]
    _, rejected = await house.history(mac.id, PASSWORD)
    assert rejected.state is TokenState.RETIRED


@pytest.mark.case("FW-02")
async def test_a_password_waits_for_the_restart_and_is_believed_once_the_mac_verified_it(
    house: House,
) -> None:
    """4.5: both visible while ChangePending, promoted after it is false and the Mac says that it holds it."""
    mac = await house.enrolled(INTEL_MAC)
    first = (await protected(house, mac)).encode()
    await house.change(mac.id, PASSWORD)
    command = await handed_out(mac, SET)
    second = str(command["Command"]["NewPassword"]).encode()
    await mac.report("Acknowledged", command["CommandUUID"], **changed(True))
    for _ in range(2):
        stands = await house.stands(mac.id, PASSWORD)
        assert stands is not None
        assert stands.state is EscrowState.PENDING_RESTART
        assert await house.believed(mac.id, PASSWORD) == [first, second]
        assert await shown(house, mac) == [first, second]
        assert await security_info(house, mac, pending=True) == ["SecurityInfo"]
    assert await security_info(house, mac, pending=False) == ["SecurityInfo", VERIFY]
    assert await house.believed(mac.id, PASSWORD) == [second]
    assert [one.state for one in await house.history(mac.id, PASSWORD)] == [
        TokenState.SUPERSEDED,
        TokenState.OK,
    ]


async def test_a_mac_that_restarted_without_the_new_password_is_asked_about_the_old_one(
    house: House,
) -> None:
    """4.0.3 row 7b."""
    mac = await house.enrolled(INTEL_MAC)
    first = await protected(house, mac)
    await house.change(mac.id, PASSWORD)
    command = await handed_out(mac, SET)
    await mac.report("Acknowledged", command["CommandUUID"], **changed(True))
    await house.enqueue(mac.id, "SecurityInfo")
    asked = await handed_out(mac, "SecurityInfo")
    about_new = await mac.report("Acknowledged", asked["CommandUUID"], **status(pending=False))
    about_new = about_new or await handed_out(mac, VERIFY)
    assert about_new["Command"]["Password"] == command["Command"]["NewPassword"]
    about_old = await mac.report("Acknowledged", about_new["CommandUUID"], **verified(False))
    about_old = about_old or await handed_out(mac, VERIFY)
    assert about_old["Command"]["Password"] == first
    await mac.report("Acknowledged", about_old["CommandUUID"], **verified(True))
    assert await house.believed(mac.id, PASSWORD) == [first.encode()]


@pytest.mark.case("FW-03")
async def test_the_password_outlives_an_erase_and_the_release_of_the_device(house: House) -> None:
    """4.5: it lives in the firmware; nothing that ends an enrollment takes it out of there."""
    mac = await house.enrolled(INTEL_MAC)
    first = (await protected(house, mac)).encode()
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    await mac.drain()
    assert await shown(house, mac) == [first], "after an erase"
    await house.devices.release(DEFAULT_TENANT, EnrollmentId(mac.id), actor="scene", reason="sold")
    assert await shown(house, mac) == [first], "after its release"


async def test_a_password_is_let_go_only_once_the_mac_says_that_it_is_cleared(house: House) -> None:
    """4.5: clear it by command before release; in force from the next restart on, as any change."""
    mac = await house.enrolled(INTEL_MAC)
    first = (await protected(house, mac)).encode()
    await house.change(mac.id, PASSWORD, clears=True)
    command = await handed_out(mac, SET)
    assert command["Command"]["NewPassword"] == ""
    assert command["Command"]["CurrentPassword"] == first.decode()
    await mac.report("Acknowledged", command["CommandUUID"], **changed(True))
    assert await house.believed(mac.id, PASSWORD) == [first], "until the Mac has restarted"
    await house.enqueue(mac.id, "SecurityInfo")
    said = status(pending=False, exists=False)
    await mac.work_off(SecurityInfo=said, **{VERIFY: verified(False)})
    assert await house.believed(mac.id, PASSWORD) == []
    assert await house.generations(mac.id, PASSWORD) == [first], "it stays in history"


@pytest.mark.case("FW-04")
@pytest.mark.parametrize("given", ["pässwort-1", "tab\tinside", "back\x7fspace", "newline\n1"])
async def test_a_password_that_no_keyboard_types_at_start_up_is_refused_before_queueing(
    house: House, given: str
) -> None:
    """4.5: only 0x20 to 0x7E, through the escrow desk and in a command that somebody wrote."""
    mac = await house.enrolled(INTEL_MAC)
    queued = await house.queue(mac.id)
    with pytest.raises(UnusablePassword):
        await house.change(mac.id, PASSWORD, value=Secret(given.encode()))
    with pytest.raises(UnusablePassword):
        await house.enqueue(mac.id, SET, NewPassword=given)
    assert await house.queue(mac.id) == queued
    assert await house.history(mac.id, PASSWORD) == []


@pytest.mark.parametrize(
    ("model", "error"),
    [(MAC, CommandNotForThisMac), (IPHONE, CommandNotForThisPlatform)],
    ids=["apple-silicon", "iphone"],
)
async def test_only_intel_macs_have_a_firmware_password(
    house: House, model: Model, error: type[Exception]
) -> None:
    """4.5: not Apple silicon."""
    device = await house.enrolled(model)
    with pytest.raises(error):
        await house.change(device.id, PASSWORD)
    assert await house.history(device.id, PASSWORD) == []


async def told(house: House, mac: Device) -> dict[str, Any]:
    """What `ostiary token reveal` prints."""
    found = await house.reveals.reveal(
        EnrollmentId(mac.id), PASSWORD, OPERATOR, reason="ticket 4711"
    )
    return dict(revealed_line(found))


@pytest.mark.case("FW-02")
async def test_a_reveal_before_the_restart_says_which_is_in_force_now_and_which_after_it(
    house: House,
) -> None:
    """4.5: PENDING_RESTART, both values visible; nothing about it is in doubt."""
    mac = await house.enrolled(INTEL_MAC)
    await house.change(mac.id, PASSWORD)
    command = await handed_out(mac, SET)
    await mac.report("Acknowledged", command["CommandUUID"], **changed(True))
    first = await told(house, mac)
    assert "not in force before" in first["sentence"]
    assert not first["uncertain"]
    await security_info(house, mac, pending=False)
    assert (await told(house, mac))["sentence"] == ""
    await house.change(mac.id, PASSWORD)
    command = await handed_out(mac, SET)
    await mac.report("Acknowledged", command["CommandUUID"], **changed(True))
    both = await told(house, mac)
    assert "Generation 1 is in force now" in both["sentence"]
    assert "took generation 2 and uses it from its next restart on" in both["sentence"]
    assert [one["generation"] for one in both["values"]] == [1, 2]
    assert not both["uncertain"]
    assert both["not_rotated_yet"] == "a change of it is open"


@pytest.mark.case("FW-02")
async def test_a_reveal_before_the_restart_that_takes_the_password_away_says_so(
    house: House,
) -> None:
    """4.5: an empty NewPassword clears, at the next restart as well."""
    mac = await house.enrolled(INTEL_MAC)
    await protected(house, mac)
    await house.change(mac.id, PASSWORD, clears=True)
    command = await handed_out(mac, SET)
    await mac.report("Acknowledged", command["CommandUUID"], **changed(True))
    found = await told(house, mac)
    assert "is without it from its next restart on" in found["sentence"]


async def test_a_change_that_may_wait_for_a_restart_stays_a_doubt(house: House) -> None:
    """4.0.3: a device that refused the second hand-out may have taken the first."""
    mac = await house.enrolled(INTEL_MAC)
    await protected(house, mac)
    await house.change(mac.id, PASSWORD)
    await handed_out(mac, SET)
    command = await handed_out(mac, SET)
    await mac.report("Error", command["CommandUUID"])
    found = await told(house, mac)
    assert found["uncertain"]
    assert "try the first" in found["sentence"]
