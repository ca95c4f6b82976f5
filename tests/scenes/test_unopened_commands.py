"""A command whose secret does not open ends, says so, and stands before no other; what may be in force stays shown. (4.0.2, 4.0.3)"""

import contextlib
import json
from typing import Any

import pytest

from database_file import database
from ostiary.domain.decision import Ask, Change
from ostiary.domain.escrow import Escrow, EscrowState
from ostiary.domain.token import DEFAULT_TENANT, Holder, TokenKind, TokenState
from ostiary.domain.unopened import HandedOutElsewhere
from ostiary.errors import OstiaryError
from ostiary.ports.sealer import EpochUnknown
from ostiary.ports.storage import StorageFailed
from ostiary.protocol.mdm.identity import EnrollmentId
from scenes.house import INTEL_MAC, IPHONE, MAC, OPERATOR, Device, House
from scenes.test_doubtful_secrets import rotation, with_account
from scenes.test_filevault import P1, certificate_of, escrowed
from scenes.test_recovery_lock import answered, locked, next_command

ADMIN, FIRMWARE, LOCK, PIN, DISK, UNLOCK = (
    TokenKind.ADMIN_PASSWORD,
    TokenKind.FIRMWARE_PASSWORD,
    TokenKind.RECOVERY_LOCK,
    TokenKind.LOCK_PIN,
    TokenKind.FILEVAULT_KEY,
    TokenKind.UNLOCK,
)
SET, VERIFY, INFO = "SetRecoveryLock", "VerifyRecoveryLock", "DeviceInformation"
ALERT = "command-does-not-open"


def damage(house: House, device: Device, kind: TokenKind) -> None:
    """One bit of the newest generation is another: a bad disk, or a hand in the database."""
    with database(house.path) as connection:
        record_id, value = connection.execute(
            "SELECT id, value FROM token WHERE holder = ? AND kind = ? ORDER BY generation DESC",
            (device.id, kind.value),
        ).fetchone()
        connection.execute("UPDATE token SET value = ? WHERE id = ?", (_bent(value), record_id))


def damage_command(house: House, uuid: str) -> None:
    with database(house.path) as connection:
        (payload,) = connection.execute(
            "SELECT payload FROM command WHERE uuid = ?", (uuid,)
        ).fetchone()
        connection.execute("UPDATE command SET payload = ? WHERE uuid = ?", (_bent(payload), uuid))


def _bent(sealed: bytes) -> bytes:
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


async def stands(house: House, device: Device, kind: TokenKind) -> Escrow:
    found = await house.stands(device.id, kind)
    assert found is not None
    return found


async def told(house: House, device: Device) -> str:
    """The sentence of the alert."""
    lines = await house.storage.reports.list_alerts(DEFAULT_TENANT, limit=50)
    (sentence,) = [
        line.alert.sentence
        for line in lines
        if line.alert.kind == ALERT and line.alert.subject == device.id
    ]
    return sentence


async def shown(house: House, device: Device, kind: TokenKind) -> tuple[list[int], list[int]]:
    """The generations that a person is shown, and those that do not open."""
    revealed = await house.reveals.reveal(
        EnrollmentId(device.id), kind, OPERATOR, reason="ticket 4711"
    )
    return [one.generation for one in revealed.shown], list(revealed.unopened)


async def states(house: House, device: Device, kind: TokenKind) -> list[TokenState]:
    return [one.state for one in await house.history(device.id, kind)]


async def pushed_again(house: House, device: Device) -> None:
    """What a command that ended led to is not left waiting: a push is planned for it."""
    house.clock.advance(minutes=1)
    assert await house.due() == [device.id]


async def test_a_command_that_does_not_open_ends_and_the_next_one_goes_out_at_once(
    house: House,
) -> None:
    """3.4: nothing behind it waits; the alert names it and says what to do. The device is never refused."""
    mac = await house.enrolled(MAC)
    broken = await house.enqueue(mac.id, "InstallProfile", Payload=b"a profile")
    behind = await house.enqueue(mac.id, INFO)
    damage_command(house, broken)
    command = await mac.report()
    assert command is not None
    assert command["CommandUUID"] == behind
    assert ("InstallProfile", "cancelled") in await house.queue(mac.id)
    sentence = await told(house, mac)
    assert f"InstallProfile {broken} was cancelled when its turn came" in sentence
    assert "Queue it again if it is still meant" in sentence
    (closed,) = [
        line
        for line in await house.storage.reports.list_commands(
            DEFAULT_TENANT, EnrollmentId(mac.id), live_only=False, limit=50
        )
        if line.uuid == broken
    ]
    cause = json.loads(closed.result or "")["cause"]
    assert cause == "cancelled instead of handed out: what was queued does not open"
    assert await mac.drain() == [INFO]


