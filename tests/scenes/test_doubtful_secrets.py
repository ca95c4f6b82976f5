"""What may be in force is shown until somebody knows better, and what a device did not say decides nothing. (4.0.3)"""

from collections.abc import Sequence
from typing import Any

import pytest

from fuzz.envelopes import openssl_envelope
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.token import TokenKind
from ostiary.protocol.mdm.connect import Status
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.services.escrow import Wish
from scenes.house import MAC, OPERATOR, Device, House
from scenes.test_admin_account import GUID
from scenes.test_filevault import P1, certificate_of, escrowed
from scenes.test_recovery_lock import answered, locked, next_command

ADMIN, LOCK, DISK = (
    TokenKind.ADMIN_PASSWORD,
    TokenKind.RECOVERY_LOCK,
    TokenKind.FILEVAULT_KEY,
)


async def shown(house: House, mac: Device, kind: TokenKind) -> list[tuple[int, str]]:
    """Which generations a person is shown who asks for the value, and what is said of each."""
    revealed = await house.reveals.reveal(
        EnrollmentId(mac.id), kind, OPERATOR, reason="ticket 4711"
    )
    assert revealed.is_uncertain is (len(revealed.shown) > 1)
    return [(one.generation, one.role) for one in revealed.shown]


async def stands(house: House, mac: Device, kind: TokenKind) -> Escrow:
    found = await house.stands(mac.id, kind)
    assert found is not None
    return found


async def with_account(house: House, *, takes_it: bool = True) -> Device:
    """A Mac whose administrator was made, or may have been made by a command without answer; its GUID is known."""
    house.set_policy(admin_account="admin")
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    if takes_it:
        await mac.drain()
    else:
        command = await mac.report()
        while command is not None and command["Command"]["RequestType"] != "AccountConfiguration":
            command = await answered(mac, command)
        await house.cancel_live(mac.id)
    await house.enqueue(mac.id, "DeviceInformation")
    told = {"AutoSetupAdminAccounts": [{"GUID": GUID, "shortName": "admin"}]}
    await mac.work_off(DeviceInformation={"QueryResponses": told})
    return mac


async def rotation(house: House, mac: Device) -> str:
    changing = await house.escrow.change_or_defer(
        Wish(enrollment_id=EnrollmentId(mac.id), kind=ADMIN), OPERATOR
    )
    return changing.uuid


async def lost_rotation(house: House, mac: Device) -> None:
    """Handed out, never answered, cancelled."""
    uuid = await rotation(house, mac)
    await next_command(mac, "SetAutoAdminPassword")
    await house.cancel(mac.id, uuid)


@pytest.mark.case("AA-04")
@pytest.mark.parametrize("end", ["refused", "cancelled"])
async def test_a_password_that_may_be_in_force_is_shown_though_the_next_change_failed(
    house: House, end: str
) -> None:
    """4.0.3 row 9: no command asks which it is, so both stay shown, the old one first."""
    mac = await with_account(house)
    await lost_rotation(house, mac)
    assert await shown(house, mac, ADMIN) == [(1, "current"), (2, "candidate")]
    third = await rotation(house, mac)
    assert await shown(house, mac, ADMIN) == [(1, "current"), (2, "candidate")], "not sent yet"
    if end == "refused":
        await next_command(mac, "SetAutoAdminPassword")
        assert await shown(house, mac, ADMIN) == [
            (1, "current"),
            (2, "candidate"),
            (3, "candidate"),
        ]
        await mac.report("Error", third, ErrorChain=[])
    else:
        await house.cancel(mac.id, third)
    assert await shown(house, mac, ADMIN) == [(1, "current"), (2, "candidate")]
    fourth = await rotation(house, mac)
    await mac.report()
    await mac.report("Acknowledged", fourth)
    assert await shown(house, mac, ADMIN) == [(4, "current")], "all others are history"


