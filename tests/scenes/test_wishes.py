"""What may be wished of each kind of secret: done where a command does it, refused in the words of the kind elsewhere."""

import pytest

from escrowed import escrow_values
from ostiary.domain.escrow_view import FOR_PEOPLE
from ostiary.domain.escrow_wishes import (
    ALLOWED,
    NAMES,
    CannotBeChanged,
    CannotBeVerified,
    UnlockedByNothing,
    Verb,
)
from ostiary.domain.token import TokenKind
from ostiary.errors import OstiaryError
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.secret import Secret
from ostiary.services.escrow import Wish
from ostiary.services.reveal import NotForPeople, NothingHeld
from scenes.house import INTEL_MAC, MAC, OPERATOR, Device, House

SENT = {
    (Verb.ROTATE, TokenKind.RECOVERY_LOCK): "SetRecoveryLock",
    (Verb.ROTATE, TokenKind.FIRMWARE_PASSWORD): "SetFirmwarePassword",
    (Verb.ROTATE, TokenKind.ADMIN_PASSWORD): "SetAutoAdminPassword",
    (Verb.ROTATE, TokenKind.FILEVAULT_KEY): "RotateFileVaultKey",
    (Verb.ROTATE, TokenKind.BYPASS_DEVICE): "ActivationLockBypassCode",
    (Verb.SET, TokenKind.RECOVERY_LOCK): "SetRecoveryLock",
    (Verb.SET, TokenKind.FIRMWARE_PASSWORD): "SetFirmwarePassword",
    (Verb.SET, TokenKind.ADMIN_PASSWORD): "SetAutoAdminPassword",
    (Verb.CLEAR, TokenKind.RECOVERY_LOCK): "SetRecoveryLock",
    (Verb.CLEAR, TokenKind.FIRMWARE_PASSWORD): "SetFirmwarePassword",
    (Verb.VERIFY, TokenKind.RECOVERY_LOCK): "VerifyRecoveryLock",
    (Verb.VERIFY, TokenKind.FIRMWARE_PASSWORD): "VerifyFirmwarePassword",
}
"""Source: escrowed-secrets.md 4.3 to 4.5, 4.8, 4.9."""
HELD = b"held-value-of-twenty-letters"


async def ready(house: House, kind: TokenKind) -> Device:
    """A Mac that could carry out whatever there is for this kind, and of which a value is held."""
    model = INTEL_MAC if kind is TokenKind.FIRMWARE_PASSWORD else MAC
    mac = await house.enrolled(model)
    uuid = await house.enqueue(mac.id, "DeviceInformation")
    await mac.report()
    told = {"AutoSetupAdminAccounts": [{"GUID": "G-1", "shortName": "admin"}]}
    await mac.report("Acknowledged", uuid, QueryResponses={"IsSupervised": True, **told})
    await mac.drain()
    if kind in FOR_PEOPLE:
        await escrow_values(
            house.storage.enrollments, house.sealer, mac.id, kind, [HELD], house.clock.now()
        )
    return mac


async def wish(house: House, mac: Device, verb: Verb, kind: TokenKind) -> None:
    name = EnrollmentId(mac.id)
    if verb is Verb.VERIFY:
        await house.escrow.verify(name, kind, OPERATOR)
        return
    value = Secret(b"chosen-by-a-person-24") if verb is Verb.SET else None
    wanted = Wish(enrollment_id=name, kind=kind, value=value, clears=verb is Verb.CLEAR)
    await house.escrow.change_or_defer(wanted, OPERATOR)


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("kind", TokenKind)
async def test_every_wish_is_carried_out_by_its_command_or_refused_by_the_name_of_its_kind(
    house: House, kind: TokenKind, verb: Verb
) -> None:
    """4.1 to 4.9: nothing is sent that was not wished, such as another password where one was to be taken away."""
    mac = await ready(house, kind)
    before = len(await house.history(mac.id, kind))
    if (expected := SENT.get((verb, kind))) is not None:
        assert kind in ALLOWED[verb]
        await wish(house, mac, verb, kind)
        command = await mac.report()
        assert command is not None
        assert command["Command"]["RequestType"] == expected
        return
    error = CannotBeVerified if verb is Verb.VERIFY else CannotBeChanged
    with pytest.raises(error) as refused:
        await wish(house, mac, verb, kind)
    assert NAMES[kind] in str(refused.value)
    assert await mac.report() is None
    assert len(await house.history(mac.id, kind)) == before


@pytest.mark.parametrize("kind", TokenKind)
async def test_a_reveal_is_refused_by_the_name_of_its_kind_too(
    house: House, kind: TokenKind
) -> None:
    """Whether it is of no use to people, or nothing of it is held."""
    mac = await house.enrolled(MAC)
    error: type[OstiaryError] = NothingHeld if kind in FOR_PEOPLE else NotForPeople
    with pytest.raises(error) as refused:
        await house.reveals.reveal(EnrollmentId(mac.id), kind, OPERATOR, reason="ticket 4711")
    assert NAMES[kind] in str(refused.value)


@pytest.mark.parametrize("kind", sorted(ALLOWED[Verb.ROTATE] - {TokenKind.FILEVAULT_KEY}))
async def test_a_user_s_password_that_would_be_of_no_use_is_refused(
    house: House, kind: TokenKind
) -> None:
    """4.3: it unlocks FileVault alone. Somebody who typed it should know that nobody looked at it."""
    mac = await ready(house, kind)
    wanted = Wish(enrollment_id=EnrollmentId(mac.id), kind=kind, unlock_with=Secret(b"users"))
    with pytest.raises(UnlockedByNothing):
        await house.escrow.change(wanted, OPERATOR)
    assert await mac.report() is None
