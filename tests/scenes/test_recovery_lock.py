"""Recovery Locks: committed before they leave, believed only once the Mac says so, never forgotten. (4.0.3, 4.4)"""

import json
from typing import Any

import pytest

from escrowed import escrow_values
from ostiary.domain.escrow import EscrowState
from ostiary.domain.escrow_machine import SetUnderWay
from ostiary.domain.suitability import StillAwaiting
from ostiary.domain.token import DEFAULT_TENANT, TokenKind, TokenState
from ostiary.protocol.mdm.identity import EnrollmentId
from scenes.house import INTEL_MAC, MAC, Device, House

LOCK = TokenKind.RECOVERY_LOCK
SET, VERIFY = "SetRecoveryLock", "VerifyRecoveryLock"


async def next_command(mac: Device, request_type: str) -> dict[str, Any]:
    command = await mac.report()
    assert command is not None
    assert command["Command"]["RequestType"] == request_type
    return command


async def answered(mac: Device, command: dict[str, Any], **keys: Any) -> dict[str, Any] | None:
    return await mac.report("Acknowledged", command["CommandUUID"], **keys)


async def locked(house: House, mac: Device) -> str:
    """A Mac that holds a lock which it has verified; the password."""
    await house.change(mac.id, LOCK)
    command = await next_command(mac, SET)
    await answered(mac, command)
    await answered(mac, await next_command(mac, VERIFY), PasswordVerified=True)
    return str(command["Command"]["NewPassword"])


@pytest.mark.case("RL-01")
async def test_a_lock_is_current_once_the_mac_has_verified_it(house: House) -> None:
    """4.0.3 rows 1, 3, 6, 7, 8."""
    mac = await house.enrolled(MAC)
    await house.change(mac.id, LOCK)
    (stored,) = await house.history(mac.id, LOCK)
    assert stored.state is TokenState.CANDIDATE
    command = await next_command(mac, SET)
    assert await house.believed(mac.id, LOCK) == [command["Command"]["NewPassword"].encode()]
    assert "CurrentPassword" not in command["Command"]
    await answered(mac, command)
    asked = await next_command(mac, VERIFY)
    assert asked["Command"]["Password"] == command["Command"]["NewPassword"]
    await answered(mac, asked, PasswordVerified=True)
    stands = await house.stands(mac.id, LOCK)
    assert stands is not None
    assert (stands.state, stands.current) == (EscrowState.SETTLED, stored.id)
    (proven,) = await house.history(mac.id, LOCK)
    assert proven.proven_at == house.clock.now()


async def test_the_next_change_names_the_lock_in_force(house: House) -> None:
    """4.4: CurrentPassword is required when one is set."""
    mac = await house.enrolled(MAC)
    first = await locked(house, mac)
    await house.change(mac.id, LOCK)
    command = await next_command(mac, SET)
    assert command["Command"]["CurrentPassword"] == first
    assert command["Command"]["NewPassword"] != first


@pytest.mark.case("RL-02")
async def test_a_lock_that_the_mac_does_not_hold_is_rejected_and_the_old_one_stays(
    house: House,
) -> None:
    """4.0.3 row 7b: verify the new one, then the old one."""
    mac = await house.enrolled(MAC)
    first = await locked(house, mac)
    await house.change(mac.id, LOCK)
    await answered(mac, await next_command(mac, SET))
    await answered(mac, await next_command(mac, VERIFY), PasswordVerified=False)
    checked = await next_command(mac, VERIFY)
    assert checked["Command"]["Password"] == first
    await answered(mac, checked, PasswordVerified=True)
    assert await house.believed(mac.id, LOCK) == [first.encode()]
    _, rejected = await house.history(mac.id, LOCK)
    assert rejected.state is TokenState.RETIRED


@pytest.mark.case("RL-03")
async def test_a_lock_whose_answer_was_lost_is_shown_beside_the_old_one(house: House) -> None:
    """4.0.3 rows 3 and 9: n first, then n+1, and an alert."""
    mac = await house.enrolled(MAC)
    first = await locked(house, mac)
    await house.change(mac.id, LOCK)
    second = (await next_command(mac, SET))["Command"]["NewPassword"]
    assert await house.believed(mac.id, LOCK) == [first.encode(), second.encode()]
    house.clock.advance(days=8)
    await house.escrow_watch.tend()
    stands = await house.stands(mac.id, LOCK)
    assert stands is not None
    assert stands.state is EscrowState.UNCERTAIN
    assert await house.believed(mac.id, LOCK) == [first.encode(), second.encode()]
    assert "recovery-lock-uncertain" in await house.alerts()