async def test_a_queue_of_nothing_else_ends_with_the_empty_answer(house: House) -> None:
    """Each of them ends in the same request, and no push is planned for what is no more."""
    mac = await house.enrolled(MAC)
    for _ in range(5):
        uuid = await house.enqueue(mac.id, "InstallProfile", Payload=b"a profile")
        damage_command(house, uuid)
    assert await mac.report() is None
    assert [state for name, state in await house.queue(mac.id) if name == "InstallProfile"] == [
        "cancelled"
    ] * 5
    house.clock.advance(hours=1)
    assert await house.due() == []


async def test_what_comes_after_a_report_is_handed_out_as_after_any_other(house: House) -> None:
    """The report is booked once, and what was put off is not offered again in the same session. (CQ-04)"""
    mac = await house.enrolled(MAC)
    late, broken = (
        await house.enqueue(mac.id, "SecurityInfo"),
        await house.enqueue(mac.id, "InstallProfile", Payload=b"a profile"),
    )
    damage_command(house, broken)
    assert (await next_command(mac, "SecurityInfo"))["CommandUUID"] == late
    assert await mac.report("NotNow", late) is None
    assert (await next_command(mac, "SecurityInfo"))["CommandUUID"] == late
    assert await mac.drain() == ["SecurityInfo"]


async def test_a_set_that_never_left_is_rejected_and_what_is_in_force_stays_so(
    house: House,
) -> None:
    """4.0.3 row 5: the Mac cannot have it. The damaged bytes are kept, and another change can be asked for at once."""
    mac = await house.enrolled(MAC)
    password = await locked(house, mac)
    uuid = await house.change(mac.id, LOCK)
    await house.enqueue(mac.id, INFO)
    damage(house, mac, LOCK)
    await next_command(mac, INFO)
    found = await stands(house, mac, LOCK)
    assert (found.state, found.candidate) == (EscrowState.SETTLED, None)
    assert await states(house, mac, LOCK) == [TokenState.OK, TokenState.RETIRED]
    kept = await house.storage.enrollments.load_record((await house.history(mac.id, LOCK))[1].id)
    assert kept is not None
    assert kept.value
    assert await house.believed(mac.id, LOCK) == [password.encode()]
    sentence = await told(house, mac)
    assert f"{SET} {uuid}" in sentence
    assert f"ostiary token escrow {mac.id}" in sentence
    assert "recovery-lock-uncertain" not in await house.alerts()
    await house.change(mac.id, LOCK)
    await mac.work_off(VerifyRecoveryLock={"PasswordVerified": True})
    assert (await house.believed(mac.id, LOCK)) != [password.encode()]


async def test_a_set_that_may_have_left_before_is_in_doubt_until_the_mac_is_asked(
    house: House,
) -> None:
    """4.0.3 row 9: it went out once, unheard. The one in force is shown, although the other does not open."""
    mac = await house.enrolled(MAC)
    await locked(house, mac)
    await house.change(mac.id, LOCK)
    await next_command(mac, SET)
    damage(house, mac, LOCK)
    assert await mac.report() is None
    assert (await stands(house, mac, LOCK)).state is EscrowState.UNCERTAIN
    assert "may have been before" in await told(house, mac)
    assert "recovery-lock-uncertain" in await house.alerts()
    assert await shown(house, mac, LOCK) == ([1], [2])
    await house.escrow.verify(EnrollmentId(mac.id), LOCK, OPERATOR)
    assert await mac.report() is None
    await pushed_again(house, mac)
    await mac.work_off(VerifyRecoveryLock={"PasswordVerified": True})
    assert (await stands(house, mac, LOCK)).state is EscrowState.SETTLED
    assert await shown(house, mac, LOCK) == ([1], [])


