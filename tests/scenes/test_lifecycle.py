"""What becomes of each secret when the relationship with its device is renewed, begins anew or ends: the page, cell by cell.

Source: escrowed-secrets.md 4.13. Its columns B to F are the causes of check-in-and-commands.md 2.3; the two of a contest
are what 2.3 makes of a certificate that proved nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

import pytest

from escrowed import escrow_values
from ostiary.domain.enqueueing import NotEnrolled
from ostiary.domain.enrollment import Bound, Standing
from ostiary.domain.escrow import EscrowState
from ostiary.domain.pairing import EnrollmentIsOut
from ostiary.domain.token import DEFAULT_TENANT, TokenKind, TokenState
from ostiary.protocol.mdm.identity import EnrollmentId
from scenes.house import INTEL_MAC, IPHONE, MAC, Device, House, Model

MATRIX: Final = """
secret                  | B     | C      | D      | E      | F    | out      | won    | erased won | lost
unlock                  | keep  | retire | retire | n/a    | keep | unserved | retire | retire     | keep
bootstrap               | keep  | retire | retire | retire | keep | unserved | retire | retire     | keep
filevault-key           | keep  | keep   | retire | keep   | keep | keep     | keep   | retire     | keep
filevault-escrow-key    | keep  | keep   | keep   | keep   | keep | keep     | keep   | keep       | keep
recovery-lock           | check | check  | retire | check  | n/a  | retire   | check  | retire     | keep
firmware-password       | keep  | keep   | keep   | keep   | keep | keep     | keep   | keep       | keep
lock-pin                | keep  | keep   | retire | keep   | n/a  | keep     | keep   | retire     | keep
admin-password          | keep  | keep   | retire | keep   | n/a  | keep     | keep   | retire     | keep
activation-bypass-device| keep  | keep   | keep   | keep   | keep | keep     | keep   | keep       | keep
activation-bypass-server| keep  | keep   | keep   | keep   | keep | keep     | keep   | keep       | keep
"""
"""keep: stays current. retire: to history, not offered. check: stays, and the device is asked. unserved: kept, and given
to nobody. E of the bootstrap token is one that no signed MachineInfo proves. Out, of the Recovery Lock: the Mac itself
drops it. What a lost contest does is nothing."""

PENDING: Final = """
pending change          | B     | C      | D      | E      | F    | out      | won    | erased won | lost
queued                  | keep  | cancel | cancel | cancel | keep | cancel   | cancel | cancel     | keep
handed out              | keep  | doubt  | doubt  | doubt  | keep | doubt    | doubt  | doubt      | keep
"""
"""cancel: the value never left, and the one before is in force. doubt: cancelled, and both may be. The page says cancel of
D and of a CheckOut; a firmware password outlives both, so there too it is in doubt."""

VALUE: Final = b"canary-a-value-of-before"
_MODELS: Final[Mapping[TokenKind, Model]] = MappingProxyType(
    {
        TokenKind.UNLOCK: IPHONE,
        TokenKind.FIRMWARE_PASSWORD: INTEL_MAC,
        TokenKind.BYPASS_DEVICE: IPHONE,
        TokenKind.BYPASS_SERVER: IPHONE,
    }
)


async def enrolls(device: Device, **keys: bool) -> None:
    """The device brings no secret of its own along."""
    await device.authenticate()
    await device.token_update(UnlockToken=None, **keys)


async def renewed(house: House, device: Device) -> Device:
    """B: the certificate is one that we issued for this renewal."""
    device = await house.renewal_of(device)
    await enrolls(device)
    return device


async def enrolled_again(_house: House, device: Device) -> Device:
    """C."""
    await enrolls(device)
    return device


async def erased(_house: House, device: Device) -> Device:
    """D: it comes out of Setup Assistant."""
    await enrolls(device, AwaitingConfiguration=True)
    return device


async def profiles_renewed(house: House, device: Device) -> Device:
    """E: another certificate, issued for this Mac's serial number, and it does not wait."""
    again = device.with_certificate("after profiles renew")
    await house.credential(again, bound=Bound(serial_number=device.serial))
    await enrolls(again)
    return again