@pytest.mark.case("RL-04")
async def test_an_answer_to_a_cancelled_change_promotes_nothing(house: House) -> None:
    """4.0.3 row 10."""
    mac = await house.enrolled(MAC)
    first = await locked(house, mac)
    uuid = await house.change(mac.id, LOCK)
    await house.cancel(mac.id, uuid)
    await mac.report("Acknowledged", uuid)
    assert await house.believed(mac.id, LOCK) == [first.encode()]


@pytest.mark.case("RL-05")
async def test_a_second_change_is_refused_while_one_is_under_way(house: House) -> None:
    """4.0.3 row 2."""
    mac = await house.enrolled(MAC)
    await house.change(mac.id, LOCK)
    with pytest.raises(SetUnderWay):
        await house.change(mac.id, LOCK)
    await next_command(mac, SET)
    with pytest.raises(SetUnderWay):
        await house.change(mac.id, LOCK)


@pytest.mark.case("RL-06")
async def test_no_lock_is_set_while_the_mac_waits_in_setup_assistant(house: House) -> None:
    """4.4: it would be acknowledged there and not in force. Refused now, and no value is drawn for it."""
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    with pytest.raises(StillAwaiting):
        await house.change(mac.id, LOCK)
    assert await house.history(mac.id, LOCK) == []
    assert (await mac.work_off())[-1] == "DeviceConfigured"
    await house.change(mac.id, LOCK)
    assert await mac.work_off(**{VERIFY: {"PasswordVerified": True}}) == [SET, VERIFY]


@pytest.mark.case("RL-06")
async def test_a_rotation_that_falls_due_in_setup_assistant_waits_for_its_end(house: House) -> None:
    """4.4: what policy wants is put off, not forgotten."""
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    now = house.clock.now()
    await escrow_values(
        house.storage.enrollments, house.sealer, mac.id, LOCK, [b"of before"], now, due_at=now
    )
    await house.escrow_watch.tend()
    assert SET not in await mac.work_off()
    house.clock.advance(hours=5)
    await house.escrow_watch.tend()
    assert await mac.work_off(**{VERIFY: {"PasswordVerified": True}}) == [SET, VERIFY]


@pytest.mark.case("RL-07")
async def test_a_mac_that_enrolls_anew_is_not_asked_for_its_old_lock(house: House) -> None:
    """4.13: cleared by the Mac when it was unenrolled; the value stays in history."""
    mac = await house.enrolled(MAC)
    await locked(house, mac)
    await mac.send("CheckOut", Topic=mac.topic)
    await mac.authenticate()
    await mac.token_update()
    await mac.drain()
    await house.change(mac.id, LOCK)
    command = await next_command(mac, SET)
    assert "CurrentPassword" not in command["Command"]
    before, _ = await house.history(mac.id, LOCK)
    assert before.state is TokenState.RETIRED


async def test_a_mac_that_says_after_a_new_enrollment_that_it_has_no_lock_is_believed(
    house: House,
) -> None:
    """4.4: PasswordVerified false and IsRecoveryLockEnabled false is cleared."""
    mac = await house.enrolled(MAC)
    first = await locked(house, mac)
    await mac.authenticate()
    await mac.token_update()
    assert await house.believed(mac.id, LOCK) == [first.encode()], "kept until the Mac was asked"
    await mac.work_off(
        VerifyRecoveryLock={"PasswordVerified": False},
        SecurityInfo={"SecurityInfo": {"IsRecoveryLockEnabled": False}},
    )
    assert await house.believed(mac.id, LOCK) == []


async def test_a_mac_that_still_has_its_lock_after_a_new_enrollment_is_asked_which(
    house: House,
) -> None:
    """4.13 column C: check."""
    mac = await house.enrolled(MAC)
    first = await locked(house, mac)
    await mac.authenticate()
    await mac.token_update()
    done = await mac.work_off(
        SecurityInfo={"SecurityInfo": {"IsRecoveryLockEnabled": True}},
        VerifyRecoveryLock={"PasswordVerified": True},
    )
    assert VERIFY in done
    stands = await house.stands(mac.id, LOCK)
    assert stands is not None
    assert stands.state is EscrowState.SETTLED
    assert await house.believed(mac.id, LOCK) == [first.encode()]


