"""What opens and cannot be written as a property list, or is lost, holds back no channel either; somebody is told. (3.4, 4.0.2)"""

import plistlib
from typing import Any

import pytest

from database_file import database
from ostiary.domain.decision import Snapshot
from ostiary.domain.escrow import EscrowState
from ostiary.domain.token import DEFAULT_TENANT, SealedValue, TokenKind, TokenState
from ostiary.errors import Conflicting
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.commands import CommandTooLarge
from ostiary.services.rendering import command_label
from scenes.house import INTEL_MAC, IPHONE, MAC, OPERATOR, Device, House
from scenes.test_filevault import certificate_of, escrowed
from scenes.test_recovery_lock import locked, next_command
from scenes.test_unopened_commands import told

DISK, LOCK, PIN, UNLOCK = (
    TokenKind.FILEVAULT_KEY,
    TokenKind.RECOVERY_LOCK,
    TokenKind.LOCK_PIN,
    TokenKind.UNLOCK,
)
INFO, SET, VERIFY = "DeviceInformation", "SetRecoveryLock", "VerifyRecoveryLock"
GONE = "secret-records-gone"


def stored(house: House, uuid: str, payload: bytes) -> None:
    """What is stored of a command is this now."""
    with database(house.path) as connection:
        connection.execute("UPDATE command SET payload = ? WHERE uuid = ?", (payload, uuid))


async def revealed(house: House, key: str) -> Device:
    """A Mac whose recovery key somebody was shown, so that another is due soon."""
    mac = await house.enrolled(MAC)
    await escrowed(house, mac, await certificate_of(house, mac), key)
    await house.reveals.reveal(EnrollmentId(mac.id), DISK, OPERATOR, reason="ticket 4711")
    return mac


def lose(house: House, device: Device, kind: TokenKind, *, newest: bool) -> None:
    order = "DESC" if newest else "ASC"
    with database(house.path) as connection:
        (record_id,) = connection.execute(
            f"SELECT id FROM token WHERE holder = ? AND kind = ? ORDER BY generation {order}",
            (device.id, kind.value),
        ).fetchone()
        connection.execute("DELETE FROM token WHERE id = ?", (record_id,))


@pytest.mark.parametrize("key", ["AAAA-BB\x01B-CCCC", "AAAA\x00BBBB"])
async def test_a_recovery_key_that_xml_cannot_carry_ends_its_rotation_and_holds_back_nothing(
    house: House, key: str
) -> None:
    """4.3: the Mac told it so. It stays in force and shown, undoubted: a person may type it, or give a user's password."""
    mac = await house.enrolled(MAC)
    await escrowed(house, mac, await certificate_of(house, mac), key)
    uuid = await house.change(mac.id, DISK)
    behind = await house.enqueue(mac.id, INFO)
    assert (await next_command(mac, INFO))["CommandUUID"] == behind
    assert await mac.drain() == [INFO]
    assert await house.believed(mac.id, DISK) == [key.encode()]
    found = await house.stands(mac.id, DISK)
    assert found is not None
    assert found.state is EscrowState.SETTLED
    assert TokenState.SUSPECT not in [one.state for one in await house.history(mac.id, DISK)]
    sentence = await told(house, mac)
    assert f"RotateFileVaultKey {uuid} was cancelled" in sentence
    assert "the filevault-key that it carries cannot be written" in sentence
    assert f"`ostiary token rotate --unlock-with-stdin {mac.id} filevault-key`" in sentence
    assert key[:7] not in sentence


async def test_a_rotation_that_was_due_is_not_tried_for_ever_with_a_key_that_cannot_be_written(
    house: House,
) -> None:
    """4.3 row 10: each try would end the same way."""
    mac = await revealed(house, "AAAA\x01-BBBB")
    for _ in range(5):
        house.clock.advance(days=3)
        await house.escrow_watch.tend()
        assert "RotateFileVaultKey" not in await mac.drain()
    rotations = [name for name, _ in await house.queue(mac.id) if name == "RotateFileVaultKey"]
    assert len(rotations) <= 1