async def test_a_change_that_must_name_a_value_that_does_not_open_is_given_up(
    house: House,
) -> None:
    """CurrentPassword: nothing is sent that would only be refused; the value in force is called doubtful, and stays."""
    mac = await house.enrolled(MAC)
    await locked(house, mac)
    damage(house, mac, LOCK)
    await house.change(mac.id, LOCK)
    assert await mac.report() is None
    found = await stands(house, mac, LOCK)
    first, second = await house.history(mac.id, LOCK)
    assert (found.state, found.current) == (EscrowState.SETTLED, first.id)
    assert (first.state, second.state) == (TokenState.SUSPECT, TokenState.RETIRED)
    assert "does not open" in first.cause


@pytest.mark.parametrize("holds_the_old_one", [True, False])
async def test_a_mac_that_cannot_be_asked_about_one_value_is_asked_about_the_other(
    house: House, *, holds_the_old_one: bool
) -> None:
    """4.0.3 row 7b: it took the new one, which is damaged since. Either way another can be set; nothing is hidden."""
    mac = await house.enrolled(MAC)
    old = await locked(house, mac)
    await house.change(mac.id, LOCK)
    command = await next_command(mac, SET)
    damage(house, mac, LOCK)
    await answered(mac, command)
    assert await mac.report() is None
    await pushed_again(house, mac)
    asked = await next_command(mac, VERIFY)
    assert asked["Command"]["Password"] == old
    await answered(mac, asked, PasswordVerified=holds_the_old_one)
    await mac.work_off(
        VerifyRecoveryLock={"PasswordVerified": False},
        SecurityInfo={"SecurityInfo": {"IsRecoveryLockEnabled": True}},
    )
    expected = EscrowState.SETTLED if holds_the_old_one else EscrowState.UNCERTAIN
    assert (await stands(house, mac, LOCK)).state is expected
    assert await shown(house, mac, LOCK) == ([1], [] if holds_the_old_one else [2])
    await house.change(mac.id, LOCK)
    await next_command(mac, SET)


async def test_a_lock_to_be_cleared_is_not_forgotten_because_it_does_not_open(
    house: House,
) -> None:
    """A Mac that could not be asked has not said that it holds none."""
    mac = await house.enrolled(MAC)
    await locked(house, mac)
    await house.change(mac.id, LOCK, clears=True)
    command = await next_command(mac, SET)
    damage(house, mac, LOCK)
    await answered(mac, command)
    await mac.work_off(SecurityInfo={"SecurityInfo": {"IsRecoveryLockEnabled": True}})
    found = await stands(house, mac, LOCK)
    assert (found.state, found.current) == (
        EscrowState.UNCERTAIN,
        (await house.history(mac.id, LOCK))[0].id,
    )


async def test_somebody_who_asks_about_a_value_that_does_not_open_is_told(house: House) -> None:
    mac = await house.enrolled(MAC)
    await locked(house, mac)
    damage(house, mac, LOCK)
    await house.escrow.verify(EnrollmentId(mac.id), LOCK, OPERATOR)
    assert await mac.report() is None
    found = await stands(house, mac, LOCK)
    assert found.state is EscrowState.SETTLED
    assert found.trouble == "the stored recovery-lock that it carries does not open"
    assert await states(house, mac, LOCK) == [TokenState.SUSPECT]


async def test_another_lock_draws_another_pin_where_the_first_does_not_open(house: House) -> None:
    """4.6, DL-03: the first may have locked the Mac and cannot be read; it stays listed, and does not come again."""
    mac = await house.enrolled(MAC)
    await house.enqueue(mac.id, "DeviceLock")
    await next_command(mac, "DeviceLock")
    damage(house, mac, PIN)
    assert await mac.report() is None
    assert (await stands(house, mac, PIN)).state is EscrowState.UNCERTAIN
    assert await states(house, mac, PIN) == [TokenState.SUSPECT]
    await house.enqueue(mac.id, "DeviceLock")
    await next_command(mac, "DeviceLock")
    assert await shown(house, mac, PIN) == ([2], [1])