async def test_a_first_password_that_may_be_in_force_is_shown_though_the_next_change_failed(
    house: House,
) -> None:
    """4.0.3 row 9, where nothing was in force before."""
    mac = await with_account(house, takes_it=False)
    await lost_rotation(house, mac)
    third = await rotation(house, mac)
    await mac.report()
    await mac.report("Error", third, ErrorChain=[])
    assert [number for number, _ in await shown(house, mac, ADMIN)] == [1, 2]


@pytest.mark.case("AA-04")
async def test_a_device_that_says_not_now_day_after_day_is_believed_and_waited_for(
    house: House,
) -> None:
    """4.0.3 rows 4 and 5: what was put off was not done, so that the refusal that follows is one."""
    mac = await with_account(house)
    uuid = await rotation(house, mac)
    for _ in range(10):
        command = await mac.report()
        assert command is not None
        assert command["CommandUUID"] == uuid
        await mac.report("NotNow", uuid)
        assert (await stands(house, mac, ADMIN)).state is EscrowState.CANDIDATE
        house.clock.advance(days=1)
        await house.escrow_watch.tend()
    await mac.report()
    await mac.report("Error", uuid, ErrorChain=[])
    after = await stands(house, mac, ADMIN)
    assert (after.state, after.candidate) == (EscrowState.SETTLED, None)
    assert await shown(house, mac, ADMIN) == [(1, "current")]
    assert "admin-password-uncertain" not in await house.alerts()


async def test_a_hand_out_that_was_never_answered_counts_for_ever(house: House) -> None:
    """4.0.3 row 5: the first may have been carried out unheard, whatever is said of the later ones."""
    mac = await with_account(house)
    uuid = await rotation(house, mac)
    await mac.report()
    for _ in range(9):
        await mac.report()
        await mac.report("NotNow", uuid)
        assert (await stands(house, mac, ADMIN)).state is EscrowState.IN_FLIGHT
        house.clock.advance(days=1)
        await house.escrow_watch.tend()
    assert "admin-password-uncertain" not in await house.alerts(), "it answers daily"
    await mac.report()
    await mac.report("Error", uuid, ErrorChain=[])
    assert await shown(house, mac, ADMIN) == [(1, "current"), (2, "candidate")]


@pytest.mark.case("FV-08")
async def test_a_rotation_that_was_put_off_and_then_refused_changes_nothing(house: House) -> None:
    """4.3 row 10."""
    mac = await house.enrolled(MAC)
    await escrowed(house, mac, await certificate_of(house, mac), P1)
    uuid = await house.change(mac.id, DISK)
    for _ in range(3):
        await mac.report()
        await mac.report("NotNow", uuid)
    await mac.report()
    await mac.report("Error", uuid, ErrorChain=[])
    assert (await stands(house, mac, DISK)).state is EscrowState.SETTLED


@pytest.mark.parametrize("damaged", [" ", "\x91\x02\xff", "AAAA-BBBB-CCCC-DDDD-EEEE-FFF\x13"])
async def test_a_recovery_key_that_looks_damaged_is_shown_beside_the_good_one(
    house: House, damaged: str
) -> None:
    """4.3: never drop a value for its look; flag it. Told daily, it is one generation."""
    mac = await house.enrolled(MAC)
    certificate = await certificate_of(house, mac)
    await escrowed(house, mac, certificate, P1)
    for _ in range(3):
        await escrowed(house, mac, certificate, damaged)
    assert await shown(house, mac, DISK) == [(1, "current"), (2, "candidate")]
    assert "filevault-key-uncertain" in await house.alerts()
    assert "may be damaged" in ((await stands(house, mac, DISK)).trouble or "")
    await escrowed(house, mac, certificate, P1)
    assert await shown(house, mac, DISK) == [(1, "current")]
    await escrowed(house, mac, certificate, damaged)
    assert await shown(house, mac, DISK) == [(1, "current"), (2, "candidate")]