async def test_a_small_command_that_is_beyond_all_limits_as_xml_is_refused_at_once(
    house: House,
) -> None:
    """3.2: devices get XML, where each `&` is five characters. Whoever queues it hears of it, not the device."""
    mac = await house.enrolled(INTEL_MAC)
    junk: dict[str, Any] = {"RequestType": "DeviceLock", "PIN": "123456", "Junk": "&" * 3_900_000}
    body = plistlib.dumps({"Command": junk}, fmt=plistlib.FMT_BINARY)
    target = EnrollmentId(mac.id)
    with pytest.raises(CommandTooLarge, match="as_xml_bytes=195"):
        await house.desk.enqueue_raw([target], body, OPERATOR, pushes=True)
    with pytest.raises(CommandTooLarge):
        await house.desk.rehearse([target], junk, OPERATOR)
    assert await house.history(mac.id, PIN) == []
    assert await mac.report() is None


async def test_a_command_that_was_queued_too_large_ends_when_its_turn_comes(house: House) -> None:
    """An earlier version queued such ones."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "ClearPasscode")
    text = b"<string>" + b"a" * 17_000_000 + b"</string>"
    written = (
        b'<plist version="1.0"><dict><key>Command</key><dict><key>RequestType</key>'
        b"<string>ClearPasscode</string><key>Junk</key>" + text + b"</dict></dict></plist>"
    )
    label = command_label(DEFAULT_TENANT, CommandUuid(uuid))
    stored(house, uuid, house.sealer.seal(Secret(written), label))
    await house.enqueue(phone.id, INFO)
    await next_command(phone, INFO)
    assert "what was queued cannot be written: The property list exceeds" in await told(
        house, phone
    )
    assert (await phone.row()).unlock is not None


@pytest.mark.parametrize(
    "command",
    [
        {"RequestType": "InstallProfile", "Payload": b"a profile"},
        {"RequestType": "Settings", "Settings": [{"Item": "DeviceName", "DeviceName": "lobby"}]},
    ],
    ids=lambda command: str(command["RequestType"]),
)
async def test_a_queued_command_that_was_damaged_to_nothing_goes_out_as_no_other_setting(
    house: House, command: dict[str, Any]
) -> None:
    """Settings have a standard form too, and this is not what somebody asked for."""
    mac = await house.enrolled(MAC)
    done = await house.desk.enqueue([EnrollmentId(mac.id)], command, OPERATOR)
    assert list(done.refused.values()) == [None]
    behind = await house.enqueue(mac.id, "ProfileList")
    stored(house, done.uuid, SealedValue(b""))
    assert (await next_command(mac, "ProfileList"))["CommandUUID"] == behind
    assert "what was queued cannot be written: nothing is stored of it" in await told(house, mac)


async def test_a_standard_command_that_an_earlier_version_queued_still_goes_out(
    house: House,
) -> None:
    """It stored such ones as nothing; a phone that is found after weeks is still to be opened."""
    phone = await house.enrolled(IPHONE)
    uuid = await house.enqueue(phone.id, "ClearPasscode")
    stored(house, uuid, SealedValue(b""))
    command = await next_command(phone, "ClearPasscode")
    assert command["CommandUUID"] == uuid
    assert command["Command"]["UnlockToken"] == phone.unlock


async def test_a_command_of_ours_that_has_no_standard_form_ends_if_nothing_is_left_of_it(
    house: House,
) -> None:
    """A rotation that was due has a name that is derived, and is sealed."""
    mac = await revealed(house, "AAAA-BBBB")
    house.clock.advance(days=3)
    await house.escrow_watch.tend()
    with database(house.path) as connection:
        (uuid,) = connection.execute(
            "SELECT uuid FROM command WHERE request_type = 'RotateFileVaultKey'"
        ).fetchone()
    stored(house, uuid, b"")
    assert "RotateFileVaultKey" not in await mac.drain()
    assert "nothing is stored of it" in await told(house, mac)


@pytest.mark.parametrize("status", ["Acknowledged", "Error"])
@pytest.mark.parametrize(
    ("kind", "newest"), [(LOCK, True), (LOCK, False), (PIN, True)], ids=["new", "old", "pin"]
)
async def test_a_report_about_a_secret_that_is_gone_is_booked_and_somebody_is_told(
    house: House, kind: TokenKind, status: str, *, newest: bool
) -> None:
    """3.4: refused, the device would say it for ever. What the ledger has lost is proven and retired by nobody."""
    mac = await house.enrolled(MAC)
    if kind is PIN:
        await house.enqueue(mac.id, "DeviceLock")
    else:
        await locked(house, mac)
        await house.change(mac.id, LOCK)
    command = await mac.report()
    assert command is not None
    lose(house, mac, kind, newest=newest)
    await house.enqueue(mac.id, INFO)
    await mac.report(status, command["CommandUUID"])
    assert (command["Command"]["RequestType"], "sent") not in await house.queue(mac.id)
    await mac.work_off(VerifyRecoveryLock={"PasswordVerified": True})
    assert (INFO, "done") in await house.queue(mac.id)
    if kind is PIN:
        await house.enqueue(mac.id, "DeviceLock")
    else:
        await house.change(mac.id, LOCK)
    await mac.work_off(VerifyRecoveryLock={"PasswordVerified": True})
    assert await house.alerts() & {GONE, "command-does-not-open"}


@pytest.mark.parametrize("kind", [TokenKind.PUSH, TokenKind.UNLOCK])
async def test_a_new_token_is_kept_though_the_one_before_it_is_gone(
    house: House, kind: TokenKind
) -> None:
    """TU-3: what a device hands over once is not refused for what the database lost."""
    phone = await house.enrolled(IPHONE)
    lose(house, phone, kind, newest=True)
    await phone.token_update(Token=b"n" * 32, UnlockToken=b"a new one")
    assert await house.value(phone.id, TokenKind.UNLOCK) == b"a new one"
    assert GONE in await house.alerts()
    await phone.send("CheckOut", Topic=phone.topic)


async def test_a_new_bootstrap_token_is_kept_though_the_one_before_it_is_gone(house: House) -> None:
    mac = await house.enrolled(MAC)
    await mac.set_bootstrap(b"the first")
    lose(house, mac, TokenKind.BOOTSTRAP, newest=True)
    await mac.set_bootstrap(b"the second")
    assert await mac.get_bootstrap() == b"the second"
    assert GONE in await house.alerts()


@pytest.mark.parametrize("said", ["CheckOut", "Authenticate"])
async def test_a_device_leaves_and_begins_anew_though_its_tokens_are_gone(
    house: House, said: str
) -> None:
    phone = await house.enrolled(IPHONE)
    lose(house, phone, TokenKind.UNLOCK, newest=True)
    house.clock.advance(minutes=1)
    if said == "CheckOut":
        await phone.send("CheckOut", Topic=phone.topic)
    await phone.authenticate()
    await phone.token_update(UnlockToken=b"a new one")
    assert await house.value(phone.id, TokenKind.UNLOCK) == b"a new one"


async def test_a_lost_lock_pin_is_told_of_when_the_mac_answers(house: House) -> None:
    mac = await house.enrolled(MAC)
    uuid = await house.enqueue(mac.id, "DeviceLock")
    await next_command(mac, "DeviceLock")
    lose(house, mac, PIN, newest=True)
    assert await mac.report("Acknowledged", uuid) is None
    assert ("DeviceLock", "done") in await house.queue(mac.id)
    assert GONE in await house.alerts()
    found = await house.stands(mac.id, PIN)
    assert found is not None
    assert (found.state, found.current) == (EscrowState.SETTLED, None)


async def test_a_report_that_does_not_fit_for_another_reason_is_not_booked_in_part(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the ledger has lost is left out; everything else is asked again on fresh state."""
    mac = await house.enrolled(MAC)
    uuid = await house.change(mac.id, LOCK)
    await next_command(mac, SET)
    decide = house.storage.enrollments.decide

    class Overtaken(Conflicting):
        """Another was faster."""

    async def overtaken(ask: Any, rule: Any) -> Any:
        def late(seen: Snapshot) -> None:
            rule(seen)
            raise Overtaken

        return await decide(ask, late)  # type: ignore[arg-type]  # it raises before it answers

    with monkeypatch.context() as patched:
        patched.setattr(house.storage.enrollments, "decide", overtaken)
        with pytest.raises(Overtaken):
            await mac.report("Acknowledged", uuid)
    assert GONE not in await house.alerts()
    assert (SET, "sent") in await house.queue(mac.id)