@pytest.mark.case("RL-08")
async def test_an_intel_mac_has_no_recovery_lock(house: House) -> None:
    """4.4: Apple silicon."""
    mac = await house.enrolled(INTEL_MAC)
    with pytest.raises(Exception, match=r"Intel|silicon"):
        await house.change(mac.id, LOCK)


async def test_a_lock_can_be_cleared(house: House) -> None:
    """4.4: an empty NewPassword clears."""
    mac = await house.enrolled(MAC)
    first = await locked(house, mac)
    await house.change(mac.id, LOCK, clears=True)
    command = await next_command(mac, SET)
    assert command["Command"]["NewPassword"] == ""
    assert command["Command"]["CurrentPassword"] == first
    await answered(mac, command)
    assert await house.believed(mac.id, LOCK) == [first.encode()], "until the Mac was asked"
    await answered(mac, await next_command(mac, VERIFY), PasswordVerified=False)
    assert await house.believed(mac.id, LOCK) == []


@pytest.mark.case("ST-02")
@pytest.mark.parametrize("refused", [SET, VERIFY])
async def test_a_mac_that_quotes_the_password_in_its_refusal_is_kept_by_its_codes_alone(
    house: House, refused: str
) -> None:
    """users.md 5.2 rule 4: the device's own words may hold what the command carried."""
    mac = await house.enrolled(MAC)
    await locked(house, mac)
    await house.change(mac.id, LOCK)
    command = await next_command(mac, SET)
    if refused == VERIFY:
        await answered(mac, command)
        command = await next_command(mac, VERIFY)
    password = command["Command"].get("Password") or command["Command"]["NewPassword"]
    link = {
        "ErrorCode": 70, "ErrorDomain": "MDMErrorDomain\n" + "x" * 500,
        "LocalizedDescription": f"{password} geht nicht", "USEnglishDescription": f"Not {password}",
    }  # fmt: skip
    await mac.report("Error", command["CommandUUID"], ErrorChain=[link], Said=password)
    stands = await house.stands(mac.id, LOCK)
    assert stands is not None
    lines = await house.storage.reports.list_commands(
        DEFAULT_TENANT, EnrollmentId(mac.id), live_only=False, limit=50
    )
    (line,) = [one for one in lines if one.uuid == command["CommandUUID"]]
    assert line.result is not None
    kept = json.loads(line.result)
    assert kept["Status"] == "Error"
    assert kept["ErrorChain"] == [{"ErrorCode": 70, "ErrorDomain": "MDMErrorDomain" + "x" * 86}]
    told = await house.storage.reports.list_alerts(DEFAULT_TENANT, limit=50)
    written = f"{stands.trouble} {[one.result for one in lines]} {[one.alert for one in told]}"
    assert password not in written
    assert "70" in written


@pytest.mark.parametrize("hand_outs", [1, 2])
async def test_a_first_lock_that_came_to_nothing_names_the_trouble(
    house: House, hand_outs: int
) -> None:
    """4.0.3 rows 5 and 7b: nothing is held then, and whoever looks is told why, whether the device was asked or not."""
    mac = await house.enrolled(MAC)
    await house.change(mac.id, TokenKind.RECOVERY_LOCK)
    for _ in range(hand_outs):
        command = await mac.report()
    assert command is not None
    error = {"ErrorCode": 12072, "ErrorDomain": "MDMErrorDomain", "LocalizedDescription": "No."}
    await mac.report("Error", command["CommandUUID"], ErrorChain=[error])
    stands = await house.stands(mac.id, TokenKind.RECOVERY_LOCK)
    assert stands is not None
    assert "12072" in str(stands.trouble)
    await mac.work_off(
        VerifyRecoveryLock={"PasswordVerified": False},
        SecurityInfo={"SecurityInfo": {"IsRecoveryLockEnabled": False}},
    )
    stands = await house.stands(mac.id, TokenKind.RECOVERY_LOCK)
    assert stands is not None
    assert (stands.state, stands.current, stands.candidate) == (EscrowState.SETTLED, None, None)
    assert "12072" in str(stands.trouble)