async def restored(_house: House, device: Device) -> Device:
    """F: its own backup; no Authenticate."""
    await device.token_update(UnlockToken=None)
    return device


async def checked_out(_house: House, device: Device) -> Device:
    await device.send("CheckOut", Topic=device.topic)
    return device


async def contested(device: Device) -> Device:
    """Somebody with another certificate, who proves nothing."""
    newcomer = device.with_certificate("somebody's")
    await enrolls(newcomer)
    return newcomer


async def won(house: House, device: Device) -> Device:
    """An operator says that the newcomer is the device."""
    newcomer = await contested(device)
    await house.devices.accept_certificate(
        DEFAULT_TENANT, EnrollmentId(device.id), None, actor="scene", reason="a new board"
    )
    return newcomer


async def erased_and_won(house: House, device: Device) -> Device:
    """The newcomer came out of Setup Assistant, and had been released from it when an operator accepted it. (D)"""
    newcomer = device.with_certificate("somebody's")
    await enrolls(newcomer, AwaitingConfiguration=True)
    assert "DeviceConfigured" in await newcomer.drain()
    await house.devices.accept_certificate(
        DEFAULT_TENANT, EnrollmentId(device.id), None, actor="scene", reason="I erased it"
    )
    assert not (await newcomer.row()).awaiting
    return newcomer


async def lost(house: House, device: Device) -> Device:
    """An operator says that the newcomer is not the device."""
    await contested(device)
    await house.devices.keep_certificate(
        DEFAULT_TENANT, EnrollmentId(device.id), actor="scene", reason="it is on my desk"
    )
    return device


Play = Callable[[House, Device], Awaitable[Device]]
PLAYS: Final[Mapping[str, Play]] = MappingProxyType(
    {
        "B": renewed,
        "C": enrolled_again,
        "D": erased,
        "E": profiles_renewed,
        "F": restored,
        "out": checked_out,
        "won": won,
        "erased won": erased_and_won,
        "lost": lost,
    }
)


def cells(page: str) -> list[tuple[str, str, str]]:
    """Row, column and what stands there, of every cell that means something."""
    head, *rows = [[cell.strip() for cell in line.split("|")] for line in page.strip().splitlines()]
    return [
        (name, column, fate)
        for name, *fates in rows
        for column, fate in zip(head[1:], fates, strict=True)
        if fate != "n/a"
    ]


async def held(house: House, kind: TokenKind) -> Device:
    """A device that handed over, or was given, the value."""
    device = await house.enrolled(_MODELS.get(kind, MAC))
    match kind:
        case TokenKind.UNLOCK:
            await device.token_update(UnlockToken=VALUE)
        case TokenKind.BOOTSTRAP:
            await device.set_bootstrap(VALUE)
        case _:
            now = house.clock.now()
            await escrow_values(
                house.storage.enrollments, house.sealer, device.id, kind, [VALUE], now
            )
    return device


async def offered(house: House, device: Device, kind: TokenKind) -> list[bytes]:
    """What is current, by whichever pointer names it."""
    if kind in (TokenKind.UNLOCK, TokenKind.BOOTSTRAP):
        value = await house.value(device.id, kind)
        return [] if value is None else [value]
    return await house.believed(device.id, kind)


async def is_settled(house: House, device: Device, kind: TokenKind) -> bool:
    stands = await house.stands(device.id, kind)
    return stands is None or stands.state is EscrowState.SETTLED


async def is_asked_about(house: House, device: Device, kind: TokenKind) -> bool:
    """Whether the device is being asked, or will be as soon as it says that there is such a secret."""
    asks = ("VerifyRecoveryLock", "queued") in await house.queue(device.id)
    return asks or not await is_settled(house, device, kind)


