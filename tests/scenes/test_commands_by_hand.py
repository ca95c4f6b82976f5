"""Commands that somebody wrote by hand, through the door of programs: no way past the vault, none to a secret."""

from functools import partial
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from ostiary.domain.command import Reference
from ostiary.domain.decision import Ask, ByName, Change, Snapshot
from ostiary.domain.enqueueing import Order, Queued, apply_order
from ostiary.domain.first_commands import STANDARD_PAYLOAD
from ostiary.domain.token import DEFAULT_TENANT, TokenKind
from ostiary.errors import Malformed
from ostiary.formats import plist
from ostiary.protocol.mdm.connect import CommandUuid
from ostiary.protocol.mdm.given_secrets import GivenSecretUnreadable
from ostiary.protocol.mdm.identity import EnrollmentId
from ostiary.protocol.mdm.written_commands import PasswordNotKnownHere
from ostiary.services.caller import Caller, Scope
from ostiary.services.commands import Enqueued
from scenes.house import MAC, OPERATOR, Device, House, Model

NEW_IPAD = Model("iPad13,1", "26.1", unlock=False)
V = b"the bootstrap token"
GUID = "5B1C8C4F-0000-4000-8000-00000000ADM1"
CLERK = Caller(name="clerk", tenant=DEFAULT_TENANT, scopes=frozenset({Scope.COMMANDS}))
MARKER = b"\xff\xfeMarker-of-a-secret"


async def by_plist(
    house: House, target: str, command: dict[str, Any], caller: Caller = OPERATOR
) -> Enqueued:
    """As /v1/enqueue asks."""
    body = plist.encode({"Command": command})
    return await house.desk.enqueue_raw([EnrollmentId(target)], body, caller, pushes=False)


async def with_account(house: House) -> Device:
    """A Mac whose administrator account was made here, and whose GUID is known."""
    house.set_policy(admin_account="admin")
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    await mac.drain()
    uuid = await house.enqueue(mac.id, "DeviceInformation")
    await mac.report()
    told = {"AutoSetupAdminAccounts": [{"GUID": GUID, "shortName": "admin"}]}
    await mac.report("Acknowledged", uuid, QueryResponses=told)
    return mac


async def test_a_password_is_not_changed_behind_the_vault_s_back(house: House) -> None:
    """escrowed-secrets.md 4.0.3 row 2, 4.8: two Sets would be out, and the one that is shown would not be in force."""
    mac = await with_account(house)
    await house.change(mac.id, TokenKind.ADMIN_PASSWORD)
    before = await house.believed(mac.id, TokenKind.ADMIN_PASSWORD)
    command = {"RequestType": "SetAutoAdminPassword", "GUID": GUID, "passwordHash": b"foreign"}
    with pytest.raises(PasswordNotKnownHere, match="hash") as refused:
        await by_plist(house, mac.id, command)
    assert "ostiary token set ID admin-password" in refused.value.hint
    assert await mac.drain() == ["SetAutoAdminPassword"], "ours, and no other"
    assert await house.believed(mac.id, TokenKind.ADMIN_PASSWORD) == before[1:]


async def test_an_account_is_not_made_with_a_password_that_nobody_here_knows(house: House) -> None:
    """4.8: the vault holds the password; without a hash one is drawn for this Mac, and kept."""
    mac = house.device(MAC)
    await mac.authenticate()
    await mac.token_update(AwaitingConfiguration=True)
    command: dict[str, Any] = {"RequestType": "AccountConfiguration"}
    named: dict[str, Any] = {"shortName": "it"}
    foreign = command | {"AutoSetupAdminAccounts": [named | {"passwordHash": b"foreign"}]}
    with pytest.raises(PasswordNotKnownHere):
        await by_plist(house, mac.id, foreign)
    assert await house.history(mac.id, TokenKind.ADMIN_PASSWORD) == []
    done = await by_plist(house, mac.id, command | {"AutoSetupAdminAccounts": [named]})
    assert set(done.refused.values()) == {None}
    assert len(await house.believed(mac.id, TokenKind.ADMIN_PASSWORD)) == 1