async def test_a_lock_that_goes_out_again_unread_draws_another_pin_too(house: House) -> None:
    """4.6: cancelled after its hand-out, and queued once more with the same PIN, which is damaged by then."""
    mac = await house.enrolled(MAC)
    uuid = await house.enqueue(mac.id, "DeviceLock")
    await next_command(mac, "DeviceLock")
    await house.cancel(mac.id, uuid)
    await house.enqueue(mac.id, "DeviceLock")
    damage(house, mac, PIN)
    assert await mac.report() is None
    await house.enqueue(mac.id, "DeviceLock")
    await next_command(mac, "DeviceLock")
    assert await shown(house, mac, PIN) == ([2], [1])


async def test_a_password_whose_hash_does_not_open_was_never_set(house: House) -> None:
    """4.8: the command holds the hash, the ledger the password; AA-04: the one before is still shown."""
    mac = await with_account(house)
    uuid = await rotation(house, mac)
    damage_command(house, uuid)
    assert await mac.report() is None
    found = await stands(house, mac, ADMIN)
    assert (found.state, found.candidate) == (EscrowState.SETTLED, None)
    assert await states(house, mac, ADMIN) == [TokenState.OK, TokenState.RETIRED]


async def test_a_firmware_password_that_waits_for_a_restart_is_asked_about_after_it(
    house: House,
) -> None:
    """4.5: that the Mac cannot be asked now decides nothing of what it does at its next restart."""
    mac = await house.enrolled(INTEL_MAC)
    await house.change(mac.id, FIRMWARE)
    command = await next_command(mac, "SetFirmwarePassword")
    await answered(mac, command, SetFirmwarePassword={"PasswordChanged": True})
    assert (await stands(house, mac, FIRMWARE)).state is EscrowState.PENDING_RESTART
    await house.escrow.verify(EnrollmentId(mac.id), FIRMWARE, OPERATOR)
    damage(house, mac, FIRMWARE)
    assert await mac.report() is None
    assert (await stands(house, mac, FIRMWARE)).state is EscrowState.PENDING_RESTART
    await house.enqueue(mac.id, "SecurityInfo")
    status = {"PasswordExists": True, "ChangePending": False}
    said = {"SecurityInfo": {"FirmwarePasswordStatus": status}}
    await mac.work_off(SecurityInfo=said)
    await mac.work_off(SecurityInfo=said)
    found = await stands(house, mac, FIRMWARE)
    assert (found.state, found.candidate) == (
        EscrowState.UNCERTAIN,
        (await house.history(mac.id, FIRMWARE))[0].id,
    )
    await house.change(mac.id, FIRMWARE)


async def test_a_users_command_that_does_not_open_ends_too(house: House) -> None:
    """The device is the subject of the alert: a person looks for that."""
    mac = await house.enrolled(MAC)
    user = {"UserID": "0A000000-0000-4000-8000-000000000001", "UserShortName": "ada"}
    await mac.token_update(**user)
    await mac.drain(**user)
    user_id = f"{mac.id}:{user['UserID']}"
    broken = await house.enqueue(user_id, "InstallProfile", Payload=b"a profile")
    await house.enqueue(user_id, "ProfileList")
    damage_command(house, broken)
    assert await mac.drain(**user) == ["ProfileList"]
    assert broken in await told(house, mac)


async def test_an_erase_whose_pin_does_not_open_does_not_leave(house: House) -> None:
    """4.7: destructive commands are looked at once more, and end like all others."""
    mac = await house.enrolled(INTEL_MAC)
    await house.enqueue(mac.id, "EraseDevice")
    await house.enqueue(mac.id, INFO)
    damage(house, mac, PIN)
    await next_command(mac, INFO)
    assert await states(house, mac, PIN) == [TokenState.RETIRED]


async def test_a_recovery_key_that_does_not_open_is_asked_for_once_more(house: House) -> None:
    """4.3: the Mac tells the same key again, and it is kept again instead of being found known. (FV-04)"""
    mac = await house.enrolled(MAC)
    certificate = await certificate_of(house, mac)
    await escrowed(house, mac, certificate, P1)
    damage(house, mac, DISK)
    await house.change(mac.id, DISK)
    assert await mac.report() is None
    assert (await stands(house, mac, DISK)).state is EscrowState.SETTLED
    assert await states(house, mac, DISK) == [TokenState.SUSPECT]
    await next_command(mac, "SecurityInfo")
    await escrowed(house, mac, certificate, P1)
    assert await states(house, mac, DISK) == [TokenState.SUPERSEDED, TokenState.OK]
    assert await house.believed(mac.id, DISK) == [P1.encode()]