async def is_served(device: Device, kind: TokenKind) -> bool:
    """Whether anybody can still put it to use."""
    try:
        if kind is TokenKind.BOOTSTRAP:
            return await device.get_bootstrap() == VALUE
        await device.house.enqueue(device.id, "ClearPasscode")
    except (NotEnrolled, EnrollmentIsOut):
        return False
    return True


@pytest.mark.parametrize(
    ("secret", "column", "fate"), [pytest.param(*one, id="-".join(one)) for one in cells(MATRIX)]
)
async def test_each_secret_comes_to_what_the_page_says(
    house: House, secret: str, column: str, fate: str
) -> None:
    """4.13: what is current, what is in history, what is in doubt; and nothing is ever lost."""
    kind = TokenKind(secret)
    device = await held(house, kind)
    house.clock.advance(minutes=1)
    device = await PLAYS[column](house, device)
    current = await offered(house, device, kind)
    (record,) = [
        one
        for one, value in zip(
            await house.history(device.id, kind),
            await house.generations(device.id, kind),
            strict=True,
        )
        if value == VALUE
    ]
    match fate:
        case "keep":
            assert current == [VALUE]
            assert record.state is TokenState.OK
            assert await is_settled(house, device, kind)
        case "retire":
            assert current == []
            assert record.state is TokenState.RETIRED
            assert await is_settled(house, device, kind)
        case "check":
            assert current == [VALUE]
            assert await is_asked_about(house, device, kind)
        case "unserved":
            assert record.state is TokenState.OK
            assert not await is_served(device, kind)
        case _:
            raise AssertionError(fate)


@pytest.mark.parametrize(
    ("how_far", "column", "fate"), [pytest.param(*one, id="-".join(one)) for one in cells(PENDING)]
)
async def test_each_change_under_way_comes_to_what_the_page_says(
    house: House, how_far: str, column: str, fate: str
) -> None:
    """4.13, the last row; 4.0.3 row 9."""
    kind = TokenKind.FIRMWARE_PASSWORD
    device = await held(house, kind)
    uuid = await house.change(device.id, kind)
    if how_far == "handed out":
        command = await device.report()
        assert command is not None
        assert command["CommandUUID"] == uuid
    house.clock.advance(minutes=1)
    device = await PLAYS[column](house, device)
    believed = await house.believed(device.id, kind)
    is_cancelled = ("SetFirmwarePassword", "cancelled") in await house.queue(device.id)
    stands = await house.stands(device.id, kind)
    assert stands is not None
    assert len(await house.history(device.id, kind)) == 2
    match fate:
        case "keep":
            assert not is_cancelled
            assert len(believed) == 2
            assert stands.state.is_unresolved
            again = await device.report()
            assert again is not None
            assert again["CommandUUID"] == uuid
        case "cancel":
            assert is_cancelled
            assert believed == [VALUE]
            assert stands.state is EscrowState.SETTLED
        case "doubt":
            assert is_cancelled
            assert len(believed) == 2
            assert believed[0] == VALUE
            assert stands.state is EscrowState.UNCERTAIN
        case _:
            raise AssertionError(fate)


@pytest.mark.parametrize("how", ["accepted at once", "accepted after it began anew"])
async def test_a_newcomer_that_was_erased_is_erased_whenever_it_is_accepted(
    house: House, how: str
) -> None:
    """4.13 D: in Setup Assistant still, or long out of it."""
    device, newcomer = await out_of_setup_assistant(house, drained=how != "accepted at once")
    if how == "accepted after it began anew":
        await enrolls(newcomer)
    await house.devices.accept_certificate(
        DEFAULT_TENANT, EnrollmentId(device.id), None, actor="scene", reason="I erased it"
    )
    assert (await newcomer.row()).came_erased
    assert await offered(house, device, TokenKind.FILEVAULT_KEY) == []
    (record,) = await house.history(device.id, TokenKind.FILEVAULT_KEY)
    assert (record.state, record.cause) == (TokenState.RETIRED, "the device was erased")