async def test_a_rotation_that_tells_a_damaged_key_leaves_both_shown(house: House) -> None:
    """4.3 rows 8 and 9: the Mac has another key now; which, only it knows."""
    mac = await house.enrolled(MAC)
    await escrowed(house, mac, await certificate_of(house, mac), P1)
    await house.change(mac.id, DISK)
    command = await next_command(mac, "RotateFileVaultKey")
    certificate = command["Command"]["ReplyEncryptionCertificate"]
    reply = openssl_envelope(b" ", certificate)
    await answered(mac, command, RotateResult={"EncryptedNewRecoveryKey": reply})
    assert (await stands(house, mac, DISK)).state is EscrowState.UNCERTAIN
    assert await shown(house, mac, DISK) == [(1, "current"), (2, "candidate")]


async def asked(house: House) -> tuple[Device, dict[str, Any]]:
    """A Mac that took another Recovery Lock and is asked whether that is true."""
    mac = await house.enrolled(MAC)
    await locked(house, mac)
    await house.change(mac.id, LOCK)
    await answered(mac, await next_command(mac, "SetRecoveryLock"))
    return mac, await next_command(mac, "VerifyRecoveryLock")


async def unsure(mac: Device, question: dict[str, Any], how: Status) -> None:
    keys: dict[str, Any] = {"ErrorChain": []} if how is Status.ERROR else {}
    await mac.report(how.value, question["CommandUUID"], **keys)


@pytest.mark.parametrize("how", [Status.ERROR, Status.ACKNOWLEDGED])
async def test_a_mac_that_cannot_say_is_asked_again_a_day_later(house: House, how: Status) -> None:
    """4.0.3 row 7b: only "false, or errors for good" is a no."""
    mac, question = await asked(house)
    await unsure(mac, question, how)
    doubted = await stands(house, mac, LOCK)
    assert doubted.state is EscrowState.UNCERTAIN
    assert await shown(house, mac, LOCK) == [(1, "current"), (2, "candidate")]
    assert await mac.report() is None, "not asked about the old one, and not at once"
    house.clock.advance(days=1, minutes=1)
    await house.escrow_watch.tend()
    question = await next_command(mac, "VerifyRecoveryLock")
    await answered(mac, question, PasswordVerified=True)
    assert await shown(house, mac, LOCK) == [(2, "current")]


async def test_a_mac_that_errs_for_good_is_asked_about_the_old_lock(house: House) -> None:
    """4.0.3 row 7b."""
    mac, question = await asked(house)
    for _ in range(2):
        await unsure(mac, question, Status.ERROR)
        house.clock.advance(days=1, minutes=1)
        await house.escrow_watch.tend()
        question = await next_command(mac, "VerifyRecoveryLock")
    await unsure(mac, question, Status.ERROR)
    assert (await stands(house, mac, LOCK)).state is EscrowState.CHECKING
    await answered(mac, await next_command(mac, "VerifyRecoveryLock"), PasswordVerified=True)
    assert await shown(house, mac, LOCK) == [(1, "current")]


@pytest.mark.parametrize("status", ["Acknowledged", "Error", "CommandFormatError", "NotNow"])
async def test_an_answer_to_a_command_that_never_left_decides_nothing(
    house: House, status: str
) -> None:
    """4.0.3 row 10. Hand-outs are stored before they leave, so the device cannot have carried it out."""
    mac = await with_account(house)
    uuid = await rotation(house, mac)
    # What would go out next is this very command, so the forged answer comes on its own.
    command = await mac.report(status, uuid)
    assert "answer-before-hand-out" in await house.alerts()
    assert await queued(house, mac) == ["SetAutoAdminPassword"], "the command stays in line"
    if command is None:  # after NotNow a session may end
        command = await mac.report()
    assert command is not None
    assert command["CommandUUID"] == uuid
    assert (await stands(house, mac, ADMIN)).state is EscrowState.IN_FLIGHT
    await mac.report("Acknowledged", uuid)
    assert await shown(house, mac, ADMIN) == [(2, "current")]


async def queued(house: House, mac: Device) -> Sequence[str]:
    live = ("queued", "sent", "deferred")
    return [name for name, state in await house.queue(mac.id) if state in live]