async def test_a_damaged_escrow_key_keeps_no_report_out(house: House) -> None:
    """FV-03: whatever it cannot open is kept as it came, and the Mac is not asked to say it again for ever."""
    mac = await house.enrolled(MAC)
    certificate = await certificate_of(house, mac)
    damage(house, mac, TokenKind.FILEVAULT_ESCROW_KEY)
    await escrowed(house, mac, certificate, P1)
    assert await states(house, mac, TokenKind.FILEVAULT_ENVELOPE) == [TokenState.OK]
    assert "filevault-envelope-unreadable" in await house.alerts()


async def test_an_unlock_token_that_does_not_open_is_kept_and_called_doubtful(
    house: House,
) -> None:
    """4.1, 4.0.2 rule 4: an error is not "no token"."""
    phone = await house.enrolled(IPHONE)
    damage(house, phone, UNLOCK)
    await house.enqueue(phone.id, "ClearPasscode")
    await house.enqueue(phone.id, INFO)
    await next_command(phone, INFO)
    assert await states(house, phone, UNLOCK) == [TokenState.SUSPECT]
    assert (await phone.row()).unlock is not None


async def test_a_secret_that_is_gone_from_the_ledger_wedges_nothing_either(house: House) -> None:
    """A database that was restored in part."""
    phone = await house.enrolled(IPHONE)
    await house.enqueue(phone.id, "ClearPasscode")
    await house.enqueue(phone.id, INFO)
    house.lose_records(UNLOCK)
    await next_command(phone, INFO)
    assert "is not in the database any more" in await told(house, phone)
    assert (await phone.row()).unlock is None
    await phone.token_update(UnlockToken=b"another")
    assert await house.value(phone.id, UNLOCK) == b"another"


@pytest.mark.parametrize("is_unheard", [False, True])
async def test_a_lock_that_is_gone_is_pointed_to_no_more(house: House, *, is_unheard: bool) -> None:
    """Whichever of the two the command carried: none of them can be shown, and another can be set."""
    mac = await house.enrolled(MAC)
    await locked(house, mac)
    await house.change(mac.id, LOCK)
    if is_unheard:
        await next_command(mac, SET)
    house.lose_records(LOCK)
    assert await mac.report() is None
    found = await stands(house, mac, LOCK)
    assert not found.state.is_unresolved
    verified: dict[str, Any] = {"PasswordVerified": True}
    for _ in range(3):
        for wish in (
            house.escrow.verify(EnrollmentId(mac.id), LOCK, OPERATOR),
            house.change(mac.id, LOCK),
        ):
            with contextlib.suppress(OstiaryError):
                await wish
            await mac.work_off(VerifyRecoveryLock=verified)
    assert (await stands(house, mac, LOCK)).state is EscrowState.SETTLED
    assert await house.believed(mac.id, LOCK) != []


async def test_a_pin_that_is_gone_from_the_ledger_does_not_go_out_again(house: House) -> None:
    """4.6: nobody could read it, so another lock draws another."""
    mac = await house.enrolled(MAC)
    await house.enqueue(mac.id, "DeviceLock")
    await next_command(mac, "DeviceLock")
    house.lose_records(PIN)
    assert await mac.report() is None
    await house.enqueue(mac.id, "DeviceLock")
    await next_command(mac, "DeviceLock")
    (drawn,) = await house.history(mac.id, PIN)
    assert drawn.state is TokenState.CANDIDATE


async def test_a_recovery_key_that_is_gone_is_kept_when_the_mac_tells_it_again(
    house: House,
) -> None:
    """FV-04 compares digests; a digest without its value would let the key go by for ever."""
    mac = await house.enrolled(MAC)
    certificate = await certificate_of(house, mac)
    await escrowed(house, mac, certificate, P1)
    house.lose_records(DISK)
    await house.change(mac.id, DISK)
    assert await mac.report() is None
    await escrowed(house, mac, certificate, P1)
    assert await house.believed(mac.id, DISK) == [P1.encode()]