@pytest.mark.parametrize(
    ("how", "drained"),
    [("silence", True), ("check-out", True), ("check-out", False)],
    ids=["silent, released", "left, released", "left, waiting"],
)
async def test_a_stranger_that_wins_unvouched_takes_no_recovery_key_out_of_force(
    house: House, how: str, *, drained: bool
) -> None:
    """Anybody can say that it waits in Setup Assistant; the disk of the true device still opens with its key."""
    device, stranger = await out_of_setup_assistant(house, drained=drained)
    house.clock.advance(minutes=1)
    if how == "silence":
        await house.pushed(device.id)
        house.clock.advance(days=2)
        await stranger.report()
    else:
        await device.send("CheckOut", Topic=device.topic)
    assert (await stranger.row()).standing is Standing.CURRENT
    assert await offered(house, device, TokenKind.FILEVAULT_KEY) == [VALUE]


async def out_of_setup_assistant(house: House, *, drained: bool) -> tuple[Device, Device]:
    """A device whose recovery key is held, and a newcomer under its name that says that it was erased."""
    device = await held(house, TokenKind.FILEVAULT_KEY)
    house.clock.advance(minutes=1)
    newcomer = device.with_certificate("somebody's")
    await enrolls(newcomer, AwaitingConfiguration=True)
    if drained:
        await newcomer.drain()
    return device, newcomer


async def test_a_device_that_enrolls_again_without_an_erase_is_not_taken_for_erased(
    house: House,
) -> None:
    """C after D: what it was given since it came out of Setup Assistant is not lost with the next enrollment."""
    mac = await erased(house, await house.enrolled(MAC))
    await mac.drain()
    now = house.clock.now()
    kind = TokenKind.FILEVAULT_KEY
    await escrow_values(house.storage.enrollments, house.sealer, mac.id, kind, [VALUE], now)
    await enrolled_again(house, mac)
    assert not (await mac.row()).came_erased
    assert await offered(house, mac, kind) == [VALUE]


_LOST_IN_AN_ERASE: Final = (TokenKind.FILEVAULT_KEY, TokenKind.LOCK_PIN)
_OUTLIVE_AN_ERASE: Final = (
    TokenKind.FIRMWARE_PASSWORD,
    TokenKind.BYPASS_DEVICE,
    TokenKind.BYPASS_SERVER,
)


@pytest.mark.case("ER-03")
@pytest.mark.parametrize(
    ("model", "token"), [(IPHONE, TokenKind.UNLOCK), (MAC, TokenKind.BOOTSTRAP)]
)
async def test_an_erase_takes_what_the_device_lost_and_nothing_else(
    house: House, model: Model, token: TokenKind
) -> None:
    """Handed out, and the device is back in Setup Assistant: what it lost is history, what outlives it is current."""
    device = await house.enrolled(model)
    if token is TokenKind.UNLOCK:
        await device.token_update(UnlockToken=VALUE)
    else:
        await device.set_bootstrap(VALUE)
    for kind in (*_LOST_IN_AN_ERASE, *_OUTLIVE_AN_ERASE):
        now = house.clock.now()
        await escrow_values(house.storage.enrollments, house.sealer, device.id, kind, [VALUE], now)
    await house.enqueue(device.id, "EraseDevice")
    command = await device.report()
    assert command is not None
    assert command["Command"]["RequestType"] == "EraseDevice"
    device = await erased(house, device)
    for kind in (token, *_LOST_IN_AN_ERASE):
        assert await offered(house, device, kind) == []
        assert VALUE in await house.generations(device.id, kind)
        assert (await house.history(device.id, kind))[-1].state is TokenState.RETIRED
    for kind in _OUTLIVE_AN_ERASE:
        assert await offered(house, device, kind) == [VALUE]