@pytest.mark.parametrize("on", ["", ":user-1"], ids=["device", "user"])
async def test_a_bootstrap_token_goes_out_with_an_erase_alone(house: House, on: str) -> None:
    """4.7 rule 8: the same keys in another command mean nothing, whoever may send it, on whatever channel."""
    ipad = await house.enrolled(NEW_IPAD)
    await ipad.set_bootstrap(V)
    user = {"UserID": "user-1", "UserShortName": "jo"}
    await ipad.token_update(**user)
    wish = {"Enabled": True, "BootstrapToken": b""}
    command = {"RequestType": "DeviceInformation", "Queries": ["UDID"], "ReturnToService": wish}
    await by_plist(house, ipad.id + on, command, CLERK)
    handed_out = await ipad.report("Idle", **(user if on else {}))
    assert handed_out is not None
    assert handed_out["Command"] == command


async def test_no_user_of_a_device_is_told_what_the_device_keeps(house: House) -> None:
    """4.0.1: these are the device's. Should a reference ever stand in a user's queue, nothing fills it."""
    ipad = await house.enrolled(NEW_IPAD)
    await ipad.set_bootstrap(V)
    user = {"UserID": "user-1", "UserShortName": "jo"}
    await ipad.token_update(**user)
    target = EnrollmentId(f"{ipad.id}:user-1")
    may_go_without, needs_it = (str(uuid5(NAMESPACE_URL, name)).upper() for name in ("a", "b"))
    for uuid, optional in ((may_go_without, True), (needs_it, False)):
        token = Reference(key="Token", kind=TokenKind.BOOTSTRAP, optional=optional)
        order = Order(
            uuid=CommandUuid(uuid),
            request_type="UserConfigured",
            payload=STANDARD_PAYLOAD,
            source="scene",
            pushes=False,
            references=(token,),
            now=house.clock.now(),
        )
        ask = Ask(who=ByName(tenant=DEFAULT_TENANT, enrollment_id=target))
        await house.storage.enrollments.decide(ask, partial(queued, target, order))
    handed_out = await ipad.report("Idle", **user)
    assert handed_out is not None
    assert handed_out["CommandUUID"] == may_go_without
    assert handed_out["Command"] == {"RequestType": "UserConfigured"}
    assert await ipad.report("Acknowledged", may_go_without, **user) is None
    assert ("UserConfigured", "cancelled") in await house.queue(target)


def queued(target: EnrollmentId, order: Order, seen: Snapshot) -> Change[Queued]:
    return apply_order(seen, target, order)


@pytest.mark.parametrize(
    "command",
    [
        {"RequestType": "SetRecoveryLock", "NewPassword": "abcdefgh12", "CurrentPassword": MARKER},
        {"RequestType": "SetRecoveryLock", "NewPassword": MARKER},
        {"RequestType": "VerifyRecoveryLock", "Password": MARKER},
        {"RequestType": "RotateFileVaultKey", "FileVaultUnlock": {"Password": MARKER}},
        {"RequestType": "DeviceLock", "PIN": MARKER},
    ],
    ids="-".join,
)
async def test_a_secret_that_is_no_text_is_told_without_it(
    house: House, command: dict[str, Any]
) -> None:
    """Not by the value, nor by an error beside it: Python's own carries what it could not decode."""
    mac = await house.enrolled(MAC)
    with pytest.raises(Malformed) as refused:
        await by_plist(house, mac.id, command)
    assert "Marker" not in f"{refused.value!r} {refused.value} {refused.value.facts}"
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    assert await mac.report() is None


async def test_a_password_written_as_data_is_a_password(house: House) -> None:
    """As it was; only what is no text at all is refused."""
    mac = await house.enrolled(MAC)
    await by_plist(house, mac.id, {"RequestType": "VerifyRecoveryLock", "Password": b"a guess"})
    handed_out = await mac.report()
    assert handed_out is not None
    assert handed_out["Command"]["Password"] == "a guess"
    with pytest.raises(GivenSecretUnreadable):
        await by_plist(house, mac.id, {"RequestType": "VerifyRecoveryLock", "Password": 7})