async def test_a_key_that_is_not_known_here_yet_ends_nothing(house: House) -> None:
    """Another process may have made the epoch a moment ago: the device asks again, and gets the command. (4.0.2 rule 4)"""
    mac = await house.enrolled(MAC)
    uuid = await house.change(mac.id, LOCK)
    known = house.sealer._keys
    house.sealer._keys = {}
    with pytest.raises(EpochUnknown):
        await mac.report()
    house.sealer._keys = known
    assert (await next_command(mac, SET))["CommandUUID"] == uuid
    assert ALERT not in await house.alerts()


async def test_a_key_that_stays_unknown_is_told_of(house: House) -> None:
    """Nothing is given up for it: a damaged row, or a table of keys that was restored in part, is a person's to judge."""
    mac = await house.enrolled(MAC)
    uuid = await house.change(mac.id, LOCK)
    house.sealer._keys = {}
    for _ in range(5):
        with pytest.raises(EpochUnknown):
            await mac.report()
    assert "command-waits-for-key" not in await house.alerts()
    with pytest.raises(EpochUnknown):
        await mac.report()
    assert "command-waits-for-key" in await house.alerts()
    assert (SET, "sent") in await house.queue(mac.id)
    await house.cancel(mac.id, uuid)
    assert await mac.report() is None


async def test_a_database_that_is_away_ends_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    mac = await house.enrolled(MAC)
    uuid = await house.change(mac.id, LOCK)

    async def away(_record_id: str) -> None:
        raise StorageFailed

    with monkeypatch.context() as patched:
        patched.setattr(house.storage.enrollments, "load_record", away)
        with pytest.raises(StorageFailed):
            await mac.report()
    assert (await next_command(mac, SET))["CommandUUID"] == uuid
    assert ALERT not in await house.alerts()


async def test_a_crash_between_the_hand_out_and_its_end_wedges_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hand-out is stored, its end is not: the next request ends it, and the doubt is on the safe side. (row 9)"""
    mac = await house.enrolled(MAC)
    await locked(house, mac)
    await house.change(mac.id, LOCK)
    await house.enqueue(mac.id, INFO)
    damage(house, mac, LOCK)
    decide = house.storage.enrollments.decide
    decided: list[Ask] = []

    async def once(ask: Ask, rule: Any) -> Change[Any]:
        decided.append(ask)
        if len(decided) > 1:
            raise StorageFailed
        return await decide(ask, rule)

    with monkeypatch.context() as patched:
        patched.setattr(house.storage.enrollments, "decide", once)
        with pytest.raises(StorageFailed):
            await mac.report()
    assert (await stands(house, mac, LOCK)).state is EscrowState.IN_FLIGHT
    await next_command(mac, INFO)
    assert (await stands(house, mac, LOCK)).state is EscrowState.UNCERTAIN
    assert await shown(house, mac, LOCK) == ([1], [2])


async def test_a_command_that_went_out_through_another_node_meanwhile_is_not_ended(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3.4 rule 11: what cannot be read here may have been read there; its answer is still waited for."""
    mac = await house.enrolled(MAC)
    broken = await house.enqueue(mac.id, "InstallProfile", Payload=b"a profile")
    damage_command(house, broken)
    decide = house.storage.enrollments.decide
    decided: list[Change[Any]] = []

    async def overtaken(ask: Ask, rule: Any) -> Change[Any]:
        change = await decide(ask, rule)
        if not decided:
            decided.append(change)
            house.clock.advance(seconds=1)
            await decide(ask, rule)
        return change

    monkeypatch.setattr(house.storage.enrollments, "decide", overtaken)
    with pytest.raises(HandedOutElsewhere):
        await mac.report()
    assert ("InstallProfile", "sent") in await house.queue(mac.id)


async def test_two_changes_of_one_secret_stay_impossible(house: House) -> None:
    """Row 2: whatever a command that did not open left, one Set is under way at most."""
    mac = await house.enrolled(MAC)
    await locked(house, mac)
    for _ in range(3):
        await house.change(mac.id, LOCK)
        damage(house, mac, LOCK)
        assert await mac.report() is None
    holder = Holder(mac.id)
    found = await house.storage.escrows.find(DEFAULT_TENANT, holder)
    assert [one.state for one in found if one.kind is LOCK] == [EscrowState.SETTLED]
    assert await shown(house, mac, LOCK) == ([1], [])
